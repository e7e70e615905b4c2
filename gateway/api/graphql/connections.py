"""Connections: pages of lists, as GraphQL clients request them by cursors in both directions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from graphql import GraphQLError

T = TypeVar("T")

MOST_NODES = 100
"""Entries of a page, also where none is said (GitLab)."""


@dataclass(frozen=True, slots=True)
class PageWanted:
    """The page that is wanted. `cursor`: the entry after which, or with `backward` before which, it lies."""

    limit: int
    cursor: str | None
    backward: bool

    @classmethod
    def of(cls, first: int | None, last: int | None, after: str | None, before: str | None) -> "PageWanted":
        """Read the arguments of a connection. Raises GraphQLError."""
        if (first is not None and (last is not None or before)) or (last is not None and after) or (after and before):
            raise GraphQLError("give first and after, or last and before")
        size = last if last is not None else first
        if size is not None and size < 0:
            raise GraphQLError("first and last are not negative")
        limit = MOST_NODES if size is None else min(size, MOST_NODES)
        backward = last is not None or bool(before)
        return cls(limit, (before if backward else after) or None, backward)


@dataclass(frozen=True, slots=True)
class PageInfo:
    """Where a page lies. The names are those of the schema."""

    startCursor: str | None
    endCursor: str | None
    hasPreviousPage: bool
    hasNextPage: bool


@dataclass(frozen=True, slots=True)
class Edge(Generic[T]):
    """An entry with its cursor."""

    cursor: str
    node: T


@dataclass(frozen=True, slots=True)
class Connection(Generic[T]):
    """A page of a list."""

    edges: Sequence[Edge[T]]
    pageInfo: PageInfo

    @property
    def nodes(self) -> list[T]:
        """The entries without their cursors."""
        return [edge.node for edge in self.edges]


def connect(
    wanted: PageWanted, rows: Sequence[T], node: Callable[[T], object], cursor: Callable[[T], str]
) -> Connection[object]:
    """Make the page of rows that were read in its direction, with one more than it holds if there are more."""
    shown = list(rows[: wanted.limit])
    more, left = len(rows) > wanted.limit, wanted.cursor is not None
    if wanted.backward:
        shown.reverse()
    edges = [Edge(cursor(row), node(row)) for row in shown]
    before, after = (more, left) if wanted.backward else (left, more)
    start, end = (edges[0].cursor, edges[-1].cursor) if edges else (None, None)
    return Connection(edges, PageInfo(start, end, before, after))
