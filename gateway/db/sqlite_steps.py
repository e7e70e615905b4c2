"""Steps of a transaction of an SQLite file that one thread does without a pause.

An asynchronous connection hands each step of each statement to a thread and back, which takes ten times as long as the
statement. Work whose steps are all known is therefore done whole by the thread that has it.
"""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from cache.prepared import SqlitePreparation, is_prepared

T = TypeVar("T")
Work = Callable[[AsyncConnection], Coroutine[Any, Any, T]]
"""Statements of one transaction, in their order. It waits for nothing else, and may be done again after a rollback."""


def steps_of(connection: Connection) -> AsyncConnection:
    """All that queries use of an AsyncConnection, on a connection of this thread."""
    return cast(AsyncConnection, _Steps(connection))


class _Steps:
    """The methods of an AsyncConnection that queries use; the thread that calls them does the work at once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._preparation = SqlitePreparation(connection)
        self.dialect = connection.dialect

    async def execute(self, statement: Any, parameters: Any = None) -> Any:
        if is_prepared(statement):
            return self._preparation.execute(statement, parameters)
        return self._connection.execute(statement, parameters)

    async def scalar(self, statement: Any, parameters: Any = None) -> Any:
        return self._connection.scalar(statement, parameters)

    async def scalars(self, statement: Any, parameters: Any = None) -> Any:
        return self._connection.scalars(statement, parameters)


def complete(steps: Coroutine[Any, Any, T]) -> T:
    """Run steps of which none waits. Raises what they raise."""
    try:
        steps.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    steps.close()
    raise RuntimeError("a transaction waited for something else than its statements")
