"""`project`: the projects of the tree, in groups and in users' namespaces."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

import typer

from gateway.audit.event import EventKind, Subject
from gateway.audit.told import tell_project
from gateway.cli.audited import Deletion, note_change, note_deletions, note_differences, note_pin
from gateway.cli.cleanup_options import CleanupOptions
from gateway.cli.folder import open_existing, open_made, place_to_list, read_pages
from gateway.cli.moving import NewPathArgument, OldPathArgument, move, print_moved
from gateway.cli.output import Document, print_values
from gateway.cli.pin_option import AsOfOption, apply_pin
from gateway.cli.plain_options import plain_app
from gateway.cli.quota_option import QuotaOption, apply_quota
from gateway.cli.readable import changes
from gateway.cli.refusals import warn_of_host
from gateway.cli.session import Session, given, with_session
from gateway.db import cleanups, moves, paths, projects, quotas, repositories
from gateway.db.connection import Connection
from gateway.namespaces.cleanup_policy import CleanupPolicy
from gateway.namespaces.expiry import format_moment
from gateway.namespaces.node import Visibility
from gateway.namespaces.paths import parse_project_path
from gateway.namespaces.project import Project, RegistryAccess
from gateway.registry.deletion import delete_project
from gateway.settings.tables import Settings

app = plain_app()

_HEADINGS = ["Path", "Visibility", "Registry"]
_SHOWN = ["path", "visibility", "registry", "job_allow", "quota", "stored_bytes", "pinned_at", "cleanup", "created_at"]

ProjectPath = Annotated[str, typer.Argument(metavar="PATH", help="The full path of the project, such as team/app.")]


@dataclass(frozen=True, slots=True)
class ProjectOptions:
    """Properties of a project as they were given on the command line; None leaves a property as it is."""

    visibility: Annotated[
        Visibility | None,
        typer.Option(
            "--visibility", help="Who may see the project; at most as many as see its group. [new projects: private]"
        ),
    ] = None
    registry: Annotated[
        RegistryAccess | None,
        typer.Option(
            "--registry",
            help="Who may pull: whoever sees the project, members from reporter on, nobody. [new projects: enabled]",
        ),
    ] = None
    job_allow: Annotated[
        list[str] | None,
        typer.Option(
            "--job-allow",
            metavar="PATH",
            help='A project, or a group with all in it, whose jobs may pull; repeatable; replaces the list; "" clears.',
        ),
    ] = None
    quota: QuotaOption = None

    def apply(self, project: Project) -> Project:
        """Return the project with the given properties, except the jobs that it allows. Raises Refused."""
        return replace(
            project,
            visibility=given(self.visibility, project.visibility),
            registry=given(self.registry, project.registry),
            quota=apply_quota(self.quota, project.quota),
        )


@dataclass(frozen=True, slots=True)
class _Shown:
    """A project with the paths of the nodes whose jobs it allows, the bytes that it stores, and its cleanup policy;
    None where it never had one."""

    project: Project
    job_allow: Sequence[str]
    stored_bytes: int
    cleanup: CleanupPolicy | None

    @classmethod
    async def read(cls, connection: Connection, project: Project) -> "_Shown":
        """Read what is shown of a project beside itself."""
        allowed = await projects.allowed_paths(connection, project.id)
        stored = await cleanups.find(connection, project.id)
        policy = None if stored is None else stored.policy
        return cls(project, allowed, await quotas.stored_bytes(connection, project.id), policy)


@app.command()
@with_session
def create(session: Session, path: ProjectPath, options: ProjectOptions) -> None:
    """Create a project; the group or user above it must exist."""
    shown = asyncio.run(_create(session.settings, parse_project_path(path), options))
    note_change(session.settings, EventKind.CREATE, Subject.PROJECT, path, after=_audited(shown))
    warn_of_host(path)
    _print_done(session, shown, "created")


@app.command("list")
@with_session
def list_all(
    session: Session,
    below: Annotated[str | None, place_to_list("The group or user whose projects to list.")] = None,
) -> None:
    """List all projects, or those of a group or user."""
    pages = read_pages(session.settings, partial(_read_page, below), lambda project: project.path)
    asyncio.run(session.print_pages(pages, _document, _HEADINGS, _row))


@app.command()
@with_session
def show(session: Session, path: ProjectPath) -> None:
    """Show one project."""
    shown = asyncio.run(_get(session.settings, path))
    document = _full_document(shown)
    session.print(document, lambda: print_values({name: document[name] for name in _SHOWN}))


@app.command()
@with_session
def update(
    session: Session, path: ProjectPath, options: ProjectOptions, cleanup: CleanupOptions, as_of: AsOfOption = None
) -> None:
    """Change the given properties of a project; the others stay. A running server applies them to its next request."""
    updated = asyncio.run(_update(session.settings, path, options, cleanup, as_of))
    if _audited(updated[0]) != _audited(updated[1]):
        note_differences(session.settings, Subject.PROJECT, path, *map(_audited, updated))
    if cleanup.are_given:
        note_change(session.settings, EventKind.UPDATE, Subject.CLEANUP_POLICY, path)
    if as_of is not None:
        note_pin(session.settings, Subject.PROJECT, path, *(one.project.pinned_at for one in updated))
    before, shown = map(_full_document, updated)
    told = changes(before, shown, datetime.now(UTC))
    session.print(shown, lambda: print(f"updated project {path}: {told}"))


@app.command("move")
@with_session
def move_project(session: Session, old: OldPathArgument, new: NewPathArgument) -> None:
    """Rename or move a project with its repositories, also to another group or user; no content is copied."""
    moved = asyncio.run(move(session.settings, moves.move_project, old, new))
    warn_of_host(new)
    print_moved(session, moved)


@app.command()
@with_session
def delete(session: Session, path: ProjectPath) -> None:
    """Delete a project with its repositories, memberships, deploy tokens and jobs."""
    shown, held = asyncio.run(_delete(session.settings, path))
    note_deletions(session.settings, [Deletion(repository) for repository in held])
    note_change(session.settings, EventKind.DELETE, Subject.PROJECT, path, before=_audited(shown))
    repositories = "its repository" if len(held) == 1 else f"its {len(held)} repositories"
    _print_done(session, shown, "deleted", f"; only a backup brings {repositories} back" if held else "")


async def _create(settings: Settings, path: str, options: ProjectOptions) -> _Shown:
    async with open_made(settings) as database, database.write() as connection:
        visibility = given(options.visibility, Visibility.PRIVATE)
        project = options.apply(await projects.create(connection, path, datetime.now(UTC), visibility=visibility))
        await projects.update(connection, project)
        await projects.allow_jobs_of(connection, project, options.job_allow or ())
        return await _Shown.read(connection, project)


async def _read_page(below: str | None, connection: Connection, after: str, limit: int) -> list[Project]:
    if below is not None and not after:
        await paths.get(connection, below)
    return await projects.list_all(connection, below, after=after, limit=limit)


async def _get(settings: Settings, path: str) -> _Shown:
    async with open_existing(settings) as database, database.read() as connection:
        project = await projects.get(connection, path)
        return await _Shown.read(connection, project)


async def _update(
    settings: Settings, path: str, options: ProjectOptions, cleanup: CleanupOptions, as_of: str | None
) -> tuple[_Shown, _Shown]:
    """Change a project; returns it as it was, and as it is."""
    async with open_existing(settings) as database, database.write() as connection:
        before = await _Shown.read(connection, await projects.get(connection, path))
        project = options.apply(before.project)
        await projects.update(connection, project)
        if options.job_allow is not None:
            await projects.allow_jobs_of(connection, project, options.job_allow)
        if cleanup.are_given:
            policy = cleanup.apply(before.cleanup or CleanupPolicy())
            await cleanups.save(connection, project.id, policy, datetime.now(UTC))
        await apply_pin(connection, project.key, path, as_of, datetime.now(UTC))
        return before, await _Shown.read(connection, await projects.get(connection, path))


async def _delete(settings: Settings, path: str) -> tuple[_Shown, list[str]]:
    """Delete a project; returns it as it was, and the paths of its repositories."""
    pages = read_pages(settings, partial(_read_repositories, path), lambda repository: repository)
    held = [repository async for page in pages for repository in page]
    async with open_existing(settings) as database:
        async with database.read() as connection:
            shown = await _Shown.read(connection, await projects.get(connection, path))
        await delete_project(database, shown.project.id, datetime.now(UTC))
        return shown, held


async def _read_repositories(project: str, connection: Connection, after: str, limit: int) -> list[str]:
    return [found.path for found in await repositories.list_page(connection, after, limit, below=project)]


def _print_done(session: Session, shown: _Shown, done: str, more: str = "") -> None:
    path, visibility, registry = _row(shown.project)
    text = f"{done} project {path}: {visibility}, container registry {registry}{more}"
    session.print(_full_document(shown), lambda: print(text))


def _audited(shown: _Shown) -> str:
    """What the audit log says of a project."""
    allowed = [f"jobs of {path}" for path in shown.job_allow]
    return ", ".join([tell_project(shown.project), *allowed])


def _row(project: Project) -> tuple[str, ...]:
    return project.path, project.visibility, project.registry


def _document(project: Project) -> dict[str, object]:
    return {
        "id": project.id,
        "path": project.path,
        "visibility": project.visibility,
        "registry": project.registry,
        "quota": project.quota,
        "pinned_at": None if project.pinned_at is None else format_moment(project.pinned_at),
        "created_at": format_moment(project.created_at),
    }


def _full_document(shown: _Shown) -> Document:
    own: Document = {"job_allow": shown.job_allow, "stored_bytes": shown.stored_bytes}
    return {**_document(shown.project), **own, "cleanup": None if shown.cleanup is None else asdict(shown.cleanup)}
