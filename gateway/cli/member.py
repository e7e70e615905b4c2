"""`member`: the roles of users in groups and projects."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import typer

from gateway.audit.event import EventKind, Subject
from gateway.audit.told import tell_role
from gateway.cli.audited import note_change
from gateway.cli.folder import open_existing
from gateway.cli.output import Document, print_table
from gateway.cli.plain_options import plain_app
from gateway.cli.readable import changes, moment_text
from gateway.cli.session import Session, with_session
from gateway.db import members, paths, users
from gateway.namespaces.expiry import format_moment, parse_expiry
from gateway.namespaces.member import Member
from gateway.namespaces.node import NodeKind, prefixes_of
from gateway.namespaces.role import Role
from gateway.settings.tables import Settings

app = plain_app()

_HEADINGS = ["User", "Role", "Source", "Expires"]

NodePath = Annotated[str, typer.Argument(metavar="PATH", help="The full path of a group or project.")]
MemberName = Annotated[str, typer.Argument(metavar="USER", help="The name of the user.")]


@dataclass(frozen=True, slots=True)
class _Shown:
    """A membership in words. `source`: the path of the node that has the member."""

    user: str
    role: Role
    source: str
    expires_at: datetime | None = None
    expired: bool = False


@app.command()
@with_session
def add(
    session: Session,
    path: NodePath,
    user: MemberName,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="guest, reporter, developer, maintainer or owner.")],
    expires: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="The day, UTC, from whose midnight on it means nothing. [default: never]"),
    ] = None,
) -> None:
    """Give a user a role in a group or project, and in all below it; replaces the role and expiry of a member."""
    now = datetime.now(UTC)
    try:
        parsed = Role.parse(role)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    expires_at = None if expires is None else parse_expiry(expires, now)
    shown, before = asyncio.run(_add(session.settings, path, user, parsed, expires_at, now))
    kind, former = (EventKind.CREATE, None) if before is None else (EventKind.UPDATE, _told(before))
    note_change(session.settings, kind, Subject.MEMBER, path, user, before=former, after=_told(shown))
    if before is None:
        _print_done(session, shown, "added")
        return
    told = changes(_changeable(before), _changeable(shown), now)
    session.print(_document(shown), lambda: print(f"changed member {user} of {path}: {told}"))


@app.command("list")
@with_session
def list_all(session: Session, path: NodePath) -> None:
    """List the members of a group or project, those that it has from above included."""
    listed = asyncio.run(_list(session.settings, path))
    now = datetime.now(UTC)
    rows = [_row(shown, now) for shown in listed]
    session.print([_document(shown) for shown in listed], lambda: print_table(_HEADINGS, rows))


@app.command()
@with_session
def remove(session: Session, path: NodePath, user: MemberName) -> None:
    """Remove a member; roles from above stay."""
    shown = asyncio.run(_remove(session.settings, path, user))
    note_change(session.settings, EventKind.DELETE, Subject.MEMBER, path, user, before=_told(shown))
    _print_done(session, shown, "removed")


async def _add(
    settings: Settings, path: str, name: str, role: Role, expires_at: datetime | None, now: datetime
) -> tuple[_Shown, _Shown | None]:
    """Store the membership; also returns the one that it replaces."""
    async with open_existing(settings) as database, database.write() as connection:
        node, user = (await paths.get(connection, path)).key, await users.get(connection, name)
        old = await members.find(connection, node, user.id)
        member = Member(node, user.id, role, expires_at, now)
        await (members.add(connection, member) if old is None else members.update(connection, member, now))
        before = None if old is None else _Shown(name, old.role, path, old.expires_at)
        return _Shown(name, role, path, expires_at), before


async def _list(settings: Settings, path: str) -> list[_Shown]:
    async with open_existing(settings) as database, database.read() as connection:
        now = datetime.now(UTC)
        await paths.get(connection, path)
        places = await paths.find_all(connection, prefixes_of(path))
        sources = {place.key: place.path for place in places}
        found = await members.list_of(connection, sources)
        names = await users.names_of(connection, {member.user_id for member in found})
        owners = [_Shown(place.path, Role.OWNER, place.path) for place in places if place.key.kind is NodeKind.USER]
        listed = [
            _Shown(
                names[member.user_id], member.role, sources[member.node], member.expires_at, not member.is_active(now)
            )
            for member in found
        ]
        return sorted([*owners, *listed], key=lambda shown: (shown.user, len(shown.source)))


async def _remove(settings: Settings, path: str, name: str) -> _Shown:
    async with open_existing(settings) as database, database.write() as connection:
        node, user = (await paths.get(connection, path)).key, await users.get(connection, name)
        member = await members.remove(connection, node, user.id)
        return _Shown(name, member.role, path, member.expires_at, not member.is_active(datetime.now(UTC)))


def _print_done(session: Session, shown: _Shown, done: str) -> None:
    text = f"{done} member {shown.user} of {shown.source}: {_told(shown)}"
    session.print(_document(shown), lambda: print(text))


def _told(shown: _Shown) -> str:
    return tell_role(shown.role, shown.expires_at)


def _changeable(shown: _Shown) -> Document:
    return {name: value for name, value in _document(shown).items() if name in ("role", "expires")}


def _row(shown: _Shown, now: datetime) -> tuple[str, ...]:
    expires = "never" if shown.expires_at is None else moment_text(shown.expires_at, now)
    return shown.user, shown.role.word, shown.source, f"has expired, {expires}" if shown.expired else expires


def _document(shown: _Shown) -> Document:
    return {
        "user": shown.user,
        "role": shown.role.word,
        "source": shown.source,
        "expires": None if shown.expires_at is None else format_moment(shown.expires_at),
        "active": not shown.expired,
    }
