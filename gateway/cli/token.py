"""`token`: personal access tokens of users."""

import asyncio
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
from gateway.cli.session import Session, with_session
from gateway.db import personal_tokens, users
from gateway.directory.token_administration import Issued, PersonalTokenAdministration
from gateway.namespaces.credentials import PersonalToken, Scope
from gateway.namespaces.node import NodeKey, NodeKind
from gateway.settings.tables import Settings

app = plain_app()

_COLUMNS = ["id", "user", "name", "scopes", "expires", "state", "last_used"]

Owner = Annotated[str, typer.Option("--user", metavar="U", help="The user whom the token belongs to.")]
Scopes = Annotated[list[Scope], typer.Option("--scope", help="What the token may be used for; repeat it for several.")]


@app.command()
@with_session
def create(session: Session, user: Owner, scope: Scopes, name: TokenName, expires: Expires = None) -> None:
    """Create a token, which is shown this once; it expires within 365 days, the default."""
    now = datetime.now(UTC)
    made = asyncio.run(_create(session.settings, user, name, scope, moment_of(expires, now), now))
    told = tell_token(made.token)
    note_change(session.settings, EventKind.CREATE, Subject.PERSONAL_TOKEN, user, name_token(made.token), after=told)
    print_token(session, "created personal access token", _document(made.token, user, now), made.secret)


@app.command("list")
@with_session
def list_all(
    session: Session, user: Annotated[str | None, typer.Option("--user", metavar="U", help="Only this user's.")] = None
) -> None:
    """List tokens, also those that expired or were revoked; their secrets are not stored."""
    documents = asyncio.run(_list(session.settings, user, datetime.now(UTC)))
    print_listed(session, documents, _COLUMNS)


@app.command()
@with_session
def revoke(session: Session, token_id: CredentialId) -> None:
    """End a token now, and for ever; it stays in the list."""
    now = datetime.now(UTC)
    token, user = asyncio.run(_revoke(session.settings, token_id, now))
    told = tell_token(token)
    note_change(session.settings, EventKind.DELETE, Subject.PERSONAL_TOKEN, user, name_token(token), before=told)
    print_token(session, "revoked personal access token", _document(token, user, now))


async def _create(
    settings: Settings, username: str, name: str, scopes: list[Scope], ends: datetime | None, now: datetime
) -> Issued[PersonalToken]:
    async with open_existing(settings) as database:
        user = await database.query(partial(users.get, name=username))
        return await PersonalTokenAdministration(database, lambda: now).create(user.id, name, scopes, ends)


async def _list(settings: Settings, username: str | None, now: datetime) -> list[Document]:
    async with open_existing(settings) as database, database.read() as connection:
        owner = None if username is None else (await users.get(connection, username)).id
        listed = await personal_tokens.list_all(connection, owner)
        names = await paths_of(connection, (_owner(token) for token in listed))
    return [_document(token, names[_owner(token)], now) for token in listed]


async def _revoke(settings: Settings, token_id: int, now: datetime) -> tuple[PersonalToken, str]:
    """End a token; returns it with the name of its user."""
    async with open_existing(settings) as database:
        token = await PersonalTokenAdministration(database, lambda: now).revoke(token_id)
        user = await database.query(partial(users.get_by_id, id=token.user_id))
        return token, user.name


def _owner(token: PersonalToken) -> NodeKey:
    return NodeKey(NodeKind.USER, token.user_id)


def _document(token: PersonalToken, user: str, now: datetime) -> Document:
    return {"id": token.id, "user": user, **token_document(token, now)}
