"""TenantUsage: which images each of those who share the cache has pulled, and what was served to it by the day.

A tenant is a number that the caller gives. Content is shared by all whom its source serves, so what is one tenant's
can only be told from what it pulled. Pulls are collected in memory and written periodically, to the file of `usage`. If
that is lost, earlier pulls are unknown: nothing of a tenant's is then evicted on its request, and nothing of others.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cache.index.images import source_of
from cache.index.usage import PullCount
from cache.oci.names import RepositoryName
from cache.sqlite import alone, create, explained
from cache.values import FREE_OUTCOMES, ImageKey, Source

DAYS_KEPT = 400
"""Days of which it is known what was served."""

FORGOTTEN_SECONDS = 400 * 24 * 3600.0
"""Seconds after the last pull until it is forgotten that there was one."""

MAX_PENDING = 20_000
"""References in memory that are not written yet; pulls of more are not recorded until the next flush."""

_PULLED = """
    CREATE TABLE IF NOT EXISTS tenant_pulls (
        tenant INTEGER, origin TEXT, credential TEXT, image TEXT, reference TEXT,
        first_pull REAL, last_pull REAL, pulls INTEGER, hits INTEGER, outcome TEXT,
        PRIMARY KEY (tenant, origin, credential, image, reference)
    ) WITHOUT ROWID
"""
_BY_IMAGE = "CREATE INDEX IF NOT EXISTS ix_tenant_pulls_image ON tenant_pulls (image, origin, credential, tenant)"
_SERVED = """
    CREATE TABLE IF NOT EXISTS tenant_days (
        day TEXT, tenant INTEGER, upstream TEXT, kind TEXT, outcome TEXT, pulls INTEGER, bytes INTEGER,
        PRIMARY KEY (tenant, day, upstream, kind, outcome)
    ) WITHOUT ROWID
"""
_OF_TENANTS = ("tenant_pulls", "tenant_days")
_TABLES = (_PULLED, _BY_IMAGE, _SERVED)
# A pull of the future was noted by a wrong clock.
_ADD_PULL = """
    INSERT INTO tenant_pulls
    VALUES (:tenant, :origin, :credential, :image, :reference, :first, :last, :pulls, :hits, :outcome)
    ON CONFLICT DO UPDATE SET last_pull = max(min(last_pull, :now), excluded.last_pull),
    pulls = pulls + excluded.pulls, hits = hits + excluded.hits, outcome = excluded.outcome
"""
_ADD_DAY = """
    INSERT INTO tenant_days VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT
    DO UPDATE SET pulls = pulls + excluded.pulls, bytes = bytes + excluded.bytes
"""
# By the count of days, so that a clock that is wrong for a moment deletes no history.
_FORGET_DAYS = f"""
    DELETE FROM tenant_days WHERE day > date(:now, 'unixepoch', '+1 day')
    OR day < (SELECT min(day) FROM (SELECT DISTINCT day FROM tenant_days ORDER BY day DESC LIMIT {DAYS_KEPT}))
