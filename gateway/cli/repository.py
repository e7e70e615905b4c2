"""`repository`: the native repositories of projects, to which images are pushed."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated

import typer

from cache.oci.names import RepositoryName
from gateway.cli.audited import Deletion, note_deletions, note_restored_repository
from gateway.cli.folder import open_existing, place_to_list, read_pages
from gateway.cli.moving import NewPathArgument, OldPathArgument, move, print_moved
from gateway.cli.output import Document, print_values
from gateway.cli.plain_options import plain_app
from gateway.cli.refusals import Refused
from gateway.cli.session import COMMAND_LINE, Session, with_session
from gateway.db import moves, old_paths, paths, pins, projects, repositories
from gateway.db.connection import Connection
from gateway.db.repositories import DeletedRepository, StoredRepository
from gateway.db.repository_figures import RepositoryFigures, figures_of
from gateway.namespaces.expiry import format_moment
from gateway.namespaces.protection import ProtectionLevel
from gateway.registry.protected import MoveLevels, require_deletable, require_movable
from gateway.registry.restoring import restore_repository
from gateway.settings.tables import Settings
from gateway.settings.units import format_bytes

app = plain_app()

_COLUMNS = ["path", "tags", "bytes"]

RepositoryPath = Annotated[
    str, typer.Argument(metavar="PATH", help="The name of the repository, such as team/app or team/app/web.")
]


@dataclass(frozen=True, slots=True)
class _Shown:
    repository: StoredRepository
    figures: RepositoryFigures


@app.command("list")
@with_session
def list_all(
    session: Session,
    below: Annotated[str | None, place_to_list("The project, group or user whose repositories to list.")] = None,
    deleted: Annotated[
        bool, typer.Option("--deleted", help="Those that were deleted and can be restored.", show_default=False)
    ] = False,
) -> None:
    """List all repositories, or those of a project, group or user."""
    if deleted:
        restorable = read_pages(session.settings, partial(_read_restorable, below), lambda found: str(found.id))
        kept = session.settings.gc.delay
        columns = ["id", "path", "deleted_at", "by", "kept_until"]
        asyncio.run(session.print_pages(restorable, lambda found: _deleted_document(found, kept), columns))
        return
    pages = read_pages(session.settings, partial(_read_page, below), lambda shown: shown.repository.path)
    asyncio.run(session.print_pages(pages, _document, _COLUMNS))


@app.command()
@with_session
def show(session: Session, path: RepositoryPath) -> None:
    """Show one repository."""
    document = _full_document(asyncio.run(_get(session.settings, path)))
    session.print(document, lambda: print_values(document))


@app.command("move")
@with_session
def move_repository(session: Session, old: OldPathArgument, new: NewPathArgument) -> None:
    """Rename or move a repository with its images, also to another project; no content is copied."""
    asyncio.run(_require_movable(session.settings, old, new))
    print_moved(session, asyncio.run(move(session.settings, moves.move_repository, old, new)))


@app.command()
@with_session
def delete(session: Session, path: RepositoryPath) -> None:
    """Delete a repository with its tags and manifests; blobs that other repositories use stay there."""
    now = datetime.now(UTC)
    shown = asyncio.run(_delete(session.settings, path, now))
    note_deletions(session.settings, [Deletion(shown.repository.path)])
    kept = format_moment(now + session.settings.gc.delay)
    way_back = f"`registry-gateway repository restore {path}` restores it until {kept} at least"
    session.print(
        {**_full_document(shown), "kept_until": kept},
        lambda: print(f"deleted repository {path}: {_content(shown)}; {way_back}"),
    )


@app.command()
@with_session
def restore(
    session: Session,
    path: RepositoryPath,
    id: Annotated[
        int | None,
        typer.Option("--id", metavar="N", help="Which of several that had the path. [default: the last one]"),
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="NEW", help="Restore it under another name in its project.")
    ] = None,
) -> None:
    """Restore a deleted repository with its tags and manifests, while its content is kept."""
    shown = asyncio.run(_restore(session.settings, path, id, to))
    name = shown.repository.path
    note_restored_repository(session.settings, name)
    session.print(_full_document(shown), lambda: print(f"restored repository {name}: {_content(shown)}"))


async def get_repository(connection: Connection, path: str) -> StoredRepository:
    """Get the repository of a path that was typed. Raises NameInvalid, Refused."""
    repository = await repositories.find(connection, RepositoryName.parse(path))
    if repository is None:
        present = await old_paths.find_present(connection, path)
        moved = f", which has moved to {present!r}" if present else ""
        raise Refused(
            f"there is no repository {path!r}{moved}: `registry-gateway repository list` shows those there are; "
            "the first push makes one"
        )
    return repository


async def _read_page(below: str | None, connection: Connection, after: str, limit: int) -> Sequence[_Shown]:
    if below is not None and not after:
        await paths.get(connection, below)
    listed = await repositories.list_page(connection, after, limit, below=below)
    figures = await figures_of(connection, [repository.id for repository in listed])
    return [_Shown(repository, figures[repository.id]) for repository in listed]


async def _read_restorable(
    below: str | None, connection: Connection, after: str, limit: int
) -> Sequence[DeletedRepository]:
    if below is not None and not after:
        await paths.get(connection, below)
    return await repositories.list_restorable(connection, int(after) if after else 0, limit, below=below)


async def _get(settings: Settings, path: str) -> _Shown:
    async with open_existing(settings) as database, database.read() as connection:
        return await _read(connection, path)


async def _delete(settings: Settings, path: str, now: datetime) -> _Shown:
    async with open_existing(settings) as database:
        async with database.read() as connection:
            repository = await get_repository(connection, path)
            project = await projects.find_by_id(connection, repository.project_id)
        if project is not None:
            await require_deletable(database, project, repository, ProtectionLevel.ADMIN)
        async with database.write() as connection:
            shown = await _read(connection, path)
            await pins.require_unpinned(connection, shown.repository.id)
            await repositories.delete(connection, RepositoryName.parse(path), now, COMMAND_LINE)
            return shown


async def _require_movable(settings: Settings, old: str, new: str) -> None:
    """Check that no protection rule keeps a repository where it is, or from where it is to be. Raises Denied."""
    async with open_existing(settings) as database:
        async with database.read() as connection:
            repository = await repositories.find(connection, RepositoryName.parse(old))
        if repository is not None:
            levels = MoveLevels(ProtectionLevel.ADMIN, ProtectionLevel.ADMIN)
            await require_movable(database, repository, new, levels)


async def _restore(settings: Settings, path: str, id: int | None, to: str | None) -> _Shown:
    async with open_existing(settings) as database, database.write() as connection:
        name, now = RepositoryName.parse(path), datetime.now(UTC)
        restored = await restore_repository(connection, name, now, id=id, to=to)
        await pins.require_unpinned(connection, restored.id)
        return await _read(connection, restored.path)


async def _read(connection: Connection, path: str) -> _Shown:
    repository = await get_repository(connection, path)
    return _Shown(repository, (await figures_of(connection, [repository.id]))[repository.id])


def _content(shown: _Shown) -> str:
    figures = shown.figures
    return f"{figures.tags} tags, {figures.manifests} manifests, {format_bytes(figures.bytes)}"


def _document(shown: _Shown) -> Document:
    return {
        "id": shown.repository.id,
        "path": shown.repository.path,
        "tags": shown.figures.tags,
        "bytes": shown.figures.bytes,
    }


def _deleted_document(found: DeletedRepository, kept: timedelta) -> Document:
    return {
        "id": found.id,
        "path": found.path,
        "deleted_at": format_moment(found.deleted_at),
        "by": found.deleted_by,
        "kept_until": format_moment(found.deleted_at + kept),
    }


def _full_document(shown: _Shown) -> Document:
    created_at = format_moment(shown.repository.created_at)
    return {**_document(shown), "manifests": shown.figures.manifests, "created_at": created_at}
