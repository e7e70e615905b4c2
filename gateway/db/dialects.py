"""Statements that each database engine words in its own way, in one place."""

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection


def insert_unless_taken(connection: AsyncConnection, table: Table) -> "postgresql.Insert | sqlite.Insert":
    """Make an INSERT that does nothing where a unique column has the value already; ask it for RETURNING to find out.

    On PostgreSQL a statement that violates a constraint would end the whole transaction.
    """
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    return insert(table).on_conflict_do_nothing()
