"""Queries of bulk deletions of tags: a repository has one an hour, and whoever has the lease of one goes on with it.

A deletion is judged by the moment at which it was requested, so that one that was interrupted goes on to the same end.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy import update as update_of
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import schema
from gateway.db.dialects import insert_or_renew

_deletions = schema.bulk_deletions
_repositories = schema.repositories

EVERY = timedelta(hours=1)
"""How often a bulk deletion of one repository may be requested (GitLab, "Delete registry repository tags in bulk")."""

LEASE = timedelta(minutes=1)
"""How long nobody else goes on with a deletion whose owner has stopped. Each batch renews it."""


class BulkLeaseLost(Exception):
    """A bulk deletion belongs to somebody else by now, or another one was requested."""


@dataclass(frozen=True, slots=True)
class BulkDeletion:
    """A bulk deletion as it was requested: its rule, as clients write it, and who requested it, for the logs.

    `actor`: whom the history of tags names.
    """

    repository_id: int
    requested_at: datetime
    name_regex_delete: str
    name_regex_keep: str | None
    keep_n: int | None
    older_than: str | None
    actor: str
    who: str
    user: str | None = None
    client: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class BulkRun:
    """A bulk deletion as whoever has its lease goes on with it. `path`, `project_id`: of the repository now."""

    requested: BulkDeletion
    path: str
    project_id: int
    owner: str


async def request(connection: AsyncConnection, wanted: BulkDeletion) -> bool:
    """Store a request; return whether it is taken: none is within an hour of the last one, or while that goes on."""
    own, now = _deletions.c.repository_id == wanted.repository_id, wanted.requested_at
    found = select(_deletions.c.requested_at, _deletions.c.completed_at, _deletions.c.leased_until).where(own)
    last = (await connection.execute(found)).first()
    if last is not None:
        goes_on = last.completed_at is None and last.leased_until is not None and last.leased_until > now
        if goes_on or now - EVERY < last.requested_at <= now:
            return False
    values = {name: getattr(wanted, name) for name in _FIELDS}
    begun = {"leased_by": None, "leased_until": None, "completed_at": None, "deleted": 0, "problem": None}
    columns = [_deletions.c[name] for name in (*_FIELDS[1:], *begun)]
    stored = insert_or_renew(connection.dialect.name, _deletions, [_deletions.c.repository_id], columns)
    await connection.execute(stored.values(values | begun))
    return True


async def is_any_due(connection: AsyncConnection, now: datetime) -> bool:
    """Whether nobody goes on with a deletion that is not complete."""
    return (
        await connection.execute(select(_deletions.c.repository_id).where(_is_due(now)).limit(1))
    ).first() is not None


async def claim(connection: AsyncConnection, owner: str, now: datetime) -> BulkRun | None:
    """Take the lease of the deletion that was requested first of those that nobody goes on with. None where there is
    none."""
    columns = [_deletions.c[name] for name in _FIELDS]
    due = select(*columns, _repositories.c.path, _repositories.c.project_id, _repositories.c.deleted_at)
    due = due.join(_repositories, _repositories.c.id == _deletions.c.repository_id).where(_is_due(now))
    row = (await connection.execute(due.order_by(_deletions.c.requested_at).limit(1))).first()
    if row is None:
        return None
    own = update_of(_deletions).where(_deletions.c.repository_id == row.repository_id)
    await connection.execute(own.values(leased_by=owner, leased_until=now + LEASE))
    values = {name: getattr(row, name) for name in _FIELDS}
    return BulkRun(BulkDeletion(**values), row.path, row.project_id, owner)


async def renew(connection: AsyncConnection, run: BulkRun, now: datetime, deleted: int) -> None:
    """Renew the lease of a deletion, and count what it has deleted. Raises BulkLeaseLost."""
    values = {"leased_until": now + LEASE, "deleted": _deletions.c.deleted + deleted}
    await _update(connection, run, values)


async def release(connection: AsyncConnection, run: BulkRun) -> None:
    """Let another owner go on with a deletion. Raises BulkLeaseLost."""
    await _update(connection, run, {"leased_by": None, "leased_until": None})


async def complete(connection: AsyncConnection, run: BulkRun, now: datetime, problem: str | None = None) -> int:
    """End a deletion, and return how many tags it has deleted in all. `problem`: why it did not come to its end. Raises
    BulkLeaseLost."""
    await _update(connection, run, {"completed_at": now, "leased_by": None, "leased_until": None, "problem": problem})
    counted = select(_deletions.c.deleted).where(_deletions.c.repository_id == run.requested.repository_id)
    return int(await connection.scalar(counted) or 0)


async def _update(connection: AsyncConnection, run: BulkRun, values: dict[str, object]) -> None:
    own = and_(
        _deletions.c.repository_id == run.requested.repository_id,
        _deletions.c.requested_at == run.requested.requested_at,
        _deletions.c.leased_by == run.owner,
    )
    if not (await connection.execute(update_of(_deletions).where(own).values(values))).rowcount:
        raise BulkLeaseLost


def _is_due(now: datetime) -> ColumnElement[bool]:
    is_free = or_(_deletions.c.leased_until.is_(None), _deletions.c.leased_until <= now)
    return and_(_deletions.c.completed_at.is_(None), is_free)


_FIELDS = (
    *("repository_id", "requested_at", "name_regex_delete", "name_regex_keep", "keep_n", "older_than"),
    *("actor", "who", "user", "client", "request_id"),
)
