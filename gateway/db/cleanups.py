"""Queries of cleanup policies, and of their runs: one at a time of a policy, which whoever has its lease goes on with.

A run is a row of the policy (`run_at`) and one of each repository that it has come to. Whoever is interrupted leaves
both; once the lease has ended, somebody else goes on with the repositories that are not complete.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, and_, exists, func, literal, or_, select
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into
from sqlalchemy import update as update_of
from sqlalchemy.ext.asyncio import AsyncConnection

from cache.oci.errors import NameUnknown
from gateway.db import schema
from gateway.db.dialects import insert_or_renew
from gateway.namespaces.cleanup_policy import Cadence, CleanupPolicy, check_policy

_policies = schema.cleanup_policies
_cleanups = schema.repository_cleanups
_projects = schema.projects
_repositories = schema.repositories

LEASE = timedelta(minutes=1)
"""How long nobody else goes on with a run whose owner has stopped. Each batch of deletions renews it."""


class LeaseLost(Exception):
    """The run of a policy belongs to somebody else by now, or the policy was changed or deleted."""


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A policy of a project, and its runs.

    `run_at`: when the run began that is not complete; `leased_until`: how long somebody is known to go on with it.
    `completed_at`, `deleted`: of the last run, or of the one that goes on. `problem`: why that did nothing, or why the
    policy has disabled itself. `repositories`: how many the project has, and `cleaned`: how many of them the run of
    `run_at`, or the last one, has completed.
    """

    project_id: int
    project: str
    policy: CleanupPolicy
    next_run_at: datetime
    run_at: datetime | None
    leased_until: datetime | None
    completed_at: datetime | None
    deleted: int
    problem: str | None
    repositories: int = 0
    cleaned: int = 0


@dataclass(frozen=True, slots=True)
class CleanupRun:
    """A run of a policy, as whoever has its lease goes on with it. `owner`: the name of the lease. `pinned_at`: of the
    project, as in StoredRepository."""

    project_id: int
    project: str
    policy: CleanupPolicy
    run_at: datetime
    owner: str
    pinned_at: datetime | None


@dataclass(frozen=True, slots=True)
class RepositoryCleanup:
    """What the last run did to a repository; None in `completed_at` and `kept` where it did not come to the end."""

    repository: str
    started_at: datetime
    completed_at: datetime | None
    deleted: int
    kept: int | None


@dataclass(frozen=True, slots=True)
class UncleanedRepository:
    """A repository that a run has not completed."""

    id: int
    path: str
    has_tags: bool


async def find(connection: AsyncConnection, project_id: int) -> StoredPolicy | None:
    """Find the policy of a project; None where it never had one."""
    row = (await connection.execute(_selected().where(_policies.c.project_id == project_id))).first()
    return _stored(row) if row else None


async def list_all(connection: AsyncConnection, after: str = "", limit: int | None = None) -> list[StoredPolicy]:
    """List the policies in the order of their projects' paths, or the first ones after a path."""
    listed = _selected().where(_projects.c.path > after).order_by(_projects.c.path).limit(limit)
    return [_stored(row) for row in await connection.execute(listed)]


async def save(connection: AsyncConnection, project_id: int, policy: CleanupPolicy, now: datetime) -> None:
    """Store the policy of a project. A run that goes on ends; the next one is due one cadence from now, as after each
    save in GitLab. Raises CleanupRuleInvalid."""
    check_policy(policy)
    values = {
        "enabled": policy.enabled,
        "cadence": policy.cadence.value,
        "keep_n": policy.keep_n,
        "older_than": policy.older_than,
        "name_regex_delete": policy.name_regex_delete,
        "name_regex_keep": policy.name_regex_keep or None,
        "next_run_at": now + policy.cadence.span,
        "run_at": None,
        "leased_by": None,
        "leased_until": None,
        "problem": None,
    }
    columns = [_policies.c[name] for name in values]
    stored = insert_or_renew(connection.dialect.name, _policies, [_policies.c.project_id], columns)
    await connection.execute(stored.values({"project_id": project_id, "deleted": 0, **values}))


async def claim_due(connection: AsyncConnection, owner: str, now: datetime) -> CleanupRun | None:
    """Begin the run of the enabled policy that is due the longest, or go on with one that nobody goes on with; None
    where there is none."""
    is_free = or_(_policies.c.leased_until.is_(None), _policies.c.leased_until <= now)
    is_due = or_(_policies.c.run_at.is_not(None), _policies.c.next_run_at <= now)
    due = select(_policies.c.project_id).where(_policies.c.enabled, is_free, is_due).order_by(_policies.c.next_run_at)
    project_id: int | None = await connection.scalar(due.limit(1))
    return None if project_id is None else await _claim(connection, project_id, owner, now)


