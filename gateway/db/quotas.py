"""Queries of quotas: what projects store, what unfinished uploads have reserved, and whether more fits.

Every query that adds or removes content of a repository calls `charge_…` or `release_…` in its transaction. A blob
counts once in a project, however many of its repositories link it; what a group stores is the sum of its projects. That
sum is counted when the group is given a quota, and kept as long as it has one, since a push must not wait for it: it
took 60 ms for 100,000 projects.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Executable,
    Select,
    and_,
    bindparam,
    case,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from cache.oci.digest import Digest
from cache.oci.errors import UploadUnknown
from cache.prepared import prepared
from gateway.db import paths, schema
from gateway.namespaces.node import NodeKind, prefixes_of
from gateway.namespaces.paths import parent_path
from gateway.namespaces.project import Project
from gateway.namespaces.quota import QuotaLevel, check_room, decide_step

_projects = schema.projects
_groups = schema.groups
_repositories = schema.repositories
_uploads = schema.uploads
_blobs = schema.blobs
_links = schema.blob_links
_manifests = schema.manifests

_REPOSITORY: BindParameter[int] = bindparam("repository")
_OTHER = _repositories.alias("other")
_BESIDE = (
    select(_OTHER.c.id)
    .join(_repositories, _repositories.c.project_id == _OTHER.c.project_id)
    .where(_repositories.c.id == _REPOSITORY, _OTHER.c.id != _REPOSITORY)
)
_ELSEWHERE = prepared(
    select(exists().where(_links.c.digest == bindparam("digest"), _links.c.repository_id.in_(_BESIDE)).label("found"))
)
_PROJECT = prepared(
    select(_projects.c.id, _projects.c.path, _projects.c.quota, _projects.c.stored_bytes)
    .join(_repositories, _repositories.c.project_id == _projects.c.id)
    .where(_repositories.c.id == _REPOSITORY)
)
_ADD = prepared(
    update(_projects)
    .where(
        _projects.c.id == select(_repositories.c.project_id).where(_repositories.c.id == _REPOSITORY).scalar_subquery()
    )
    .values(stored_bytes=_projects.c.stored_bytes + bindparam("added", type_=BigInteger))
)

RESERVED_FOR = timedelta(hours=1)
"""How long an upload that does not go on keeps what it has reserved beyond the bytes that have arrived."""


async def stored_bytes(connection: AsyncConnection, project_id: int) -> int:
    """Count the bytes that a project stores: those of its blobs, each once, and of its manifests."""
    stored = select(_projects.c.stored_bytes).where(_projects.c.id == project_id)
    return (await connection.execute(stored)).scalar_one_or_none() or 0


async def stored_bytes_below(connection: AsyncConnection, group: str) -> int:
    """Count the bytes that the projects below the path of a group store together."""
    stored = select(func.coalesce(func.sum(_projects.c.stored_bytes), 0))
    return int((await connection.execute(stored.where(paths.is_below(_projects.c.path, group)))).scalar_one())


async def levels_of(connection: AsyncConnection, repository_id: int, now: datetime) -> list[QuotaLevel]:
    """List the quotas that apply to a repository: that of its project, and those of the groups above it; none to one
    that does not exist any more."""
    project = (await connection.execute(_PROJECT, {"repository": repository_id})).first()
    levels: list[QuotaLevel] = []
    if project is None:
        return levels
    if project.quota is not None:
        reserved = await _reserved(connection, _repositories.c.project_id == project.id, now)
        levels.append(QuotaLevel(NodeKind.PROJECT, project.path, project.quota, project.stored_bytes, reserved))
    return levels + await _levels_of_groups(connection, prefixes_of(parent_path(project.path)), now)


async def _levels_of_groups(connection: AsyncConnection, wanted: Sequence[str], now: datetime) -> list[QuotaLevel]:
    """List the quotas of those of some groups that have one."""
    levels: list[QuotaLevel] = []
    if not wanted:
        return levels
    for group in (await connection.execute(*_limited_groups(wanted))).all():
        reserved = await _reserved(connection, paths.is_below(_repositories.c.path, group.path), now)
        levels.append(QuotaLevel(NodeKind.GROUP, group.path, group.quota, group.stored_bytes, reserved))
    return levels


async def reserve(
    connection: AsyncConnection, upload_id: str, received: int, now: datetime, coming: int | None = None
) -> int | None:
    """Reserve room for an upload beyond the bytes that it has received; return up to how many bytes it may grow.

    None where no quota applies. What it had reserved before is given back first. `coming`: bytes that the client says
    are still to come, None where it does not say. Raises Denied, and UploadUnknown where the upload has ended.
    """
    found = await connection.execute(select(_uploads.c.repository_id).where(_uploads.c.id == upload_id))
    repository_id = found.scalar_one_or_none()
    if repository_id is None:
        raise UploadUnknown(f"the upload {upload_id} has ended meanwhile")
    await _set_reserved(connection, upload_id, received, now)
    levels = await levels_of(connection, repository_id, now)
    limit = received + decide_step(levels, coming) if levels else None
    await _set_reserved(connection, upload_id, limit, now)
    return limit


def _limited_groups(paths: Sequence[str]) -> tuple[Executable, dict[str, str]]:
    """The statement that selects those of some groups that have a quota, and its values."""
    return _limited_groups_of(len(paths)), {f"path_{number}": path for number, path in enumerate(paths)}


@cache
def _limited_groups_of(count: int) -> Executable:
    above = _groups.c.path.in_([bindparam(f"path_{number}") for number in range(count)])
    limited = select(_groups.c.path, _groups.c.quota, _groups.c.stored_bytes).where(above, _groups.c.quota.is_not(None))
    return prepared(limited.order_by(_groups.c.path))


async def charge_blob(
    connection: AsyncConnection, repository_id: int, digest: Digest, size: int, now: datetime
) -> None:
    """Count a blob that was just linked to a repository, unless its project has it already. Raises Denied."""
    if not await _has_elsewhere(connection, repository_id, digest):
        await charge(connection, repository_id, size, now)


async def release_blob(connection: AsyncConnection, repository_id: int, digest: Digest, size: int) -> None:
    """Count a blob no more that was just taken out of a repository, unless its project has it elsewhere."""
    if not await _has_elsewhere(connection, repository_id, digest):
        await release(connection, repository_id, size)


async def charge(connection: AsyncConnection, repository_id: int, size: int, now: datetime) -> None:
    """Count bytes that are added to a repository. Raises Denied where a quota has no room for them."""
    levels = await levels_of(connection, repository_id, now)
    check_room(levels, size)
    await _add(connection, repository_id, size)
    limited = [level.path for level in levels if level.kind is NodeKind.GROUP]
    if limited:
        await _add_to_groups(connection, _groups.c.path.in_(limited), size)


async def release(connection: AsyncConnection, repository_id: int, size: int) -> None:
    """Count bytes no more that were taken out of a repository."""
    of_repository = select(_projects.c.path).join(_repositories, _repositories.c.project_id == _projects.c.id)
    path = await connection.scalar(of_repository.where(_repositories.c.id == repository_id))
    await _add(connection, repository_id, -size)
    if path is not None:
        await _add_to_groups(connection, _limited_above(path), -size)


async def transfer(connection: AsyncConnection, old: str, new: str, now: datetime) -> None:
    """Count what is stored at and below a path in the groups above its new path instead of those above the old one;
    call it before the path changes. Raises Denied where a quota there has no room for it."""
    before, after = prefixes_of(parent_path(old)), prefixes_of(parent_path(new))
    left, entered = (
        [path for path in some if path not in others] for some, others in ((before, after), (after, before))
    )
    at_or_below = or_(_projects.c.path == old, paths.is_below(_projects.c.path, old))
    stored = await _sum(connection, select(func.sum(_projects.c.stored_bytes)).where(at_or_below))
    coming = or_(_repositories.c.path == old, paths.is_below(_repositories.c.path, old))
    levels = await _levels_of_groups(connection, entered, now)
    check_room(levels, stored + (await _reserved(connection, coming, now) if levels else 0))
    for places, size in ((left, -stored), (entered, stored)):
        await _add_to_groups(connection, and_(_groups.c.path.in_(places), _groups.c.quota.is_not(None)), size)


async def transfer_repository(connection: AsyncConnection, repository_id: int, project_id: int, now: datetime) -> None:
    """Give a repository to another project, and count there what it stores; call it before its path changes.

    Raises Denied where a quota there has no room for it.
    """
    before = await levels_of(connection, repository_id, now)
    released = await release_repository(connection, repository_id)
    of_repository = _repositories.c.id == repository_id
    await connection.execute(update(_repositories).where(of_repository).values(project_id=project_id))
    stored = await _stored_by(connection, repository_id)
    levels = await levels_of(connection, repository_id, now)
    kept = {level.path for level in before} if stored <= released else set()
    check_room([level for level in levels if level.path not in kept], stored)
    await _add(connection, repository_id, stored)
    limited = [level.path for level in levels if level.kind is NodeKind.GROUP]
    await _add_to_groups(connection, _groups.c.path.in_(limited), stored)


async def release_project(connection: AsyncConnection, project: Project) -> None:
    """Count no more in its groups what a project stores that is about to be deleted."""
    await _add_to_groups(connection, _limited_above(project.path), -await stored_bytes(connection, project.id))


async def release_repository(connection: AsyncConnection, repository_id: int) -> int:
    """Count no more what a repository that is about to leave its project has for itself there; return how much."""
    stored = await _stored_by(connection, repository_id)
    await release(connection, repository_id, stored)
    return stored


async def _stored_by(connection: AsyncConnection, repository_id: int) -> int:
    """Count the bytes of a repository's manifests, and of the blobs that no other one of its project has."""
    raw = select(func.sum(func.length(_manifests.c.raw))).where(_manifests.c.repository_id == repository_id)
    return await _sum(connection, _own_blobs(repository_id)) + await _sum(connection, raw)


