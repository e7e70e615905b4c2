"""TenantLists: what is cached of the images that a tenant has pulled, from the index and the usage file together.

A digest that a listed tag leads to is not listed beside it: clients resolve a tag, and then request digests.
"""

import sqlite3
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

from cache.index.images import source_of
from cache.oci.digest import Digest
from cache.oci.names import RepositoryName, Tag
from cache.sqlite import explained
from cache.values import ImageKey, Source

Cursor = tuple[str | float, ...]
"""The values of a row by which the next one follows it."""

_FROM = """
    FROM usage.tenant_pulls AS p
    JOIN images AS i ON i.origin = p.origin AND i.credential = p.credential AND i.name = p.image
    LEFT JOIN pointers AS t ON t.image_id = i.id AND t.tag = p.reference
    WHERE p.tenant = :tenant AND p.origin || '#' || p.credential IN ({sources})
    AND EXISTS (SELECT 1 FROM links WHERE image_id = i.id AND links.digest = coalesce(t.digest, p.reference))
    AND (t.digest IS NOT NULL OR NOT EXISTS (
        SELECT 1 FROM pointers AS o
        JOIN usage.tenant_pulls AS q ON q.tenant = p.tenant AND q.origin = p.origin
            AND q.credential = p.credential AND q.image = p.image AND q.reference = o.tag
        WHERE o.image_id = i.id AND (o.digest = p.reference OR EXISTS (
            SELECT 1 FROM parents WHERE parents.digest = p.reference AND parents.parent = o.digest))))
"""
_COLUMNS = (
    "p.origin, p.credential, p.image, p.reference, t.digest, p.first_pull, p.last_pull, p.pulls, p.hits, p.outcome"
)
_TIE = "p.image, p.reference, p.origin, p.credential"
_SEARCH = "AND instr(p.image || CASE WHEN t.digest IS NULL THEN '@' ELSE ':' END || p.reference, :search) > 0"
_TOTALS = """
    WITH own AS (SELECT DISTINCT i.id AS image_id {rows}),
    held AS (SELECT DISTINCT links.digest FROM links JOIN own ON own.image_id = links.image_id)
    SELECT
        (SELECT count(*) FROM blobs JOIN held ON held.digest = blobs.digest),
        (SELECT coalesce(sum(size), 0) FROM blobs JOIN held ON held.digest = blobs.digest)
        + (SELECT coalesce(sum(length(raw)), 0) FROM manifests JOIN held ON held.digest = manifests.digest)
"""
_BLOBS = """
    SELECT links.digest, blobs.size, min(own.first_pull), max(own.last_pull)
    FROM (SELECT i.id AS image_id, min(p.first_pull) AS first_pull, max(p.last_pull) AS last_pull {rows} GROUP BY i.id)
        AS own
    JOIN links ON links.image_id = own.image_id JOIN blobs ON blobs.digest = links.digest
    WHERE links.digest {comparison} :after GROUP BY links.digest ORDER BY links.digest {direction} LIMIT :limit
"""
_ABSENT = """
    SELECT p.tenant, p.origin, p.credential, p.image FROM usage.tenant_pulls AS p
    WHERE NOT EXISTS (
        SELECT 1 FROM images AS i JOIN links ON links.image_id = i.id
        WHERE i.origin = p.origin AND i.credential = p.credential AND i.name = p.image)
    GROUP BY p.tenant, p.origin, p.credential, p.image HAVING max(p.last_pull) < :before
    LIMIT :count
"""


class TenantOrder(Enum):
    """What a list is sorted by, as a column."""

    NAME = ""
    LAST_PULL = "p.last_pull"
    FIRST_PULL = "p.first_pull"
    PULLS = "p.pulls"


@dataclass(frozen=True, slots=True)
class TenantWindow:
    """A part of a list: `limit` rows after so many others, or after a cursor. `search`: a part of the names."""

    limit: int
    offset: int = 0
    after: Cursor | None = None
    order: TenantOrder = TenantOrder.NAME
    descending: bool = False
    search: str = ""


@dataclass(frozen=True, slots=True)
class CachedReference:
    """A tag or digest that a tenant has pulled, and whose manifest is cached.

    `digest`: of the manifest. `pulls`: requests for it, and `hits` those that cost the upstream nothing. `outcome`: of
    the last one, as X-Cache has it.
    """

    image: ImageKey
    digest: Digest
    first_pull: datetime
    last_pull: datetime
    pulls: int
    hits: int
    outcome: str


@dataclass(frozen=True, slots=True)
class CachedBlob:
    """A blob that is cached for images of a tenant, with their first and their last pull. `size`: bytes."""

    digest: Digest
    size: int
    first_pull: datetime
    last_pull: datetime


@dataclass(frozen=True, slots=True)
class TenantTotals:
    """Content that is cached for the images that a tenant has pulled: blobs, and the bytes of them and of manifests."""

    blobs: int
    bytes: int