async def claim(connection: AsyncConnection, project_id: int, owner: str, now: datetime) -> CleanupRun | None:
    """Begin a run of a project's policy now, or go on with one that nobody goes on with; None where somebody does, or
    the project has no policy."""
    is_free = or_(_policies.c.leased_until.is_(None), _policies.c.leased_until <= now)
    free = select(_policies.c.project_id).where(_policies.c.project_id == project_id, is_free)
    found = await connection.scalar(free)
    return None if found is None else await _claim(connection, project_id, owner, now)


async def _claim(connection: AsyncConnection, project_id: int, owner: str, now: datetime) -> CleanupRun:
    own = _policies.c.project_id == project_id
    row = (await connection.execute(_selected().where(own))).one()
    values: dict[str, Any] = {"leased_by": owner, "leased_until": now + LEASE}
    if row.run_at is None:
        begun = {"run_at": now, "completed_at": None, "deleted": 0, "problem": None}
        values |= begun | {"next_run_at": now + Cadence(row.cadence).span}
    await connection.execute(update_of(_policies).where(own).values(values))
    return CleanupRun(project_id, row.path, _policy(row), row.run_at or now, owner, row.pinned_at)


async def renew(connection: AsyncConnection, run: CleanupRun, now: datetime, deleted: int = 0) -> None:
    """Renew the lease of a run, and count tags that the same transaction deletes. Raises LeaseLost."""
    values = {"leased_until": now + LEASE, "deleted": _policies.c.deleted + deleted}
    if not (await connection.execute(update_of(_policies).where(_is_owned(run)).values(values))).rowcount:
        raise LeaseLost


async def release(connection: AsyncConnection, run: CleanupRun) -> None:
    """Give up the lease of a run that is not complete: anybody may go on with it at once."""
    given_up = update_of(_policies).where(_is_owned(run))
    await connection.execute(given_up.values(leased_by=None, leased_until=None))


async def complete(connection: AsyncConnection, run: CleanupRun, now: datetime, problem: str | None = None) -> None:
    """Note the end of a run. `problem`: why it did nothing."""
    ended = {"run_at": None, "leased_by": None, "leased_until": None, "completed_at": now, "problem": problem}
    await connection.execute(update_of(_policies).where(_is_owned(run)).values(ended))


async def disable(connection: AsyncConnection, run: CleanupRun, problem: str) -> None:
    """End a run whose policy cannot be carried out, and disable that policy. `problem`: why."""
    ended = {"enabled": False, "run_at": None, "leased_by": None, "leased_until": None, "problem": problem}
    await connection.execute(update_of(_policies).where(_is_owned(run)).values(ended))


async def list_uncleaned(
    connection: AsyncConnection, run: CleanupRun, after: int, limit: int
) -> list[UncleanedRepository]:
    """List the first repositories after an id that a run has not completed, in the order of their ids."""
    done = exists().where(
        _cleanups.c.repository_id == _repositories.c.id,
        _cleanups.c.run_at == run.run_at,
        _cleanups.c.completed_at.is_not(None),
    )
    present = _repositories.c.project_id == run.project_id, _repositories.c.deleted_at.is_(None)
    # Not EXISTS: for that PostgreSQL may read all tags there are, and put them into a hash table.
    a_tag = select(schema.tags.c.name).where(schema.tags.c.repository_id == _repositories.c.id).limit(1)
    listed = select(_repositories.c.id, _repositories.c.path, a_tag.scalar_subquery().label("a_tag"))
    listed = listed.where(*present, _repositories.c.id > after, ~done).order_by(_repositories.c.id).limit(limit)
    rows = await connection.execute(listed)
    return [UncleanedRepository(row.id, row.path, row.a_tag is not None) for row in rows]


async def require_in_project(connection: AsyncConnection, run: CleanupRun, repository_id: int) -> None:
    """Check that a repository is still in the project of a run. Raises NameUnknown where it was deleted or moved."""
    of_project = _repositories.c.id == repository_id, _repositories.c.project_id == run.project_id
    found = select(_repositories.c.id).where(*of_project, _repositories.c.deleted_at.is_(None))
    if await connection.scalar(found) is None:
        raise NameUnknown("the repository was deleted or moved meanwhile")


async def begin_repository(connection: AsyncConnection, run: CleanupRun, repository_id: int, now: datetime) -> None:
    """Renew the lease of a run, and note that it has come to a repository, unless it did so before. Raises
    LeaseLost."""
    await renew(connection, run, now)
    known = select(_cleanups.c.run_at).where(_cleanups.c.repository_id == repository_id)
    if await connection.scalar(known) != run.run_at:
        await connection.execute(delete_from(_cleanups).where(_cleanups.c.repository_id == repository_id))
        values = {"repository_id": repository_id, "run_at": run.run_at, "started_at": now, "deleted": 0}
        await connection.execute(insert_into(_cleanups).values(values))


