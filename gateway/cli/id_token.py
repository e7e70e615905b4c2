"""`id-token`: logins by ID tokens of issuers, each listed, and ended before its time."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import typer

from gateway.audit.event import EventKind, Subject
from gateway.cli.audited import note_change
from gateway.cli.credential_texts import CredentialId, paths_of, print_listed, state_of
from gateway.cli.folder import open_existing
from gateway.cli.output import Document, time_text
from gateway.cli.plain_options import plain_app
from gateway.cli.session import Session, with_session
from gateway.db import id_token_logins
from gateway.db.connection import Connection
from gateway.namespaces.credentials import IdTokenLogin
from gateway.namespaces.node import NodeKey, NodeKind
from gateway.settings.tables import Settings

app = plain_app()

_COLUMNS = ["id", "issuer", "subject", "user", "expires", "state", "last_used"]


@app.command("list")
@with_session
def list_all(
    session: Session, ended: Annotated[bool, typer.Option("--all", help="Also the logins that have ended.")] = False
) -> None:
    """List the logins that have not ended."""
    print_listed(session, asyncio.run(_list(session.settings, ended)), _COLUMNS)


@app.command()
@with_session
def revoke(session: Session, login_id: CredentialId) -> None:
    """End a login now; its ID token begins no other one."""
    document = asyncio.run(_revoke(session.settings, login_id))
    told = f"login {document['id']} by an ID token of {document['issuer']}"
    note_change(session.settings, EventKind.REVOKE, Subject.TOKEN, str(document["user"]), after=told)
    session.print(document, lambda: print(f"revoked {told}, subject {document['subject']}"))


async def _list(settings: Settings, ended: bool) -> list[Document]:
    now = datetime.now(UTC)
    async with open_existing(settings) as database, database.read() as connection:
        return await _documents(connection, await id_token_logins.list_all(connection, None if ended else now), now)


async def _revoke(settings: Settings, login_id: int) -> Document:
    now = datetime.now(UTC)
    async with open_existing(settings) as database, database.write() as connection:
        (document,) = await _documents(connection, [await id_token_logins.end(connection, login_id, now)], now)
        return document


async def _documents(connection: Connection, listed: list[IdTokenLogin], now: datetime) -> list[Document]:
    users = {login.user_id: NodeKey(NodeKind.USER, login.user_id) for login in listed}
    names = await paths_of(connection, users.values())
    return [_document(login, names[users[login.user_id]], now) for login in listed]


def _document(login: IdTokenLogin, user: str, now: datetime) -> Document:
    return {
        "id": login.id,
        "issuer": login.issuer,
        "subject": login.subject,
        "user": user,
        "created": time_text(login.created_at),
        "expires": time_text(login.expires_at),
        "last_used": time_text(login.last_used_at),
        "state": state_of(login, now),
    }
