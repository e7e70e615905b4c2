"""Moves, as `group move`, `project move` and `repository move` do and tell them."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from gateway.cli.audited import note_move
from gateway.cli.folder import open_existing
from gateway.cli.output import Document
from gateway.cli.session import Session
from gateway.db.connection import Connection
from gateway.db.moves import Moved
from gateway.namespaces.expiry import format_moment
from gateway.namespaces.old_path import MovedKind
from gateway.settings.tables import Settings

OldPathArgument = Annotated[str, typer.Argument(metavar="OLD", help="The full path now.", show_default=False)]
NewPathArgument = Annotated[str, typer.Argument(metavar="NEW", help="The full path to be.", show_default=False)]

Move = Callable[[Connection, str, str, datetime, timedelta], Awaitable[Moved]]


async def move(settings: Settings, moved: Move, old: str, new: str) -> Moved:
    """Do a move in one transaction. Raises what it raises, and Refused, DatabaseUnusable."""
    async with open_existing(settings) as database, database.write() as connection:
        return await moved(connection, old, new, datetime.now(UTC), settings.names.old_paths)


def print_moved(session: Session, moved: Moved) -> None:
    """Note what has moved in the audit log, and print it, and until when its old path leads to it."""
    note_move(session.settings, moved)
    session.print(_document(moved), lambda: print(_told(moved)))


def _told(moved: Moved) -> str:
    counts = [] if moved.kind is MovedKind.REPOSITORY else [_count(moved.repositories, "repository", "repositories")]
    counts += [_count(moved.projects, "project", "projects")] if moved.kind is MovedKind.GROUP else []
    held = f" with {' and '.join(reversed(counts))}" if counts else ""
    text = f"moved {moved.kind} {moved.old} to {moved.new}{held}"
    if moved.until is None:
        return f"{text}; its old path leads nowhere any more"
    until, back = format_moment(moved.until), f"registry-gateway {moved.kind} move {moved.new} {moved.old}"
    return f"{text}; until {until} the old path is pulled from too, and stays reserved (undo: {back})"


def _count(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _document(moved: Moved) -> Document:
    return {
        "id": moved.id,
        "path": moved.new,
        "old_path": moved.old,
        "old_path_until": None if moved.until is None else format_moment(moved.until),
        "projects": moved.projects,
        "repositories": moved.repositories,
    }