async def count_deleted(connection: AsyncConnection, repository_id: int, deleted: int) -> None:
    """Count tags of a repository that the same transaction deletes."""
    counted = update_of(_cleanups).where(_cleanups.c.repository_id == repository_id)
    await connection.execute(counted.values(deleted=_cleanups.c.deleted + deleted))


async def complete_repository(
    connection: AsyncConnection, run: CleanupRun, repository_id: int, kept: int, now: datetime
) -> None:
    """Renew the lease of a run, and note that it is done with a repository, of which it has kept so many tags. Raises
    LeaseLost."""
    await renew(connection, run, now)
    ended = update_of(_cleanups).where(_cleanups.c.repository_id == repository_id)
    await connection.execute(ended.values(completed_at=now, kept=kept))


async def complete_untagged(connection: AsyncConnection, run: CleanupRun, ids: Sequence[int], now: datetime) -> None:
    """Renew the lease of a run, and note that it is done with at most BATCH repositories that had no tags, as far as
    they are still in its project. Raises LeaseLost."""
    await renew(connection, run, now)
    at_once = literal(now, schema.Moment)
    values = {"run_at": literal(run.run_at, schema.Moment), "started_at": at_once, "completed_at": at_once}
    values |= {"deleted": literal(0), "kept": literal(0)}
    present = _repositories.c.id.in_(ids), _repositories.c.project_id == run.project_id
    passed = select(_repositories.c.id, *values.values()).where(*present, _repositories.c.deleted_at.is_(None))
    columns = [_cleanups.c[name] for name in values]
    noted = insert_or_renew(connection.dialect.name, _cleanups, [_cleanups.c.repository_id], columns)
    await connection.execute(noted.from_select(["repository_id", *values], passed))


async def list_of_project(
    connection: AsyncConnection, project_id: int, after: str = "", limit: int | None = None
) -> list[RepositoryCleanup]:
    """List what the last runs did to the repositories of a project, in the order of their paths, or the first ones
    after a path."""
    listed = select(_repositories.c.path, _cleanups).join_from(
        _cleanups, _repositories, _repositories.c.id == _cleanups.c.repository_id
    )
    of_project = _repositories.c.project_id == project_id, _repositories.c.deleted_at.is_(None)
    listed = listed.where(*of_project, _repositories.c.path > after).order_by(_repositories.c.path).limit(limit)
    return [
        RepositoryCleanup(row.path, row.started_at, row.completed_at, row.deleted, row.kept)
        for row in await connection.execute(listed)
    ]


async def started_at(connection: AsyncConnection, repository_ids: Collection[int]) -> dict[int, datetime]:
    """When the last run of a policy came to some repositories, by their ids; at most a page of them."""
    found = select(_cleanups.c.repository_id, _cleanups.c.started_at)
    rows = await connection.execute(found.where(_cleanups.c.repository_id.in_(repository_ids)))
    return {row.repository_id: row.started_at for row in rows}


def _is_owned(run: CleanupRun) -> Any:
    return and_(
        _policies.c.project_id == run.project_id,
        _policies.c.leased_by == run.owner,
        _policies.c.run_at == run.run_at,
    )


def _selected() -> Any:
    present = _repositories.c.project_id == _projects.c.id, _repositories.c.deleted_at.is_(None)
    is_complete = _cleanups.c.repository_id == _repositories.c.id, _cleanups.c.completed_at.is_not(None)
    of_run = or_(_policies.c.run_at.is_(None), _cleanups.c.run_at == _policies.c.run_at)
    count = select(func.count()).select_from(_repositories).where(*present)
    return select(
        _policies,
        _projects.c.path,
        _projects.c.pinned_at,
        count.correlate(_projects).scalar_subquery().label("repositories"),
        count.where(exists().where(*is_complete, of_run))
        .correlate(_projects, _policies)
        .scalar_subquery()
        .label("cleaned"),
    ).join(_projects, _projects.c.id == _policies.c.project_id)


def _policy(row: Row[Any]) -> CleanupPolicy:
    return CleanupPolicy(
        row.enabled, Cadence(row.cadence), row.keep_n, row.older_than, row.name_regex_delete, row.name_regex_keep
    )


def _stored(row: Row[Any]) -> StoredPolicy:
    runs = row.next_run_at, row.run_at, row.leased_until, row.completed_at, row.deleted, row.problem
    return StoredPolicy(row.project_id, row.path, _policy(row), *runs, row.repositories, row.cleaned)
