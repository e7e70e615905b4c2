"""`group`: the groups of the tree, each with its dependency proxy."""

import asyncio
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated

import typer

from cache.index.admin import CacheAdmin
from cache.policy.gate import OPEN
from cache.sqlite import DatabaseUnusable
from gateway.audit.event import EventKind, Subject
from gateway.audit.told import tell_group
from gateway.cli.audited import note_change, note_differences, note_pin
from gateway.cli.folder import open_existing, open_made, read_groups
from gateway.cli.gate_options import GateOptions
from gateway.cli.input_file import InputFile, input_file
from gateway.cli.moving import NewPathArgument, OldPathArgument, move, print_moved
from gateway.cli.output import Document, print_table, print_values
from gateway.cli.password_file import read_password
from gateway.cli.pin_option import AsOfOption, apply_pin
from gateway.cli.plain_options import plain_app
from gateway.cli.quota_option import QuotaOption, apply_quota
from gateway.cli.readable import NOTHING, changes
from gateway.cli.refusals import Refused, complain, warn_of_host
from gateway.cli.session import Session, given, with_session
from gateway.db import groups, members, moves
from gateway.keys.sealing import KEYS_DIRECTORY, Sealer
from gateway.keys.upstream_login import seal_login
from gateway.namespaces.expiry import format_moment
from gateway.namespaces.gate_document import gate_to_document
from gateway.namespaces.group import Group, Login
from gateway.namespaces.node import Visibility
from gateway.namespaces.paths import parse_group_path, parse_upstream_name
from gateway.settings.tables import Settings

app = plain_app()

_HEADINGS = ["Path", "Visibility", "Dependency proxy", "Default upstream", "Upstream login"]

GroupPath = Annotated[str, typer.Argument(metavar="PATH", help="The full path of the group, such as team/images.")]


@dataclass(frozen=True, slots=True)
class GroupOptions:
    """Properties of a group as they were given on the command line; None leaves a property as it is."""

    visibility: Annotated[
        Visibility | None,
        typer.Option(
            "--visibility", help="Who may see the group; at most as many as see the one above. [new groups: private]"
        ),
    ] = None
    proxy: Annotated[
        bool | None, typer.Option("--proxy/--no-proxy", help="The group's dependency proxy. [new groups: on]")
    ] = None
    anonymous_pull: Annotated[
        bool | None,
        typer.Option(
            "--anonymous-pull/--no-anonymous-pull",
            help="Whether everybody may pull through it; the group must be public. [new groups: off]",
        ),
    ] = None
    default_upstream: Annotated[
        str | None,
        typer.Option(
            "--default-upstream",
            metavar="NAME",
            help="The upstream that serves names without one. [new groups: docker.io]",
        ),
    ] = None
    upstream_username: Annotated[
        str | None, typer.Option("--upstream-username", metavar="U", help='The login at that upstream; "" drops it.')
    ] = None
    upstream_password_file: Annotated[
        InputFile | None,
        typer.Option(
            "--upstream-password-file",
            parser=input_file,
            metavar="F",
            help="The file with its password, read now, once.",
        ),
    ] = None
    fresh_only: Annotated[
        bool | None,
        typer.Option(
            "--fresh-only/--no-fresh-only",
            help="Refuse content that the upstream cannot confirm, instead of serving it stale. [new groups: off]",
        ),
    ] = None
    quota: QuotaOption = None

    def apply(self, group: Group) -> Group:
        """Return the group with the given properties, except its login. Raises Refused."""
        return replace(
            group,
            visibility=given(self.visibility, group.visibility),
            proxy_enabled=given(self.proxy, group.proxy_enabled),
            anonymous_pull=given(self.anonymous_pull, group.anonymous_pull),
            default_upstream=given(self.default_upstream, group.default_upstream),
            fresh_only=given(self.fresh_only, group.fresh_only),
            quota=apply_quota(self.quota, group.quota),
        )

    def apply_login(self, group: Group, password: str | None, sealer: Sealer) -> Group:
        """Return the group with the given upstream login. `password`: None if no file was given.

        Raises Refused, LoginIncomplete, SealBroken.
        """
        match self.upstream_username, password:
            case None, None:
                return group
            case "", None:
                return group.without_login()
            case username, None:
                raise Refused(f"the upstream login {username!r} needs a password: give --upstream-password-file")
            case None, _ if not group.upstream_username:
                raise Refused("the upstream password needs a user name: give --upstream-username")
            case username, given:
                name = group.upstream_username if username is None else username
                return seal_login(group, Login(name or "", given or ""), sealer)


