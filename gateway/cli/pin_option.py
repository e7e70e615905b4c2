"""The option by which a group or project is pinned to a moment."""

from datetime import datetime
from typing import Annotated

import typer

from gateway.db import pins
from gateway.db.connection import Connection
from gateway.namespaces.expiry import parse_as_of
from gateway.namespaces.node import NodeKey

PRESENT = "now"

AsOfOption = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        metavar="TIME",
        help="Let pulls of tags show a date or time, or so long ago (12h), and refuse pushes; now: end that.",
        show_default=False,
    ),
]


async def apply_pin(connection: Connection, key: NodeKey, path: str, as_of: str | None, now: datetime) -> None:
    """Pin a group or project as an option says; None leaves it as it is. Raises ExpiryInvalid, PinRefused."""
    if as_of is not None:
        await pins.pin(connection, key, path, None if as_of == PRESENT else parse_as_of(as_of, now), now)
