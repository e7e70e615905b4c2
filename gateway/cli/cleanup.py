"""`cleanup`: the cleanup policies of projects, what they did, and what they would do."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import typer

from gateway.audit.event import AuditEvent
from gateway.cli.audited import append_events, who_commands
from gateway.cli.folder import open_existing, read_pages
from gateway.cli.output import Document, print_values
from gateway.cli.plain_options import plain_app
from gateway.cli.project import ProjectPath
from gateway.cli.refusals import Refused, complain
from gateway.cli.session import Session, with_session
from gateway.db import cleanups, projects
from gateway.db.cleanups import RepositoryCleanup, StoredPolicy
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.namespaces.expiry import format_moment
from gateway.observability import logs
from gateway.registry.cleaner import CleanedTags, Cleaner, preview
from gateway.registry.cleanup import JudgedTag, TagVerdict
from gateway.settings.tables import Settings
from gateway.wiring.cleanup import events_of

app = plain_app()

_POLICIES = ["project", "state", "next_run_at", "completed_at", "deleted", "problem"]
_REPOSITORIES = ["repository", "started_at", "completed_at", "deleted", "kept"]
_TAGS = ["repository", "name", "published_at", "verdict", "rule"]

STATES = {"disabled", "scheduled", "running", "interrupted"}
"""States of a policy: it does not run, waits for its next run, has one that goes on, or one that nobody goes on with at
the moment."""

ShownProject = Annotated[
    str | None, typer.Argument(metavar="[PROJECT]", help="The project whose repositories to list.", show_default=False)
]


@app.command()
@with_session
def status(session: Session, project: ShownProject = None) -> None:
    """Show the cleanup policies with their last runs, or what the last run did to the repositories of one project."""
    if project is None:
        policies = read_pages(session.settings, cleanups.list_all, lambda policy: policy.project)
        asyncio.run(session.print_pages(policies, _policy_document, _POLICIES))
        return

    async def read(connection: Connection, after: str, limit: int) -> Sequence[RepositoryCleanup]:
        found = await projects.get(connection, project)
        return await cleanups.list_of_project(connection, found.id, after, limit)

    done = read_pages(session.settings, read, lambda cleanup: cleanup.repository)
    asyncio.run(session.print_pages(done, _cleanup_document, _REPOSITORIES))


@app.command()
@with_session
def run(
    session: Session,
    project: ProjectPath,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Delete nothing, and tell of each tag whether it would go, and why.", show_default=False
        ),
    ] = False,
) -> None:
    """Run the cleanup policy of a project now, to its end."""
    logs.configure(session.settings.log_format)
    if dry_run:
        asyncio.run(_print_preview(session, project))
        return
    document = _policy_document(asyncio.run(_clean(session.settings, project)))
    session.print(document, lambda: print_values({name: document[name] for name in ("project", *_RESULT)}))


_RESULT = ("repositories", "cleaned", "deleted", "problem")


async def _print_preview(session: Session, project: str) -> None:
    counted = _Counted()
    pages = _read_preview(session.settings, project, counted)
    await session.print_pages(pages, _tag_document, _TAGS)
    if counted.tags and counted.deleted == counted.tags:
        complain(f"warning: the policy of project {project!r} would delete every tag of its repositories")


@dataclass(slots=True)
class _Counted:
    """How many tags were judged, and how many of them would be deleted."""

    tags: int = 0
    deleted: int = 0


async def _read_preview(
    settings: Settings, project: str, counted: _Counted
) -> AsyncGenerator[Sequence[tuple[str, JudgedTag]], None]:
    async with open_existing(settings) as database:
        stored = await _get(database, project)
        judged = preview(database, stored.project_id, stored.policy, datetime.now(UTC))
        async with aclosing(judged) as pages:
            async for repository, page in pages:
                counted.tags += len(page)
                counted.deleted += sum(each.verdict is TagVerdict.DELETED for each in page)
                yield [(repository, each) for each in page]
        if not counted.tags:
            yield []


async def _clean(settings: Settings, project: str) -> StoredPolicy:
    """Run the policy of a project, and return it as it is then. Raises Refused."""
    who, events = who_commands(), list[AuditEvent]()

    def note(cleaned: CleanedTags) -> None:
        events.extend(events_of(cleaned, who))
        if len(events) >= _EVENTS_AT_ONCE:
            append_events(settings, events)
            events.clear()

    async with open_existing(settings) as database:
        stored = await _get(database, project)
        if not stored.policy.enabled:
            because = f", since {stored.problem}" if stored.problem else ""
            raise Refused(
                f"the cleanup policy of project {project!r} is disabled{because}: look at what it would delete by "
                f"`registry-gateway cleanup run {project} --dry-run`, and enable it by "
                f"`registry-gateway project update {project} --cleanup`"
            )
        try:
            done = await Cleaner(database, lambda: datetime.now(UTC), note).clean(stored.project_id)
        finally:
            append_events(settings, events)
        if not done:
            raise Refused(
                f"the cleanup policy of project {project!r} runs already: `registry-gateway cleanup status` shows it"
            )
        return await _get(database, project)


_EVENTS_AT_ONCE = 1000


async def _get(database: Database, project: str) -> StoredPolicy:
    """Get the policy of a project. Raises ProjectUnknown, Refused."""
    async with database.read() as connection:
        found = await projects.get(connection, project)
        stored = await cleanups.find(connection, found.id)
    if stored is None:
        raise Refused(
            f"project {project!r} has no cleanup policy: "
            f"`registry-gateway project update {project} --cleanup` makes one"
        )
    return stored


def state_of(stored: StoredPolicy, now: datetime) -> str:
    """One of STATES."""
    if stored.run_at is not None:
        return "running" if stored.leased_until is not None and stored.leased_until > now else "interrupted"
    return "scheduled" if stored.policy.enabled else "disabled"


def _policy_document(stored: StoredPolicy) -> Document:
    policy = stored.policy
    return {
        "project": stored.project,
        "state": state_of(stored, datetime.now(UTC)),
        "cadence": policy.cadence.value,
        "name_regex_delete": policy.name_regex_delete,
        "name_regex_keep": policy.name_regex_keep,
        "keep_n": policy.keep_n,
        "older_than": policy.older_than,
        "next_run_at": format_moment(stored.next_run_at) if policy.enabled else None,
        "run_at": _moment(stored.run_at),
        "completed_at": _moment(stored.completed_at),
        "repositories": stored.repositories,
        "cleaned": stored.cleaned,
        "deleted": stored.deleted,
        "problem": stored.problem,
    }


def _cleanup_document(cleanup: RepositoryCleanup) -> Document:
    return {
        "repository": cleanup.repository,
        "started_at": format_moment(cleanup.started_at),
        "completed_at": _moment(cleanup.completed_at),
        "deleted": cleanup.deleted,
        "kept": cleanup.kept,
    }


def _tag_document(judged: tuple[str, JudgedTag]) -> Document:
    repository, each = judged
    return {
        "repository": repository,
        "name": each.tag.name,
        "published_at": _moment(each.tag.published_at),
        "verdict": each.verdict.value,
        "rule": each.rule or None,
    }


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else format_moment(moment)
