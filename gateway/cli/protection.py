"""`project protect` and the like: the rules by which a project protects repositories and tags."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from gateway.audit.event import EventKind, Subject
from gateway.audit.told import tell_rule
from gateway.cli.audited import note_change
from gateway.cli.folder import open_existing
from gateway.cli.output import Document, print_columns
from gateway.cli.plain_options import plain_app
from gateway.cli.project import ProjectPath
from gateway.cli.refusals import Refused
from gateway.cli.session import Session, with_session
from gateway.db import projects, protections
from gateway.namespaces.expiry import format_moment
from gateway.namespaces.project import Project
from gateway.namespaces.protection import ProtectionKind, ProtectionLevel, ProtectionRule, below_project
from gateway.settings.tables import Settings

app = plain_app()

_COLUMNS = ["id", "kind", "pattern", "push", "delete"]
_LEVELS = "maintainer|owner|admin"


@app.command()
@with_session
def protect(
    session: Session,
    path: ProjectPath,
    repository: Annotated[
        str | None,
        typer.Option(
            "--repository",
            metavar="PATTERN",
            help="Protect repositories by their whole path, such as team/app/web*; * stands for any text.",
        ),
    ] = None,
    tag: Annotated[
        str | None,
        typer.Option("--tag", metavar="REGEX", help="Protect tags whose whole name matches, in all its repositories."),
    ] = None,
    immutable: Annotated[
        str | None,
        typer.Option("--immutable", metavar="REGEX", help="Let nobody move or delete tags whose whole name matches."),
    ] = None,
    push: Annotated[str | None, typer.Option("--push", metavar=_LEVELS, help="The weakest who may push there.")] = None,
    delete: Annotated[
        str | None, typer.Option("--delete", metavar=_LEVELS, help="The weakest who may delete it.")
    ] = None,
) -> None:
    """Protect repositories or tags of a project. A running server applies the rule to its next request."""
    given = {
        ProtectionKind.REPOSITORY: repository,
        ProtectionKind.TAG: tag,
        ProtectionKind.IMMUTABLE: immutable,
    }
    named = [(kind, pattern) for kind, pattern in given.items() if pattern is not None]
    if len(named) != 1:
        raise Refused("say what to protect: give one of --repository, --tag and --immutable")
    [(kind, pattern)] = named
    levels = _parse_level("--push", push), _parse_level("--delete", delete)
    project, rule = asyncio.run(_create(session.settings, path, kind, pattern, *levels))
    told = tell_rule(rule)
    note_change(session.settings, EventKind.CREATE, Subject.PROTECTION_RULE, path, str(rule.id), after=told)
    document = _document(project, rule)
    session.print(document, lambda: print(f"made {kind} rule {rule.id} of project {path}: {document['pattern']}"))


@app.command()
@with_session
def protection(session: Session, path: ProjectPath) -> None:
    """List the protection rules of a project."""
    project, rules = asyncio.run(_list(session.settings, path))
    documents = [_document(project, rule) for rule in rules]
    session.print(documents, lambda: print_columns(documents, _COLUMNS))


@app.command()
@with_session
def unprotect(
    session: Session,
    path: ProjectPath,
    rule_id: Annotated[int, typer.Argument(metavar="ID", help="The number of the rule.")],
) -> None:
    """Delete a protection rule of a project."""
    project, rule = asyncio.run(_delete(session.settings, path, rule_id))
    told = tell_rule(rule)
    note_change(session.settings, EventKind.DELETE, Subject.PROTECTION_RULE, path, str(rule.id), before=told)
    document = _document(project, rule)
    session.print(
        document, lambda: print(f"deleted {rule.kind} rule {rule.id} of project {path}: {document['pattern']}")
    )


async def _create(
    settings: Settings,
    path: str,
    kind: ProtectionKind,
    pattern: str,
    push: ProtectionLevel | None,
    delete: ProtectionLevel | None,
) -> tuple[Project, ProtectionRule]:
    async with open_existing(settings) as database, database.write() as connection:
        project = await projects.get(connection, path)
        stored = below_project(project.path, pattern) if kind is ProtectionKind.REPOSITORY else pattern
        now = datetime.now(UTC)
        return project, await protections.create(connection, project, kind, stored, now, push=push, delete=delete)


async def _list(settings: Settings, path: str) -> tuple[Project, Sequence[ProtectionRule]]:
    async with open_existing(settings) as database, database.read() as connection:
        project = await projects.get(connection, path)
        return project, await protections.list_of(connection, project.id)


async def _delete(settings: Settings, path: str, rule_id: int) -> tuple[Project, ProtectionRule]:
    async with open_existing(settings) as database, database.write() as connection:
        project = await projects.get(connection, path)
        return project, await protections.delete(connection, project, rule_id)


def _parse_level(option: str, text: str | None) -> ProtectionLevel | None:
    """Read the level of an option; None where it was not given. Raises Refused."""
    if text is None:
        return None
    try:
        return ProtectionLevel[text.upper()]
    except KeyError:
        words = ", ".join(level.word for level in ProtectionLevel)
        raise Refused(f"{text!r} is no level: give {option} one of {words}") from None


def _document(project: Project, rule: ProtectionRule) -> Document:
    return {
        "id": rule.id,
        "kind": rule.kind.value,
        "pattern": f"{project.path}{rule.pattern}" if rule.kind is ProtectionKind.REPOSITORY else rule.pattern,
        "push": rule.push.word if rule.push is not None else None,
        "delete": rule.delete.word if rule.delete is not None else None,
        "created_at": format_moment(rule.created_at),
    }
