"""Windows: parts of sorted lists as REST APIs cut them, by an offset or after a value."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar

from sqlalchemy import Column, ColumnElement, Row, Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db.dialects import FoldedForLike

T = TypeVar("T")

COUNTED = 10_000
"""Rows of a list that are counted; of a longer one it is only known that it is longer (GitLab's API counts as many)."""


@dataclass(frozen=True, slots=True)
class ListWindow:
    """A part of a list: `limit` rows after so many others, or after the value of a row.

    `search`: rows whose name holds this text, in capitals or not; empty for all.
    """

    limit: int
    offset: int = 0
    after: str | int | None = None
    descending: bool = False
    search: str = ""


@dataclass(frozen=True, slots=True)
class ListPart(Generic[T]):
    """A part of a list. `more`: whether rows come after it. `total`: how many rows the list has; None where that was
    not asked, or where they are more than are counted."""

    rows: Sequence[T]
    more: bool
    total: int | None = None


async def read_part(
    connection: AsyncConnection,
    rows: Callable[[AsyncConnection, ListWindow], Awaitable[Sequence[T]]],
    total: Callable[[AsyncConnection], Awaitable[int]],
    window: ListWindow,
    *,
    counted: bool,
    rest: Callable[[AsyncConnection, T], Awaitable[int]] | None = None,
) -> ListPart[T]:
    """Read a part of a list, and one row more to know whether there are more. `counted`: whether the total is wanted;
    `rows`, `total`: read the rows of a window, and count all; `rest`: counts those after a row.

    Rows are counted only where those that were read leave their number open, and with `rest` from the last one on: a
    search that looks at every row looks at each once.
    """
    found = await rows(connection, replace(window, limit=window.limit + 1))
    more = len(found) > window.limit
    number: int | None = None
    if counted:
        number = window.offset + len(found)
        if window.after is not None or (window.offset and not found):
            number = await total(connection)
        elif more and number <= COUNTED:
            number = await total(connection) if rest is None else number + await rest(connection, found[-1])
    known = number if number is not None and number <= COUNTED else None
    return ListPart(found[: window.limit], more, known)


def cut(query: "Select[Any]", column: "ColumnElement[Any] | Column[Any]", window: ListWindow) -> "Select[Any]":
    """Cut a window out of the rows of a query, sorted by a column whose values are unique."""
    return in_order(query, column, window).limit(window.limit).offset(window.offset or None)


def in_order(query: "Select[Any]", column: "ColumnElement[Any] | Column[Any]", window: ListWindow) -> "Select[Any]":
    """Sort the rows of a query by a column whose values are unique, from the value on after which the window begins."""
    if window.after is not None:
        query = query.where(column < window.after if window.descending else column > window.after)
    return query.order_by(column.desc() if window.descending else column)


def holds(column: "Column[str]", search: str) -> ColumnElement[bool]:
    """Whether a text holds another one, in capitals or not."""
    lower = search.lower()
    folded = column if lower == search.upper() else FoldedForLike(column)
    return folded.contains(lower, autoescape=True)


async def count(connection: AsyncConnection, query: "Select[Any]") -> int:
    """Count the rows of a query, as far as COUNTED and one more."""
    some = query.order_by(None).limit(COUNTED + 1).subquery()
    return int(await connection.scalar(select(func.count()).select_from(some)) or 0)


async def read_rows(
    connection: AsyncConnection,
    query: "Select[Any]",
    window: ListWindow,
    make: "Callable[[Row[Any]], T]",
    *,
    counted: bool,
) -> ListPart[T]:
    """Read a part of the rows of a query, which are in their order, as `read_part` does. `make`: makes an entry of a
    row."""

    async def rows(connection: AsyncConnection, window: ListWindow) -> list[T]:
        found = await connection.execute(query.limit(window.limit).offset(window.offset or None))
        return [make(row) for row in found]

    return await read_part(connection, rows, partial(count, query=query), window, counted=counted)
