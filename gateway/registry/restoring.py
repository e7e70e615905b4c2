"""Restoring tags and repositories that were deleted, and tags that were moved, as long as their content is kept."""

from dataclasses import replace
from datetime import datetime

from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.oci.names import RepositoryName, Tag
from gateway.auth.protection import TagGuard
from gateway.db import (
    deleted_manifests,
    manifests,
    old_paths,
    projects,
    protections,
    repositories,
    tag_events,
    tags,
    webhook_events,
)
from gateway.db.connection import Connection
from gateway.db.manifests import NewManifest
from gateway.db.repositories import DeletedRepository, StoredRepository
from gateway.db.tag_events import TagEvent
from gateway.namespaces.errors import RestoreRefused
from gateway.namespaces.expiry import format_moment
from gateway.namespaces.locate import native_location
from gateway.registry.pushed import ReferencesMissing, find_references
from gateway.registry.referrers import artifact_type

_NESTED = 8
"""How deep indexes that are restored may list others."""
_SHOWN_EVENTS = 100
"""The latest events of a tag among which a refusal looks for what can be restored."""


async def restore_tag(
    connection: Connection,
    repository: StoredRepository,
    tag: Tag,
    now: datetime,
    actor: str,
    *,
    digest: Digest | None = None,
    moment: datetime | None = None,
    guard: TagGuard | None = None,
) -> Digest:
    """Point a tag to a manifest again, in a transaction that writes; return its digest. A manifest that was deleted by
    its digest is stored again as it was.

    `digest`: the manifest; `moment`: what the tag pointed to then; without both, what it pointed to before its last
    event. `guard`: what the rules of the project let whoever does it do to tags; None for somebody without a level.
    Raises RestoreRefused, and Denied where a rule protects the tag, or a quota has no room for the manifest.
    """
    guard = guard or TagGuard(await protections.of_project(connection, repository.project_id))
    guard.check_push(tag)
    if digest is None:
        digest = await _find_former(connection, repository, tag, moment)
    number = await manifests.find_number(connection, repository.id, digest)
    if number is None:
        number = await _store_again(connection, repository, digest, now)
    if number is None:
        raise RestoreRefused(
            f"repository {repository.path!r} has no manifest {digest} any more"
            + await _explain_kept(connection, repository, tag)
        )
    present = await manifests.stat(connection, repository.id, tag)
    guard.check_move(tag, None if present is None else present.digest, digest)
    await tags.point(connection, repository.id, tag, number, now, actor)
    await webhook_events.note_push(connection, number, [tag], now, actor)
    return digest


async def restore_repository(
    connection: Connection, path: RepositoryName, now: datetime, *, id: int | None = None, to: str | None = None
) -> DeletedRepository:
    """Restore the last deleted repository of a path, in a transaction that writes; return it with the path that it has
    since. `id`: restore that one of those that had the path; `to`: under another name in its project.

    Where the path is an old one, of a project or group that has moved since the deletion, it is restored where that is
    now. Raises RestoreRefused, RestorePathTaken, PathReserved, NameInvalid, NameUnknown.
    """
    found = await repositories.find_deleted(connection, path)
    if not found and (present := await old_paths.find_present(connection, path.text)) is not None:
        found = await repositories.find_deleted(connection, RepositoryName(present))
    wanted = [one for one in found if id in (None, one.id)]
    if not wanted:
        which = f" with the id {id}" if found else ""
        raise RestoreRefused(
            f"no deleted repository {path.text!r}{which} is kept: it was never deleted, or its content is collected"
        )
    deleted = wanted[0]
    name = RepositoryName.parse(deleted.path if to is None else to)
    project = await projects.find_by_id(connection, deleted.project_id)
    assert project is not None, "repositories go with their projects"
    if name.text != project.path and not name.text.startswith(f"{project.path}/"):
        raise RestoreRefused(
            f"{name} does not lie in project {project.path!r}, which holds the repository: restore it there, "
            "and move it then"
        )
    native_location(name, project.path)
    await repositories.restore(connection, deleted, name, now)
    return replace(deleted, path=name.text)


async def _store_again(
    connection: Connection, repository: StoredRepository, digest: Digest, now: datetime, depth: int = 0
) -> int | None:
    """Store a manifest that was deleted by its digest, and those that it lists; return its number, None where it is not
    kept. Raises RestoreRefused where something that it refers to is not."""
    kept = await deleted_manifests.find(connection, repository.id, digest)
    if kept is None or depth == _NESTED:
        return None
    manifest = Manifest.parse(kept.descriptor.media_type, kept.raw, digest.algorithm)
    for lost in await manifests.missing(connection, repository.id, (child.digest for child in manifest.children)):
        await _store_again(connection, repository, lost, now, depth + 1)
    try:
        references = await find_references(connection, repository.id, manifest)
    except ReferencesMissing as error:
        raise RestoreRefused(
            f"repository {repository.path!r} has not all any more that {digest} refers to, such as "
            f"{error.missing[0].digest}: push the image again"
        ) from error
    subject = manifest.subject.digest if manifest.subject else None
    stored = NewManifest(manifest.descriptor, manifest.raw, references, subject, artifact_type(manifest))
    number = await manifests.put(connection, repository.id, stored, now)
    await deleted_manifests.forget(connection, repository.id, digest)
    return number


async def _find_former(
    connection: Connection, repository: StoredRepository, tag: Tag, moment: datetime | None
) -> Digest:
    name = f"{repository.path}:{tag.text}"
    if moment is not None:
        former = await tag_events.find_at(connection, repository.id, tag, moment)
        if former is None:
            raise RestoreRefused(f"there was no tag {name} at {format_moment(moment)}")
        return former.digest
    last = await tag_events.list_page(connection, repository.id, tag, limit=1)
    if not last:
        raise RestoreRefused(f"there never was a tag {name}")
    if last[0].before is None:
        raise RestoreRefused(
            f"tag {name} points to what it was created with: nothing came before"
            + await _explain_earlier(connection, repository, tag, last[0])
        )
    return last[0].before


async def _explain_kept(connection: Connection, repository: StoredRepository, tag: Tag) -> str:
    """Tell to which former targets a tag can still be restored."""
    kept = await _list_kept(connection, repository, tag)
    if not kept:
        return ", nor any other that the tag pointed to"
    return f"; of what the tag pointed to, these can be restored: {', '.join(map(str, kept))}"


async def _explain_earlier(connection: Connection, repository: StoredRepository, tag: Tag, created: TagEvent) -> str:
    """Tell to what a tag that was created anew pointed before it was deleted, as far as that can be restored."""
    kept = [digest for digest in await _list_kept(connection, repository, tag) if digest != created.after]
    return f"; of an earlier tag of this name, these can be restored: {', '.join(map(str, kept))}" if kept else ""


async def _list_kept(connection: Connection, repository: StoredRepository, tag: Tag) -> list[Digest]:
    """List what a tag pointed to, and what of that the repository still has, the latest first."""
    events = await tag_events.list_page(connection, repository.id, tag, limit=_SHOWN_EVENTS)
    return list(dict.fromkeys(digest for event in events for digest in sorted(event.kept, key=str)))