@dataclass(frozen=True, slots=True)
class _Change:
    """The options of `create` and `update`, checked as far as that is possible without the group."""

    options: GroupOptions
    gate: GateOptions
    password: str | None
    settings: Settings

    @classmethod
    def of(cls, options: GroupOptions, gate: GateOptions, settings: Settings) -> "_Change":
        """Read the password file and check the default upstream. Raises Refused, UpstreamNameInvalid."""
        password = read_password(options.upstream_password_file)
        _check_configured(options.default_upstream, settings.upstreams)
        return cls(options, gate, password, settings)

    def apply(self, group: Group) -> Group:
        """Return the group with all given changes. Raises Refused, LoginIncomplete, SealBroken."""
        changed = self.gate.apply(self.options.apply(group), self.settings.upstreams)
        return self.options.apply_login(changed, self.password, Sealer(self.settings.data / KEYS_DIRECTORY))


@app.command()
@with_session
def create(session: Session, path: GroupPath, options: GroupOptions, gate: GateOptions) -> None:
    """Create a group; the group above it must exist."""
    change = _Change.of(options, gate, session.settings)
    group, has_members = asyncio.run(_create(session.settings, parse_group_path(path), change))
    note_change(session.settings, EventKind.CREATE, Subject.GROUP, path, after=tell_group(group))
    warn_of_host(path)
    _print_done(session, group, "created")
    _warn_of_cooldown(session, group, gate)
    if group.proxy_enabled and not group.anonymous_pull and not has_members and not session.as_json:
        print(f"nobody but administrators can pull through it yet: {way_in(path)}")


def way_in(path: str) -> str:
    """How people are let into a group through which nobody can pull."""
    return (
        f"add members (`registry-gateway member add {path} USER guest`), or let everybody "
        f"(`registry-gateway group update {path} --visibility public --anonymous-pull`)"
    )


@app.command("list")
@with_session
def list_all(session: Session) -> None:
    """List all groups."""
    listed = asyncio.run(read_groups(session.settings))
    rows = [_row(group) for group in listed]
    session.print([_document(group) for group in listed], lambda: print_table(_HEADINGS, rows))


@app.command()
@with_session
def show(session: Session, path: GroupPath) -> None:
    """Show one group."""
    group = asyncio.run(_get(session.settings, path))
    session.print(_document(group), lambda: print_values(_shown(group)))


@app.command()
@with_session
def update(
    session: Session, path: GroupPath, options: GroupOptions, gate: GateOptions, as_of: AsOfOption = None
) -> None:
    """Change the given properties of a group; the others stay. A running server applies them to its next request."""
    change = _Change.of(options, gate, session.settings)
    before, group = asyncio.run(_update(session.settings, path, change, as_of))
    if group != before:
        note_differences(session.settings, Subject.GROUP, path, tell_group(before), tell_group(group))
    if as_of is not None:
        note_pin(session.settings, Subject.GROUP, path, before.as_of, group.as_of)
    told = _told(before, group, change)
    session.print(_document(group), lambda: print(f"updated group {path}: {told}"))
    _warn_of_cooldown(session, group, gate)


@app.command("move")
@with_session
def move_group(session: Session, old: OldPathArgument, new: NewPathArgument) -> None:
    """Rename or move a group with everything in it, to the top or into another one; no content is copied."""
    moved = asyncio.run(move(session.settings, moves.move_group, old, new))
    warn_of_host(new)
    print_moved(session, moved)


@app.command()
@with_session
def delete(session: Session, path: GroupPath) -> None:
    """Delete a group that holds no other group and no project."""
    group = asyncio.run(_delete(session.settings, path))
    note_change(session.settings, EventKind.DELETE, Subject.GROUP, path, before=tell_group(group))
    _print_done(session, group, "deleted")


