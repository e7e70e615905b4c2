"""Windows: parts of sorted lists as REST APIs cut them, by an offset or after a value."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

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


def cut(query: "Select[Any]", column: "ColumnElement[Any] | Column[Any]", window: ListWindow) -> "Select[Any]":
    """Cut a window out of the rows of a query, sorted by a column whose values are unique."""
    if window.after is not None:
        query = query.where(column < window.after if window.descending else column > window.after)
    ordered = query.order_by(column.desc() if window.descending else column)
    return ordered.limit(window.limit).offset(window.offset or None)


def holds(column: "Column[str]", search: str) -> ColumnElement[bool]:
    """Whether a text holds another one, in capitals or not."""
    return func.lower(column).contains(search.lower(), autoescape=True)


async def count(connection: AsyncConnection, query: "Select[Any]") -> int:
    """Count the rows of a query, as far as COUNTED and one more."""
    some = query.order_by(None).limit(COUNTED + 1).subquery()
    return int(await connection.scalar(select(func.count()).select_from(some)) or 0)
