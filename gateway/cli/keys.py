"""`keys`: lists and rotates the keys that sign tokens."""

import asyncio
from datetime import UTC, datetime

from gateway.cli import folder
from gateway.cli.output import Document, print_columns
from gateway.cli.plain_options import plain_app
from gateway.cli.session import Session, with_session
from gateway.keys import signing
from gateway.keys.sealing import KEYS_DIRECTORY
from gateway.keys.signing import SigningKey, SigningKeys
from gateway.namespaces.expiry import format_moment

app = plain_app()

_COLUMNS = ["id", "created", "used_for"]


@app.command("list")
@with_session
def list_keys(session: Session) -> None:
    """List the keys that sign or verify tokens; the first one is made where there is none."""
    asyncio.run(folder.require(session.settings))
    _print(session, SigningKeys(session.settings.data / KEYS_DIRECTORY).published(datetime.now(UTC)))


@app.command()
@with_session
def rotate(session: Session) -> None:
    """Make a new key that signs from now on; the old ones verify until the last of their tokens has expired."""
    asyncio.run(folder.require(session.settings))
    _print(session, signing.rotate(session.settings.data / KEYS_DIRECTORY, datetime.now(UTC)))


def _print(session: Session, keys: list[SigningKey]) -> None:
    documents = [_document(key) for key in reversed(keys)]
    session.print(documents, lambda: print_columns(documents, _COLUMNS))


def _document(key: SigningKey) -> Document:
    until = key.verifies_until
    return {
        "id": key.id,
        "created": format_moment(key.created_at),
        "used_for": "signing tokens" if until is None else f"verifying tokens until {format_moment(until)}",
    }