async def _create(settings: Settings, path: str, change: _Change) -> tuple[Group, bool]:
    """Create a group; returns it, and whether anybody is a member of it by a group above it."""
    async with open_made(settings) as database, database.write() as connection:
        now = datetime.now(UTC)
        group = change.apply(await groups.create(connection, path, now))
        await groups.update(connection, group)
        return group, await members.is_any_active(connection, path, now)


async def _get(settings: Settings, path: str) -> Group:
    async with open_existing(settings) as database, database.read() as connection:
        return await groups.get(connection, path)


async def _update(settings: Settings, path: str, change: _Change, as_of: str | None) -> tuple[Group, Group]:
    """Change a group; returns it as it was, and as it is."""
    async with open_existing(settings) as database, database.write() as connection:
        before = await groups.get(connection, path)
        group = change.apply(before)
        await groups.update(connection, group)
        await apply_pin(connection, group.key, path, as_of, datetime.now(UTC))
        return before, await groups.get(connection, path)


async def _delete(settings: Settings, path: str) -> Group:
    async with open_existing(settings) as database, database.write() as connection:
        return await groups.delete(connection, path)


def _check_configured(upstream: str | None, configured: Collection[str]) -> None:
    """Check that an upstream is configured. Raises Refused, UpstreamNameInvalid."""
    if upstream is not None and parse_upstream_name(upstream) not in configured:
        raise Refused(
            f"upstream {upstream!r} is not configured, only {', '.join(sorted(configured))}: "
            f'add [upstreams."{upstream}"] with its url to the settings, or take one of these'
        )


def _print_done(session: Session, group: Group, done: str) -> None:
    path, visibility, proxy, upstream, _ = _row(group)
    text = f"{done} group {path}: {visibility}, dependency proxy {proxy}, default upstream {upstream}"
    session.print(_document(group), lambda: print(text))


def _warn_of_cooldown(session: Session, group: Group, gate: GateOptions) -> None:
    """Warn on stderr of a cooldown that was just set, which refuses what this server has not seen for long enough."""
    index, began = session.folder.index, None
    with suppress(DatabaseUnusable):  # the group is made, and the next server makes a damaged index again
        began = CacheAdmin(index).history_began() if index.exists() else None
    if (warning := gate.cooldown_warning(group, began, datetime.now(UTC))) is not None:
        complain(f"warning: {warning}")


def _row(group: Group) -> tuple[str, ...]:
    pull = ", anonymous pull" if group.anonymous_pull else ""
    proxy = f"on{pull}" if group.proxy_enabled else "off"
    return group.path, group.visibility, proxy, group.default_upstream, group.upstream_username or NOTHING


def _told(before: Group, group: Group, change: _Change) -> str:
    """What a change made of a group; the password of its login is not shown."""
    told = changes(_shown(before), _shown(group), datetime.now(UTC))
    if change.password is None or group.upstream_username != before.upstream_username:
        return told
    return "upstream password" if _shown(before) == _shown(group) else f"{told}, upstream password"


def _shown(group: Group) -> dict[str, object]:
    """A group as people read it: the columns of lists, and the rest."""
    return {
        **dict(zip([heading.lower() for heading in _HEADINGS], _row(group), strict=True)),
        "fresh only": group.fresh_only,
        "quota": group.quota,
        "as of": None if group.as_of is None else format_moment(group.as_of),
        **gate_to_document(group.gate or OPEN),
        "created": format_moment(group.created_at),
    }


def _document(group: Group) -> Document:
    return {
        "id": group.id,
        "path": group.path,
        "visibility": group.visibility,
        "proxy": {
            "enabled": group.proxy_enabled,
            "anonymous_pull": group.anonymous_pull,
            "default_upstream": group.default_upstream,
            "upstream_username": group.upstream_username,
            "fresh_only": group.fresh_only,
        },
        "gate": gate_to_document(group.gate) if group.gate else None,
        "quota": group.quota,
        "as_of": None if group.as_of is None else format_moment(group.as_of),
        "created_at": format_moment(group.created_at),
    }
