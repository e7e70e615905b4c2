"""How SQLite does the statements of a connection."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncConnection


@contextmanager
def plans_of(connection: AsyncConnection) -> Iterator[list[str]]:
    """The steps of the plans of all statements within the block; none on another engine."""
    plans: list[str] = []

    def explain(connection: Connection, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        if connection.dialect.name == "sqlite" and not statement.startswith("EXPLAIN"):
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(row.detail for row in rows)

    event.listen(connection.sync_connection, "before_cursor_execute", explain)
    yield plans
    event.remove(connection.sync_connection, "before_cursor_execute", explain)