async def release_blobs(connection: AsyncConnection, repository_id: int, digests: Sequence[str]) -> None:
    """Count blobs no more, at most BATCH, that are about to be taken out of a repository, unless its project has them
    elsewhere."""
    own = _own_blobs(repository_id).where(_links.c.digest.in_(digests))
    await release(connection, repository_id, await _sum(connection, own))


def _own_blobs(repository_id: int) -> Select[Any]:
    """Sum the blobs of a repository that no other one of its project has."""
    other, beside = _links.alias("other"), _repositories.alias("beside")
    project = select(_repositories.c.project_id).where(_repositories.c.id == repository_id).scalar_subquery()
    # As a join, SQLite looks for each blob in every repository of the project: 1.6 s for 100 blobs and 1,000 of these.
    project_of_other = select(beside.c.project_id).where(beside.c.id == other.c.repository_id).scalar_subquery()
    shared = select(other.c.digest).where(other.c.digest == _links.c.digest, other.c.repository_id != repository_id)
    own = select(func.sum(_blobs.c.size)).join(_links, _links.c.digest == _blobs.c.digest)
    return own.where(_links.c.repository_id == repository_id, ~exists(shared.where(project_of_other == project)))


def _limited_above(project: str) -> ColumnElement[bool]:
    """Whether a group stands above the path of a project, and has a quota."""
    return and_(_groups.c.path.in_(prefixes_of(parent_path(project))), _groups.c.quota.is_not(None))