"""
_FORGET_PULLS = "DELETE FROM tenant_pulls WHERE last_pull < :before"
_OF_IMAGE = "origin = ? AND credential = ? AND image = ?"
_SWEEP_SECONDS = 3600.0

_Key = tuple[int, Source, RepositoryName, str]


@dataclass(slots=True)
class _Pulls:
    first: float
    last: float
    pulls: int
    hits: int
    outcome: str


@dataclass(frozen=True, slots=True)
class PulledReference:
    """A tag or digest of an image, as text, that a tenant has pulled. Times are seconds since 1970."""

    image: ImageKey
    reference: str
    first_pull: float
    last_pull: float


class TenantUsage:
    """Pulls of tenants in the usage file, collected in memory until they are written. Notes are taken from any thread;
    reading methods block, see what is written, and raise DatabaseUnusable."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """`path`: of the usage file. `clock`: seconds since 1970."""
        self.path = path
        self._clock = clock
        self._pulls: dict[_Key, _Pulls] = {}
        self._days: dict[tuple[int, str, str, str, str], tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._sweep_at = 0.0

    def note_pull(
        self, tenant: int, source: Source, image: RepositoryName, reference: str, outcome: str, now: datetime
    ) -> None:
        """Note a request for a manifest that was answered. `outcome`: as X-Cache has it."""
        key, at, is_free = (tenant, source, image, reference), now.timestamp(), outcome in FREE_OUTCOMES
        with self._lock:
            known = self._pulls.get(key)
            if known is not None:
                known.last, known.outcome = at, outcome
                known.pulls += 1
                known.hits += is_free
            elif len(self._pulls) < MAX_PENDING:
                self._pulls[key] = _Pulls(at, at, 1, int(is_free), outcome)

    def count(self, tenant: int, counted: PullCount) -> None:
        """Count what was sent to a tenant."""
        key = (tenant, counted.day, counted.upstream, counted.kind, counted.outcome)
        with self._lock:
            pulls, size = self._days.get(key, (0, 0))
            self._days[key] = (pulls + counted.pulls, size + counted.bytes)

    @property
    def has_unwritten(self) -> bool:
        """Whether `flush` would write anything."""
        return bool(self._pulls or self._days)

    def flush(self) -> None:
        """Write what was collected. Blocks. What cannot be written is dropped, so that no request fails for it."""
        with self._lock:
            pulls, self._pulls = self._pulls, {}
            days, self._days = self._days, {}
        if not pulls and not days:
            return
        now = round(self._clock(), 6)  # as a datetime holds it: lists go on after a time
        rows = [_to_row(key, noted, now) for key, noted in pulls.items()]
        with self._writing() as connection:
            connection.executemany(_ADD_PULL, rows)
            served = [
                (day, tenant, upstream, kind, outcome, *counted)
                for (tenant, day, upstream, kind, outcome), counted in days.items()
            ]
            connection.executemany(_ADD_DAY, served)
            if now >= self._sweep_at:
                self._sweep_at = now + _SWEEP_SECONDS
                connection.execute(_FORGET_DAYS, {"now": now})
                connection.execute(_FORGET_PULLS, {"before": now - FORGOTTEN_SECONDS})

    def days(self, tenant: int, first: str, last: str) -> list[PullCount]:
        """What was sent to a tenant from one day to another (ISO 8601), both included, by the day."""
        statement = (
            "SELECT day, upstream, kind, outcome, pulls, bytes FROM tenant_days "
            "WHERE tenant = ? AND day BETWEEN ? AND ? ORDER BY day, upstream, kind, outcome"
        )
        return [PullCount(*row) for row in self._select(statement, tenant, first, last)]

    def pulled(self, tenant: int) -> list[PulledReference]:
        """List all that a tenant has pulled, by image."""
        statement = (
            "SELECT origin, credential, image, reference, first_pull, last_pull FROM tenant_pulls WHERE tenant = ? "
            "ORDER BY origin, credential, image, reference"
        )
        return [_to_reference(*row) for row in self._select(statement, tenant)]

    def others(self, tenant: int, source: Source, image: RepositoryName) -> int:
        """Count the other tenants that have pulled an image of a source."""
        statement = f"SELECT count(DISTINCT tenant) FROM tenant_pulls WHERE {_OF_IMAGE} AND tenant <> ?"
        [[count]] = self._select(statement, *_of_source(source), image.text, tenant) or [(0,)]
        return int(count)

    def has_pulled(self, tenant: int, source: Source, image: RepositoryName) -> bool:
        """Whether a tenant has pulled an image of a source."""
        statement = f"SELECT 1 FROM tenant_pulls WHERE tenant = ? AND {_OF_IMAGE} LIMIT 1"
        return bool(self._select(statement, tenant, *_of_source(source), image.text))

    def forget(
        self,
        tenant: int,
        source: Source,
        image: RepositoryName,
        references: Iterable[str] | None = None,
        kept: Iterable[str] = (),
    ) -> None:
        """Forget that a tenant has pulled an image: by these references, or by all but those that are `kept`."""
        own = f"tenant = ? AND {_OF_IMAGE}"
        values = (tenant, *_of_source(source), image.text)
        with self._writing() as connection:
            if references is None:
                found = connection.execute(f"SELECT reference FROM tenant_pulls WHERE {own}", values).fetchall()
                references = {reference for (reference,) in found}.difference(kept)
            gone = [(*values, reference) for reference in references]
            connection.executemany(f"DELETE FROM tenant_pulls WHERE {own} AND reference = ?", gone)

    def tenants(self) -> list[int]:
        """List the tenants of which anything is known."""
        found = [self._select(f"SELECT DISTINCT tenant FROM {table}") for table in _OF_TENANTS]
        return sorted({int(tenant) for rows in found for (tenant,) in rows})

    def forget_tenants(self, gone: Iterable[int]) -> None:
        """Forget all that is known of some tenants."""
        values = [(tenant,) for tenant in gone]
        if values:
            with self._writing() as connection:
                for table in _OF_TENANTS:
                    connection.executemany(f"DELETE FROM {table} WHERE tenant = ?", values)

    def _select(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        if not self.path.exists():
            return []
        with explained(self.path), closing(sqlite3.connect(self.path, timeout=5)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'tenant_days'").fetchall():
                return []
            return connection.execute(statement, values).fetchall()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Open one transaction in the file, which is made if it is missing."""
        with alone(self.path), explained(self.path):
            create(self.path)
            with closing(sqlite3.connect(self.path, timeout=5)) as connection, connection:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=OFF")
                for statement in _TABLES:
                    connection.execute(statement)
                yield connection


def _to_row(key: _Key, noted: _Pulls, now: float) -> dict[str, object]:
    tenant, source, image, reference = key
    origin, credential = _of_source(source)
    return {
        "tenant": tenant,
        "origin": origin,
        "credential": credential,
        "image": image.text,
        "reference": reference,
        "first": min(noted.first, now),
        "last": min(noted.last, now),
        "pulls": noted.pulls,
        "hits": noted.hits,
        "outcome": noted.outcome,
        "now": now,
    }


def _of_source(source: Source) -> tuple[str, str]:
    return str(source.registry), str(source.credential)


def _to_reference(
    origin: str, credential: str, image: str, reference: str, first_pull: float, last_pull: float
) -> PulledReference:
    image_key = ImageKey(source_of(origin, credential), RepositoryName(image))
    return PulledReference(image_key, reference, first_pull, last_pull)
