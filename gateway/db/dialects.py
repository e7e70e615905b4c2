"""Statements that each database engine words in its own way, in one place."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, String, Table, Text, and_, any_, func, literal, select, text, type_coerce
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

POSTGRESQL = "postgresql"

CHANNEL = "registry_gateway_changes"
"""Channel of PostgreSQL on which a commit with changes is announced."""


def insert_unless_taken(dialect: str, table: Table) -> "postgresql.Insert | sqlite.Insert":
    """Make an INSERT that does nothing where a unique column has the value already; ask it for RETURNING to find out.

    On PostgreSQL a statement that violates a constraint would end the whole transaction.
    """
    insert = postgresql.insert if dialect == POSTGRESQL else sqlite.insert
    return insert(table).on_conflict_do_nothing()


def insert_or_correct(
    dialect: str, table: Table, key: "Column[Any]", corrected: "Column[Any]"
) -> "postgresql.Insert | sqlite.Insert":
    """Make an INSERT that, where a row has the key already, corrects one column of it; ask it for RETURNING to find out
    whether it changed anything."""
    insert = (postgresql.insert if dialect == POSTGRESQL else sqlite.insert)(table)
    new = insert.excluded[corrected.name]
    return insert.on_conflict_do_update(index_elements=[key], set_={corrected.name: new}, where=corrected != new)


def insert_or_renew(
    dialect: str, table: Table, keys: "Sequence[Column[Any]]", renewed: "Sequence[Column[Any]]"
) -> "postgresql.Insert | sqlite.Insert":
    """Make an INSERT that, where a row has the keys already, gives some columns of it the new values. A SELECT that it
    inserts from needs a WHERE, as SQLite reads it."""
    insert = (postgresql.insert if dialect == POSTGRESQL else sqlite.insert)(table)
    values = {column.name: insert.excluded[column.name] for column in renewed}
    return insert.on_conflict_do_update(index_elements=list(keys), set_=values)


def unindexed(column: "Column[str]") -> ColumnElement[str]:
    """A column of texts as an expression that no index serves, for what must take as long whatever lies in between."""
    return type_coerce(column.concat(""), column.type)


class FoldedForLike(FunctionElement[str]):
    """A column of texts in lower case, for LIKE with a pattern in lower case.

    On SQLite it is the column itself: LIKE ignores the case of ASCII letters there, and to fold each row first would
    take a search twice as long.
    """

    inherit_cache = True

    def __init__(self, column: "Column[str]") -> None:
        self.type = column.type
        super().__init__(column)


@compiles(FoldedForLike)
def _fold(element: FoldedForLike, compiler: SQLCompiler, **options: Any) -> str:
    return f"lower({compiler.process(element.clauses, **options)})"


@compiles(FoldedForLike, "sqlite")
def _leave(element: FoldedForLike, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.clauses, **options)


def among(dialect: str, column: "Column[str]", values: Sequence[str]) -> ColumnElement[bool]:
    """Whether a text is among some that were read from the database, which are one value of the statement.

    A list of hundreds, in each of several statements, takes longer to bind than to look up. PostgreSQL is told between
    which two they lie, too: for so many values alone it reads the whole table, where an index finds neighbours.
    """
    if dialect == POSTGRESQL:
        listed_there = column == any_(literal(list(values), postgresql.ARRAY(Text)))
        return and_(listed_there, column.between(min(values), max(values))) if values else listed_there
    listed = func.json_each(literal(json.dumps(values), String)).table_valued("value")
    return column.in_(select(type_coerce(listed.c.value, String)))


async def notify_readers(connection: AsyncConnection) -> None:
    """Tell processes that follow the log of changes of this transaction when it commits.

    SQLite tells them of each commit by itself.
    """
    if connection.dialect.name == POSTGRESQL:
        await connection.execute(text("SELECT pg_notify(:channel, '')"), {"channel": CHANNEL})
