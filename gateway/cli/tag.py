"""`tag`: the tags of native repositories."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

import typer

from cache.oci.digest import Digest
from cache.oci.names import RepositoryName, Tag
from gateway.auth.protection import TagGuard
from gateway.cli.audited import Deletion, note_deletions, note_restored_tag
from gateway.cli.folder import open_existing, read_pages
from gateway.cli.output import Document
from gateway.cli.plain_options import plain_app
from gateway.cli.refusals import Refused
from gateway.cli.repository import get_repository
from gateway.cli.session import COMMAND_LINE, Session, with_session
from gateway.db import manifests, pins, protections, tag_events, tags
from gateway.db.connection import Connection
from gateway.db.tag_events import FormerTag, TagEvent
from gateway.db.tags import StoredTag
from gateway.namespaces.expiry import format_moment, parse_as_of
from gateway.namespaces.protection import ProtectionLevel
from gateway.registry.restoring import restore_tag
from gateway.settings.tables import Settings

app = plain_app()


TagName = Annotated[str, typer.Argument(metavar="REPO:TAG", help="The repository, and the tag of it.")]
AtTime = Annotated[
    str | None, typer.Option("--at", metavar="TIME", help="As it was at a date or time, or so long ago: 12h, 30d.")
]


@app.command("list")
@with_session
def list_all(
    session: Session,
    repository: Annotated[str, typer.Argument(metavar="REPO", help="The name of the repository.")],
    at: AtTime = None,
) -> None:
    """List the tags of a repository, with the digest that each points to and the time since when it does."""
    columns = ["name", "digest", "published_at"]
    if at is None:
        pages = read_pages(session.settings, partial(_read_page, repository), lambda stored: stored.tag.text)
        asyncio.run(session.print_pages(pages, _document, columns))
        return
    moment = parse_as_of(at, datetime.now(UTC))
    former = read_pages(session.settings, partial(_read_former, repository, moment), lambda found: found.tag.text)
    asyncio.run(session.print_pages(former, _former_document, [*columns, "kept"]))


@app.command()
@with_session
def history(session: Session, tag: TagName) -> None:
    """List every creation, move and deletion of a tag, the latest first."""
    repository, parsed = _parse_tag(tag)
    pages = read_pages(session.settings, partial(_read_events, repository, parsed), lambda event: str(event.id))
    asyncio.run(session.print_pages(pages, _event_document, ["event", "at", "by", "from", "to", "kept"]))


@app.command()
@with_session
def restore(
    session: Session,
    tag: TagName,
    digest: Annotated[
        str | None, typer.Option("--digest", metavar="D", help="The manifest that it is to point to.")
    ] = None,
    at: AtTime = None,
) -> None:
    """Point a deleted or moved tag to what it pointed to before its last change, or at a time."""
    name, parsed = _parse_tag(tag)
    if digest is not None and at is not None:
        raise Refused("give --digest or --at, not both")
    now = datetime.now(UTC)
    wanted = None if digest is None else Digest.parse(digest)
    moment = None if at is None else parse_as_of(at, now)
    restored, former = asyncio.run(_restore(session.settings, name, parsed, now, wanted, moment))
    if restored != former:
        note_restored_tag(session.settings, name, parsed, restored, former)
    document: Document = {"repository": name, "name": parsed.text, "digest": str(restored)}
    session.print(document, lambda: print(f"restored tag {tag}, which points to {restored}"))


@app.command()
@with_session
def delete(session: Session, tag: TagName) -> None:
    """Delete a tag; what it points to can still be pulled by its digest, and by other tags."""
    name, parsed = _parse_tag(tag)
    now = datetime.now(UTC)
    digest = asyncio.run(_delete(session.settings, name, parsed, now))
    note_deletions(session.settings, [Deletion(name, parsed, digest)])
    kept = format_moment(now + session.settings.gc.delay)
    document: Document = {"repository": name, "name": parsed.text, "digest": str(digest), "kept_until": kept}
    text = (
        f"deleted tag {tag}, which pointed to {digest}: "
        f"`registry-gateway tag restore {tag}` restores it until {kept} at least"
    )
    session.print(document, lambda: print(text))


def _parse_tag(text: str) -> tuple[str, Tag]:
    """Read a repository and a tag of it. Raises Refused, TagInvalid."""
    name, colon, tag = text.rpartition(":")
    if not colon or "@" in name or "/" in tag:
        raise Refused(f"{text!r} names no tag: give a repository and a tag of it, such as team/app:v1")
    return name, Tag.parse(tag)


async def _read_page(repository: str, connection: Connection, after: str, limit: int) -> Sequence[StoredTag]:
    found = await get_repository(connection, repository)
    return await tags.list_details(connection, found.id, after, limit)


async def _read_former(
    repository: str, moment: datetime, connection: Connection, after: str, limit: int
) -> Sequence[FormerTag]:
    found = await get_repository(connection, repository)
    return await tag_events.list_at(connection, found.id, moment, after, limit)


async def _read_events(
    repository: str, tag: Tag, connection: Connection, before: str, limit: int
) -> Sequence[TagEvent]:
    found = await get_repository(connection, repository)
    events = await tag_events.list_page(connection, found.id, tag, int(before) if before else None, limit)
    if not events and not before:
        raise Refused(f"there never was a tag {repository}:{tag.text}")
    return events


async def _restore(
    settings: Settings, repository: str, tag: Tag, now: datetime, digest: Digest | None, moment: datetime | None
) -> tuple[Digest, Digest | None]:
    """Restore a tag; return the digests that it points to and pointed to before."""
    async with open_existing(settings) as database, database.write() as connection:
        found = await get_repository(connection, repository)
        await pins.require_unpinned(connection, found.id)
        before = await manifests.stat(connection, found.id, tag)
        guard = await administrators_guard(connection, found.project_id)
        restored = await restore_tag(
            connection, found, tag, now, COMMAND_LINE, digest=digest, moment=moment, guard=guard
        )
        return restored, None if before is None else before.digest


async def administrators_guard(connection: Connection, project_id: int) -> TagGuard:
    """What the rules of a project let administrators do to tags, among whom whoever types a command is."""
    return TagGuard(await protections.of_project(connection, project_id), ProtectionLevel.ADMIN)


async def _delete(settings: Settings, repository: str, tag: Tag, now: datetime) -> Digest:
    """Delete a tag, and return the digest that it pointed to. Raises NameInvalid, Refused."""
    async with open_existing(settings) as database, database.write() as connection:
        found = await get_repository(connection, RepositoryName.parse(repository).text)
        descriptor = await manifests.stat(connection, found.id, tag)
        if descriptor is None:
            raise Refused(
                f"repository {repository!r} has no tag {tag.text!r}: "
                f"`registry-gateway tag list {repository}` shows those it has"
            )
        await pins.require_unpinned(connection, found.id)
        (await administrators_guard(connection, found.project_id)).check_delete(tag)
        await tags.delete(connection, found.id, tag, now, COMMAND_LINE)
        return descriptor.digest


def _document(stored: StoredTag) -> Document:
    return {
        "name": stored.tag.text,
        "digest": str(stored.digest),
        "published_at": format_moment(stored.moved_at),
        "created_at": format_moment(stored.created_at),
    }


def _former_document(former: FormerTag) -> Document:
    return {
        "name": former.tag.text,
        "digest": str(former.digest),
        "published_at": format_moment(former.moved_at),
        "kept": former.is_kept,
    }


def _event_document(event: TagEvent) -> Document:
    """`kept`: whether what the event took away can be restored."""
    return {
        "event": event.change.value,
        "at": format_moment(event.at),
        "by": event.actor or None,
        "from": event.before and str(event.before),
        "to": event.after and str(event.after),
        "kept": event.before in event.kept,
    }
