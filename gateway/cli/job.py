"""`job`: CI jobs, each with its token and the variables of GitLab's user guide."""

import asyncio
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import typer

from gateway.audit.event import EventKind, Subject
from gateway.cli.audited import note_change
from gateway.cli.credential_texts import CredentialId, moment_of, paths_of, print_listed, state_of
from gateway.cli.folder import open_existing
from gateway.cli.output import Document, time_text
from gateway.cli.plain_options import plain_app
from gateway.cli.registry_address import registry_url
from gateway.cli.session import Session, with_session
from gateway.db import jobs, projects, users
from gateway.db.connection import Connection
from gateway.directory.job_administration import JobAdministration
from gateway.namespaces.ci_variables import registry_host
from gateway.namespaces.credentials import Job
from gateway.namespaces.expiry import FORMS
from gateway.namespaces.node import NodeKey, NodeKind
from gateway.settings.tables import Settings

app = plain_app()

_COLUMNS = ["id", "project", "user", "ref", "expires", "state", "last_used"]


@dataclass(frozen=True, slots=True)
class JobOptions:
    """Properties of a new job, as they were given on the command line."""

    user: Annotated[
        str, typer.Option("--user", metavar="U", help="On whose behalf it runs: a developer of the project at least.")
    ]
    ref: Annotated[
        str | None, typer.Option("--ref", metavar="R", help="The branch or tag, from which a slug is made.")
    ] = None
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="TIME", help=f"The end, within 30 days: {FORMS}. [default: 1h]"),
    ] = None


@app.command()
@with_session
def start(
    session: Session,
    project: Annotated[str, typer.Argument(metavar="PROJECT", help="The full path of the project.")],
    options: JobOptions,
) -> None:
    """Start a job and print its CI variables, as lines for a shell; the passwords are shown this once."""
    host = registry_host(registry_url(session.settings))
    document, variables = asyncio.run(_start(session.settings, project, options, host))
    _note(session.settings, EventKind.GRANT, document)
    session.print({**document, "variables": variables}, lambda: _print_started(document, variables))


@app.command()
@with_session
def finish(session: Session, job_id: CredentialId) -> None:
    """End a job now, with all its secrets."""
    document, had_ended = asyncio.run(_finish(session.settings, job_id))
    if not had_ended:
        _note(session.settings, EventKind.REVOKE, document)
    text = f"finished job {document['id']} of {document['project']}"
    session.print(document, lambda: print(text))


@app.command("list")
@with_session
def list_all(
    session: Session,
    project: Annotated[
        str | None, typer.Option("--project", metavar="P", help="Only the jobs of this project.")
    ] = None,
    ended: Annotated[bool, typer.Option("--all", help="Also the jobs that were finished or expired.")] = False,
) -> None:
    """List the jobs that run."""
    print_listed(session, asyncio.run(_list(session.settings, project, ended)), _COLUMNS)


async def _start(settings: Settings, path: str, options: JobOptions, host: str) -> tuple[Document, Mapping[str, str]]:
    now = datetime.now(UTC)
    ends = moment_of(options.expires, now)
    async with open_existing(settings) as database:
        async with database.read() as connection:
            project, user = await projects.get(connection, path), await users.get(connection, options.user)
        administration = JobAdministration(database, lambda: now)
        started = await administration.start(project.id, user.id, options.ref, ends, host)
    return _document(started.job, project.path, user.name, now), started.variables


async def _finish(settings: Settings, job_id: int) -> tuple[Document, bool]:
    """The job, and whether it had been finished before."""
    now = datetime.now(UTC)
    async with open_existing(settings) as database, database.write() as connection:
        had_ended = (await jobs.get(connection, job_id)).finished_at is not None
        (document,) = await _documents(connection, [await jobs.finish(connection, job_id, now)], now)
        return document, had_ended


def _note(settings: Settings, kind: EventKind, document: Document) -> None:
    """Note that the token of a job was granted or revoked, as the REST API does."""
    note_change(settings, kind, Subject.TOKEN, str(document["project"]), after=f"job {document['id']}")


async def _list(settings: Settings, path: str | None, ended: bool) -> list[Document]:
    now = datetime.now(UTC)
    async with open_existing(settings) as database, database.read() as connection:
        project_id = None if path is None else (await projects.get(connection, path)).id
        if ended:
            return await _documents(connection, await jobs.list_all(connection, project_id), now)
        return await _documents(connection, await jobs.list_running(connection, now, project_id), now)


async def _documents(connection: Connection, listed: list[Job], now: datetime) -> list[Document]:
    names = await paths_of(connection, (key for job in listed for key in (_project(job), _user(job))))
    return [_document(job, names[_project(job)], names[_user(job)], now) for job in listed]


def _project(job: Job) -> NodeKey:
    return NodeKey(NodeKind.PROJECT, job.project_id)


def _user(job: Job) -> NodeKey:
    return NodeKey(NodeKind.USER, job.user_id)


def _document(job: Job, project: str, user: str, now: datetime) -> Document:
    return {
        "id": job.id,
        "project": project,
        "user": user,
        "ref": job.ref,
        "created": time_text(job.created_at),
        "expires": time_text(job.expires_at),
        "finished": time_text(job.finished_at),
        "last_used": time_text(job.last_used_at),
        "state": state_of(job, now),
    }


def _print_started(document: Document, variables: Mapping[str, str]) -> None:
    """Print lines that a shell can evaluate."""
    print(
        f"# job {document['id']} of {document['project']} on behalf of {document['user']} until {document['expires']}"
    )
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")
