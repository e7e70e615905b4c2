"""`tag`: the tags of native repositories."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

import typer

from cache.oci.digest import Digest
from cache.oci.names import RepositoryName, Tag
from gateway.cli.folder import open_existing, read_pages
from gateway.cli.output import Document
from gateway.cli.plain_options import plain_app
from gateway.cli.refusals import Refused
from gateway.cli.repository import get_repository
from gateway.cli.session import Session, with_session
from gateway.db import manifests, tags
from gateway.db.connection import Connection
from gateway.db.tags import StoredTag
from gateway.namespaces.expiry import format_moment
from gateway.settings.tables import Settings

app = plain_app()


@app.command("list")
@with_session
def list_all(
    session: Session,
    repository: Annotated[str, typer.Argument(metavar="REPO", help="The name of the repository.")],
) -> None:
    """List the tags of a repository, with the digest that each points to and the time since when it does."""
    pages = read_pages(session.settings, partial(_read_page, repository), lambda stored: stored.tag.text)
    asyncio.run(session.print_pages(pages, _document, ["name", "digest", "published_at"]))


@app.command()
@with_session
def delete(
    session: Session, tag: Annotated[str, typer.Argument(metavar="REPO:TAG", help="The repository, and the tag of it.")]
) -> None:
    """Delete a tag; what it points to can still be pulled by its digest, and by other tags."""
    name, colon, text = tag.rpartition(":")
    if not colon or "@" in name or "/" in text:
        raise Refused(f"{tag!r} names no tag: give a repository and a tag of it, such as team/app:v1")
    parsed = Tag.parse(text)
    now = datetime.now(UTC)
    digest = asyncio.run(_delete(session.settings, name, parsed, now))
    kept = format_moment(now + session.settings.gc.delay)
    document: Document = {"repository": name, "name": parsed.text, "digest": str(digest), "kept_until": kept}
    text = f"deleted tag {tag}, which pointed to {digest}: it can be pulled by this digest until {kept}, or longer"
    session.print(document, lambda: print(text))


async def _read_page(repository: str, connection: Connection, after: str, limit: int) -> Sequence[StoredTag]:
    found = await get_repository(connection, repository)
    return await tags.list_details(connection, found.id, after, limit)


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
        await tags.delete(connection, found.id, tag, now)
        return descriptor.digest


def _document(stored: StoredTag) -> Document:
    return {
        "name": stored.tag.text,
        "digest": str(stored.digest),
        "published_at": format_moment(stored.moved_at),
        "created_at": format_moment(stored.created_at),
    }
