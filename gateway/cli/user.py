"""`user`: the people who have a login, each with a namespace for projects."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

import typer

from gateway.audit.event import EventKind, Subject
from gateway.audit.told import tell_user
from gateway.cli.audited import note_change, note_differences
from gateway.cli.folder import open_existing, open_made, read_pages
from gateway.cli.input_file import InputFile, input_file
from gateway.cli.output import Document, print_values
from gateway.cli.password_file import read_password
from gateway.cli.plain_options import plain_app
from gateway.cli.readable import changes
from gateway.cli.refusals import warn_of_host
from gateway.cli.session import Session, with_session
from gateway.db import users
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.directory.user_administration import UserAdministration
from gateway.keys.sealing import KEYS_DIRECTORY
from gateway.namespaces.expiry import format_moment
from gateway.namespaces.paths import parse_user_name
from gateway.namespaces.user import User, UserChanges, check_password
from gateway.settings.tables import Settings

app = plain_app()

_HEADINGS = ["Name", "State", "Kind", "E-mail"]

UserName = Annotated[str, typer.Argument(metavar="NAME", help="The name of the user, and of the user's namespace.")]


@dataclass(frozen=True, slots=True)
class UserOptions:
    """Properties of a user as they were given on the command line; None leaves a property as it is."""

    admin: Annotated[
        bool | None, typer.Option("--admin/--no-admin", help="Whether the user may do everything. [new users: no]")
    ] = None
    external: Annotated[
        bool | None,
        typer.Option(
            "--external/--no-external", help="Whether internal projects are hidden from the user. [new users: no]"
        ),
    ] = None
    email: Annotated[
        str | None, typer.Option("--email", metavar="E", help='The address of electronic mail; "" drops it.')
    ] = None
    password_file: Annotated[
        InputFile | None,
        typer.Option(
            "--password-file", parser=input_file, metavar="F", help="The file with the user's password, read now, once."
        ),
    ] = None
    block: Annotated[
        bool | None,
        typer.Option("--block/--unblock", help="Whether every credential of the user is refused. [new users: no]"),
    ] = None

    def hash_password(self) -> str | None:
        """Read the password file and hash what it holds; None if none is given. Raises Refused, PasswordRefused."""
        password = read_password(self.password_file)
        if password is None:
            return None
        check_password(password)
        from gateway.auth.passwords import hash_password  # without a password nothing hashes one

        return hash_password(password)

    def changes(self) -> UserChanges:
        """The given properties. Raises Refused, PasswordRefused."""
        return UserChanges(self.admin, self.external, self.email, self.block, self.hash_password())


@app.command()
@with_session
def create(session: Session, name: UserName, options: UserOptions) -> None:
    """Create a user; one without a password can only use tokens."""
    parse_user_name(name)
    user = asyncio.run(_create(session.settings, name, options.changes()))
    note_change(session.settings, EventKind.CREATE, Subject.USER, user.name, after=tell_user(user))
    warn_of_host(name)
    _print_done(session, user, "created")


@app.command("list")
@with_session
def list_all(session: Session) -> None:
    """List all users."""
    pages = read_pages(session.settings, _read_page, lambda user: user.name)
    asyncio.run(session.print_pages(pages, _document, _HEADINGS, _row))


@app.command()
@with_session
def show(session: Session, name: UserName) -> None:
    """Show one user."""
    user = asyncio.run(_get(session.settings, name))
    session.print(_document(user), lambda: print_values(_shown(user)))


@app.command()
@with_session
def update(session: Session, name: UserName, options: UserOptions) -> None:
    """Change the given properties of a user; the others stay. A running server applies them to its next request."""
    before, user = asyncio.run(_update(session.settings, name, options.changes()))
    if user != before:
        note_differences(session.settings, Subject.USER, user.name, tell_user(before), tell_user(user))
    told = changes(_shown(before), _shown(user), datetime.now(UTC))
    session.print(_document(user), lambda: print(f"updated user {name}: {told}"))


@app.command()
@with_session
def delete(session: Session, name: UserName) -> None:
    """Delete a user with the user's memberships and tokens; the namespace must hold no project."""
    user = asyncio.run(_delete(session.settings, name))
    note_change(session.settings, EventKind.DELETE, Subject.USER, user.name, before=tell_user(user))
    _print_done(session, user, "deleted")


async def _create(settings: Settings, name: str, given: UserChanges) -> User:
    async with open_made(settings) as database:
        return await _administration(database, settings).create(name, given)


async def _read_page(connection: Connection, after: str, limit: int) -> list[User]:
    return await users.list_all(connection, after=after, limit=limit)


async def _get(settings: Settings, name: str) -> User:
    async with open_existing(settings) as database, database.read() as connection:
        return await users.get(connection, name)


async def _update(settings: Settings, name: str, given: UserChanges) -> tuple[User, User]:
    """Change a user; returns the user as before, and as now."""
    async with open_existing(settings) as database:
        found = await database.query(partial(users.get, name=name))
        return await _administration(database, settings).update(found.id, given)


async def _delete(settings: Settings, name: str) -> User:
    async with open_existing(settings) as database:
        found = await database.query(partial(users.get, name=name))
        return await _administration(database, settings).delete(found.id)


def _administration(database: Database, settings: Settings) -> UserAdministration:
    return UserAdministration(database, settings.data / KEYS_DIRECTORY, lambda: datetime.now(UTC))


def _print_done(session: Session, user: User, done: str) -> None:
    name, state, kind, _ = _row(user)
    session.print(_document(user), lambda: print(f"{done} user {name}: {state}, {kind}"))


def _shown(user: User) -> dict[str, object]:
    """A user as people read it: the columns of lists, and the rest."""
    changed = user.password_changed_at
    return {
        **dict(zip([heading.lower() for heading in _HEADINGS], _row(user), strict=True)),
        "password_changed_at": changed and format_moment(changed),
        "created": format_moment(user.created_at),
    }


def _row(user: User) -> tuple[str, ...]:
    kinds = [word for word, holds in (("administrator", user.admin), ("external", user.external)) if holds]
    return user.name, user.state, ", ".join(kinds) or "regular", user.email or "-"


def _document(user: User) -> Document:
    return {
        "id": user.id,
        "name": user.name,
        "state": user.state,
        "admin": user.admin,
        "external": user.external,
        "email": user.email,
        "has_password": user.password_hash is not None,
        "created_at": format_moment(user.created_at),
    }
