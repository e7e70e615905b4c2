"""Restoring tags and repositories that were deleted, and tags that were moved, as long as their content is kept."""

from datetime import datetime

from cache.oci.digest import Digest
from cache.oci.names import RepositoryName, Tag
from gateway.db import manifests, repositories, tag_events, tags
from gateway.db.connection import Connection
from gateway.db.repositories import DeletedRepository, StoredRepository
from gateway.namespaces.errors import RestoreRefused
from gateway.namespaces.expiry import format_moment

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
) -> Digest:
    """Point a tag to a manifest again, in a transaction that writes; return its digest.

    `digest`: the manifest; `moment`: what the tag pointed to then; without both, what it pointed to before its last
    event. Raises RestoreRefused.
    """
    if digest is None:
        digest = await _find_former(connection, repository, tag, moment)
    number = await manifests.find_number(connection, repository.id, digest)
    if number is None:
        raise RestoreRefused(
            f"repository {repository.path!r} has no manifest {digest} any more"
            + await _explain_kept(connection, repository, tag)
        )
    await tags.point(connection, repository.id, tag, number, now, actor)
    return digest


async def restore_repository(connection: Connection, path: RepositoryName, now: datetime) -> DeletedRepository:
    """Restore the last deleted repository of a path, in a transaction that writes. Raises RestoreRefused."""
    found = await repositories.find_deleted(connection, path)
    if not found:
        raise RestoreRefused(
            f"no deleted repository {path.text!r} is kept: it was never deleted, or its content is collected"
        )
    await repositories.restore(connection, found[0], now)
    return found[0]


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
        raise RestoreRefused(f"tag {name} points to what it was created with: nothing came before")
    return last[0].before


async def _explain_kept(connection: Connection, repository: StoredRepository, tag: Tag) -> str:
    """Tell to which former targets a tag can still be restored."""
    events = await tag_events.list_page(connection, repository.id, tag, limit=_SHOWN_EVENTS)
    kept = list(dict.fromkeys(digest for event in events for digest in sorted(event.kept, key=str)))
    if not kept:
        return ", nor any other that the tag pointed to"
    return f"; of what the tag pointed to, these can be restored: {', '.join(map(str, kept))}"
