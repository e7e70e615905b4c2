"""`deploy-token`: deploy tokens of projects and groups."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

import typer

from gateway.audit.event import EventKind, Subject
from gateway.audit.told import name_token, tell_token
from gateway.cli.audited import note_change
from gateway.cli.credential_texts import (
    CredentialId,
    Expires,
    TokenName,
    moment_of,
    paths_of,
    print_listed,
    print_token,
    token_document,
)
from gateway.cli.folder import open_existing
from gateway.cli.output import Document
from gateway.cli.plain_options import plain_app
from gateway.cli.refusals import Refused
from gateway.cli.session import Session, with_session
from gateway.db import deploy_tokens, groups, paths, projects
from gateway.db.connection import Connection
from gateway.directory.token_administration import DeployTokenAdministration, Issued
from gateway.namespaces.credentials import DeployToken, Scope
from gateway.namespaces.node import NodeKey, NodeKind
from gateway.settings.tables import Settings

app = plain_app()

_COLUMNS = ["id", "path", "name", "username", "scopes", "expires", "state", "last_used"]


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """The project or group of deploy tokens, as it was given on the command line."""

    project: Annotated[str | None, typer.Option("--project", metavar="P", help="The project of the tokens.")] = None
    group: Annotated[str | None, typer.Option("--group", metavar="G", help="The group, for all projects below it.")] = (
        None
    )

    async def find(self, connection: Connection) -> NodeKey | None:
        """Find the node; None if none was given. Raises Refused, ProjectUnknown, GroupUnknown."""
        if self.project is not None and self.group is not None:
            raise Refused("a deploy token belongs to a project or to a group: give --project or --group, not both")
        if self.project is not None:
            return (await projects.get(connection, self.project)).key
        if self.group is not None:
            return NodeKey(NodeKind.GROUP, (await groups.get(connection, self.group)).id)
        return None


@dataclass(frozen=True, slots=True)
class TokenOptions:
    """Properties of a new deploy token, as they were given on the command line."""

    scope: Annotated[
        list[Scope],
        typer.Option("--scope", metavar="S", help="read_registry (pull) or write_registry (push); repeat it for both."),
    ]
    name: TokenName
    username: Annotated[
        str | None,
        typer.Option("--username", metavar="N", help="The user name beside it. [default: gitlab+deploy-token-ID]"),
    ] = None
    expires: Expires = None


@app.command()
@with_session
def create(session: Session, node: NodeOptions, options: TokenOptions) -> None:
    """Create a token, which is shown this once; it does not expire unless that is given."""
    now = datetime.now(UTC)
    made, path = asyncio.run(_create(session.settings, node, options, now))
    token = made.token
    told = tell_token(token)
    note_change(session.settings, EventKind.CREATE, Subject.DEPLOY_TOKEN, path, name_token(token), after=told)
    print_token(session, "created deploy token", _document(token, path, now), made.secret)


@app.command("list")
@with_session
def list_all(session: Session, node: NodeOptions) -> None:
    """List tokens, also those that expired or were revoked; their secrets are not stored."""
    print_listed(session, asyncio.run(_list(session.settings, node, datetime.now(UTC))), _COLUMNS)


@app.command()
@with_session
def revoke(session: Session, token_id: CredentialId) -> None:
    """End a token now, and for ever, with the secrets that stand for it in jobs; it stays in the list."""
    now = datetime.now(UTC)
    token, path = asyncio.run(_revoke(session.settings, token_id, now))
    told = tell_token(token)
    note_change(session.settings, EventKind.DELETE, Subject.DEPLOY_TOKEN, path, name_token(token), before=told)
    print_token(session, "revoked deploy token", _document(token, path, now))


async def _create(
    settings: Settings, node: NodeOptions, options: TokenOptions, now: datetime
) -> tuple[Issued[DeployToken], str]:
    """Make a token; returns it with the path of its project or group."""
    ends = moment_of(options.expires, now)
    async with open_existing(settings) as database:
        key = await database.query(node.find)
        if key is None:
            raise Refused("a deploy token belongs to a project or to a group: give --project or --group")
        administration = DeployTokenAdministration(database, lambda: now)
        made = await administration.create(key, options.name, options.username, options.scope, ends)
        path = await database.query(partial(paths.get_of, key=key))
        return made, path.path


async def _list(settings: Settings, node: NodeOptions, now: datetime) -> list[Document]:
    async with open_existing(settings) as database, database.read() as connection:
        listed = await deploy_tokens.list_all(connection, await node.find(connection))
        places = await paths_of(connection, (token.node for token in listed))
    return [_document(token, places[token.node], now) for token in listed]


async def _revoke(settings: Settings, token_id: int, now: datetime) -> tuple[DeployToken, str]:
    """End a token; returns it with the path of its project or group."""
    async with open_existing(settings) as database:
        token = await DeployTokenAdministration(database, lambda: now).revoke(token_id)
        path = await database.query(partial(paths.get_of, key=token.node))
        return token, path.path


def _document(token: DeployToken, path: str, now: datetime) -> Document:
    return {
        "id": token.id,
        "path": path,
        "kind": token.node.kind.value,
        "username": token.username,
        **token_document(token, now),
    }
