"""Options, rows and documents that the commands of tokens and jobs share."""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from gateway.cli import readable
from gateway.cli.output import Document, print_columns, time_text
from gateway.cli.session import Session
from gateway.db import paths, users
from gateway.db.connection import Connection
from gateway.namespaces.credential_rules import find_ending
from gateway.namespaces.credentials import Credential, DeployToken, PersonalToken, Scope
from gateway.namespaces.expiry import FORMS, parse_expiry
from gateway.namespaces.node import NodeKey, NodeKind

ID_LIMIT = 2**31 - 1
"""The largest id that both database engines can hold."""

CredentialId = Annotated[int, typer.Argument(metavar="ID", min=1, max=ID_LIMIT, help="The id, as lists show it.")]
Expires = Annotated[str | None, typer.Option("--expires", metavar="DATE", help=f"The end: {FORMS}.")]
TokenName = Annotated[str, typer.Option("--name", metavar="N", help="What the token is for; names need not differ.")]


def moment_of(expires: str | None, now: datetime) -> datetime | None:
    """Read an option that may be missing. Raises ExpiryInvalid."""
    return None if expires is None else parse_expiry(expires, now)


def token_document(token: PersonalToken | DeployToken, now: datetime) -> Document:
    """Build the JSON that the documents of both kinds of tokens have in common; there is no secret in it."""
    return {
        "name": token.name,
        "scopes": _ordered(token.scopes),
        "created": time_text(token.created_at),
        "expires": time_text(token.expires_at),
        "revoked": time_text(token.revoked_at),
        "last_used": time_text(token.last_used_at),
        "state": state_of(token, now),
    }


def state_of(credential: Credential, now: datetime) -> str:
    """The word for the state of a credential: `active`, or how it ended."""
    ending = find_ending(credential, now)
    return ending.kind.value if ending else "active"


def print_token(session: Session, done: str, document: Document, secret: str | None = None) -> None:
    """Print what was done to a token. `secret`: of a new one."""
    owner = document.get("user") or document.get("path")
    end = f"expires {document['expires']}" if document["expires"] else "does not expire"
    scopes = readable.cell("scopes", document["scopes"], datetime.now(UTC))
    lines = [f"{done} {document['id']} of {owner}: {scopes}, {end}"]
    if secret is not None:
        lines += [f"user name: {document['username']}"] if "username" in document else []
        lines += [f"token, shown this once: {secret}"]
    shown = document if secret is None else {**document, "token": secret}
    session.print(shown, lambda: print("\n".join(lines)))


def print_listed(session: Session, documents: Sequence[Document], columns: Sequence[str]) -> None:
    """Print documents, with a row of the named values for each."""
    session.print(documents, lambda: print_columns(documents, columns))


async def paths_of(connection: Connection, keys: Iterable[NodeKey]) -> dict[NodeKey, str]:
    """Find the paths of nodes, and the names of users, with few queries for many."""
    wanted = set(keys)
    found = {entry.key: entry.path for entry in await paths.find_of(connection, wanted)}
    bots = [key.id for key in wanted - found.keys() if key.kind is NodeKind.USER]
    named = await users.names_of(connection, bots) if bots else {}
    return found | {NodeKey(NodeKind.USER, id): name for id, name in named.items()}


def _ordered(scopes: Collection[Scope]) -> list[str]:
    return [scope.value for scope in Scope if scope in scopes]