class TenantLists:
    """Reads the index and the usage file at one moment. All methods block, and raise DatabaseUnusable."""

    def __init__(self, index: Path, usage: Path) -> None:
        """The files; that of the index must exist."""
        self._index = index
        self._usage = usage

    def page(self, tenant: int, sources: Collection[Source], window: TenantWindow) -> list[CachedReference]:
        """A part of what is cached for a tenant by these sources."""
        columns = ", ".join(filter(None, (window.order.value, _TIE)))
        values: dict[str, Any] = {"tenant": tenant, "search": window.search.lower()}
        statement = f"SELECT {_COLUMNS} {_rows(sources, values, window.search)}"
        if window.after is not None:
            names = [f"after{number}" for number in range(len(window.after))]
            values |= dict(zip(names, window.after, strict=True))
            marks = ", ".join(f":{name}" for name in names)
            statement += f" AND ({columns}) {'<' if window.descending else '>'} ({marks})"
        direction = " DESC" if window.descending else ""
        ordered = ", ".join(f"{column}{direction}" for column in columns.split(", "))
        statement += f" ORDER BY {ordered} LIMIT {int(window.limit)} OFFSET {int(window.offset)}"
        return [_to_cached(*row) for row in self._select(statement, values)]

    def find(self, tenant: int, image: ImageKey) -> CachedReference | None:
        """Find what is cached for a tenant of one tag or digest."""
        values: dict[str, Any] = {"tenant": tenant, "image": image.name.text, "reference": str(image.reference)}
        one = f"{_rows([image.source], values, '')} AND p.image = :image AND p.reference = :reference"
        return next((_to_cached(*row) for row in self._select(f"SELECT {_COLUMNS} {one}", values)), None)

    def count(self, tenant: int, sources: Collection[Source], search: str, limit: int) -> int:
        """Count what is cached for a tenant by these sources, up to a limit."""
        values: dict[str, Any] = {"tenant": tenant, "search": search.lower()}
        rows = f"SELECT 1 {_rows(sources, values, search)} LIMIT {int(limit)}"
        return sum(count for (count,) in self._select(f"SELECT count(*) FROM ({rows})", values))

    def totals(self, tenant: int, sources: Collection[Source]) -> TenantTotals:
        """Sum up the content of the images that a tenant has pulled by these sources, each blob once."""
        values: dict[str, Any] = {"tenant": tenant}
        statement = _TOTALS.format(rows=_rows(sources, values, ""))
        [[blobs, size]] = self._select(statement, values) or [[0, 0]]
        return TenantTotals(int(blobs), int(size))

    def blobs(
        self, tenant: int, sources: Collection[Source], limit: int, after: str, *, descending: bool
    ) -> list[CachedBlob]:
        """Some of the blobs that are cached for the images of a tenant, by their digests. `after`: the one after which
        they begin; empty for the beginning."""
        values: dict[str, Any] = {"tenant": tenant, "limit": limit, "after": after or ("~" if descending else "")}
        statement = _BLOBS.format(
            rows=_rows(sources, values, ""),
            comparison="<" if descending else ">",
            direction="DESC" if descending else "ASC",
        )
        return [_to_blob(*row) for row in self._select(statement, values)]

    def absent(self, before: float, count: int) -> list[tuple[int, ImageKey]]:
        """Some of the images of which nothing is cached any more, with the tenants that have not pulled them since."""
        found = self._select(_ABSENT, {"before": before, "count": count})
        return [(row[0], ImageKey(source_of(*row[1:3]), RepositoryName(row[3]))) for row in found]

    def _select(self, statement: str, values: dict[str, Any]) -> Sequence[Any]:
        """The rows of a query; none before anything was pulled."""
        if not self._usage.exists():
            return []
        index, usage = (f"{path.absolute().as_uri()}?mode=rw" for path in (self._index, self._usage))
        with explained(self._index), closing(sqlite3.connect(index, uri=True, timeout=5)) as connection:
            connection.execute("ATTACH DATABASE ? AS usage", (usage,))
            if not connection.execute("SELECT 1 FROM usage.sqlite_master WHERE name = 'tenant_pulls'").fetchall():
                return []
            return connection.execute(statement, values).fetchall()


def cursor_of(row: CachedReference, order: TenantOrder) -> Cursor:
    """The values by which the row after this one is found."""
    ordered: tuple[str | float, ...] = {
        TenantOrder.NAME: (),
        TenantOrder.LAST_PULL: (row.last_pull.timestamp(),),
        TenantOrder.FIRST_PULL: (row.first_pull.timestamp(),),
        TenantOrder.PULLS: (row.pulls,),
    }[order]
    source = row.image.source
    return (*ordered, row.image.name.text, str(row.image.reference), str(source.registry), str(source.credential))


def _rows(sources: Collection[Source], values: dict[str, Any], search: str) -> str:
    """The rows of a list, without an order; what the statement needs is added to the values."""
    names = [f"source{number}" for number in range(len(sources))]
    keys = (f"{source.registry}#{source.credential}" for source in sources)
    values |= dict(zip(names, keys, strict=True))
    return _FROM.format(sources=", ".join(f":{name}" for name in names)) + (_SEARCH if search else "")


def _to_cached(
    origin: str,
    credential: str,
    image: str,
    reference: str,
    target: str | None,
    first_pull: float,
    last_pull: float,
    pulls: int,
    hits: int,
    outcome: str,
) -> CachedReference:
    named = Digest.parse(reference) if target is None else Tag(reference)
    return CachedReference(
        ImageKey(source_of(origin, credential), RepositoryName(image), named),
        Digest.parse(target or reference),
        datetime.fromtimestamp(first_pull, UTC),
        datetime.fromtimestamp(last_pull, UTC),
        pulls,
        hits,
        outcome,
    )


def _to_blob(digest: str, size: int, first_pull: float, last_pull: float) -> CachedBlob:
    pulls = (datetime.fromtimestamp(seconds, UTC) for seconds in (first_pull, last_pull))
    return CachedBlob(Digest.parse(digest), size, *pulls)