async def _add_to_groups(connection: AsyncConnection, which: ColumnElement[bool], size: int) -> None:
    counted = update(_groups).where(which)
    await connection.execute(counted.values(stored_bytes=_groups.c.stored_bytes + size))


async def _add(connection: AsyncConnection, repository_id: int, size: int) -> None:
    await connection.execute(_ADD, {"repository": repository_id, "added": size})


async def _has_elsewhere(connection: AsyncConnection, repository_id: int, digest: Digest) -> bool:
    """Whether another repository of the same project has a blob."""
    values = {"repository": repository_id, "digest": str(digest)}
    return bool((await connection.execute(_ELSEWHERE, values)).scalar_one())


async def _set_reserved(connection: AsyncConnection, upload_id: str, limit: int | None, now: datetime) -> None:
    values = {"reserved": limit, "updated_at": now}
    await connection.execute(update(_uploads).where(_uploads.c.id == upload_id).values(values))


async def _reserved(connection: AsyncConnection, which: ColumnElement[bool], now: datetime) -> int:
    """Sum what unfinished uploads to some repositories have received and reserved."""
    lasting = case((_uploads.c.updated_at > now - RESERVED_FOR, _uploads.c.reserved), else_=None)
    held = case((func.coalesce(lasting, 0) > _uploads.c.received, lasting), else_=_uploads.c.received)
    # As a join, SQLite begins with the repositories, of which there are many more: 90 ms for 100,000 of these.
    placed = exists().where(_repositories.c.id == _uploads.c.repository_id, which)
    return await _sum(connection, select(func.sum(held)).where(placed))


async def _sum(connection: AsyncConnection, total: Select[Any]) -> int:
    """Read the sum that a query selects; nothing sums up to 0."""
    return int((await connection.execute(total)).scalar_one() or 0)
