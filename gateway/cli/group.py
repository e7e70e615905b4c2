"""`group`: the tree, and the dependency proxy of each of its groups."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.config import load_settings
from gateway.cli.folder import open_existing, open_made
from gateway.cli.gate import Action, Allow, Cooldown, Deny, GateChoices, Pins, TrustCreated, Unpins
from gateway.cli.output import AsJson, ConfigFile, DataFolder, Refused, print_json, print_table, refusals
from gateway.db import groups
from gateway.keys.sealing import KEYS_DIRECTORY, Sealer
from gateway.keys.upstream_login import seal_login
from gateway.namespaces.gate_document import gate_to_document
from gateway.namespaces.group import Group, Login, Visibility
from gateway.namespaces.paths import parse_group_path, parse_upstream_name
from gateway.settings.load import Settings

app = typer.Typer(no_args_is_help=True, help="Create, show and change groups.", rich_markup_mode=None)

GroupPath = Annotated[str, typer.Argument(metavar="PATH", help="The full path of the group, such as team/images.")]
VisibilityChoice = Annotated[
    Visibility | None, typer.Option("--visibility", help="Who may see the group. A new one is private.")
]
Proxy = Annotated[bool | None, typer.Option("--proxy/--no-proxy", help="Its dependency proxy. On in a new one.")]
AnonymousPull = Annotated[
    bool | None,
    typer.Option(
        "--anonymous-pull/--no-anonymous-pull",
        help="Whether everybody may pull through it; it must be public. Off in a new one.",
    ),
]
DefaultUpstream = Annotated[
    str | None,
    typer.Option(
        "--default-upstream", metavar="NAME", help="Which upstream serves names without one. docker.io in a new one."
    ),
]
UpstreamUsername = Annotated[
    str | None, typer.Option("--upstream-username", metavar="U", help='The login at that upstream; "" drops it.')
]
UpstreamPasswordFile = Annotated[
    Path | None,
    typer.Option("--upstream-password-file", metavar="F", help="The file with its password, read now and only once."),
]
FreshOnly = Annotated[
    bool | None,
    typer.Option(
        "--fresh-only/--no-fresh-only",
        help="Refuse what the upstream cannot confirm instead of serving it stale. Off in a new one.",
    ),
]


@dataclass(frozen=True, slots=True)
class _Choices:
    """What was said about a group on the command line; None is what was not."""

    visibility: Visibility | None
    proxy_enabled: bool | None
    anonymous_pull: bool | None
    default_upstream: str | None
    upstream_username: str | None
    upstream_password: str | None
    fresh_only: bool | None
    gate: GateChoices

    def apply(self, group: Group, settings: Settings) -> Group:
        """The group as chosen. Raises Refused, LoginIncomplete, SealBroken."""
        sealer = Sealer(settings.data / KEYS_DIRECTORY)
        chosen = replace(
            group,
            visibility=group.visibility if self.visibility is None else self.visibility,
            proxy_enabled=group.proxy_enabled if self.proxy_enabled is None else self.proxy_enabled,
            anonymous_pull=group.anonymous_pull if self.anonymous_pull is None else self.anonymous_pull,
            default_upstream=group.default_upstream if self.default_upstream is None else self.default_upstream,
            fresh_only=group.fresh_only if self.fresh_only is None else self.fresh_only,
        )
        chosen = self.gate.apply(chosen, settings.upstreams)
        match self.upstream_username, self.upstream_password:
            case None, None:
                return chosen
            case "", None:
                return chosen.without_login()
            case username, None:
                raise Refused(f"the upstream login {username!r} needs a password: give --upstream-password-file")
            case None, password if not group.upstream_username:
                raise Refused("the upstream password needs a user name: give --upstream-username")
            case username, password:
                name = group.upstream_username if username is None else username
                return seal_login(chosen, Login(name or "", password or ""), sealer)


@app.command()
def create(
    path: GroupPath,
    visibility: VisibilityChoice = None,
    proxy: Proxy = None,
    anonymous_pull: AnonymousPull = None,
    default_upstream: DefaultUpstream = None,
    upstream_username: UpstreamUsername = None,
    upstream_password_file: UpstreamPasswordFile = None,
    fresh_only: FreshOnly = None,
    allow: Allow = None,
    deny: Deny = None,
    cooldown: Cooldown = None,
    cooldown_action: Action = None,
    trust_created: TrustCreated = None,
    pin: Pins = None,
    unpin: Unpins = None,
    config: ConfigFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Create a group; the group above it must be there."""
    with refusals():
        settings = load_settings(config, data)
        password = _read_password(upstream_password_file)
        gate = GateChoices(allow, deny, cooldown, cooldown_action, trust_created, pin, unpin)
        choices = _Choices(
            visibility, proxy, anonymous_pull, default_upstream, upstream_username, password, fresh_only, gate
        )
        _check_configured(default_upstream, settings.upstreams)
        group = asyncio.run(_create(settings, parse_group_path(path), choices))
    _answer(group, as_json, "created")


@app.command("list")
def list_all(config: ConfigFile = None, data: DataFolder = None, as_json: AsJson = False) -> None:
    """List all groups."""
    with refusals():
        everything = asyncio.run(_list_all(load_settings(config, data)))
    if as_json:
        print_json([_document(group) for group in everything])
    else:
        headings = ["Path", "Visibility", "Dependency proxy", "Default upstream", "Upstream login"]
        print_table(headings, [_row(group) for group in everything])


@app.command()
def show(path: GroupPath, config: ConfigFile = None, data: DataFolder = None, as_json: AsJson = False) -> None:
    """Show one group."""
    with refusals():
        group = asyncio.run(_show(load_settings(config, data), path))
    if as_json:
        print_json(_document(group))
    else:
        names = ["path", "visibility", "dependency proxy", "default upstream", "upstream login"]
        gate = [(name, str(value)) for name, value in (gate_to_document(group.gate) if group.gate else {}).items()]
        more = [("fresh only", str(group.fresh_only).lower()), *gate, ("created", group.created_at.isoformat())]
        print_table(["", "Value"], [*zip(names, _row(group), strict=True), *more])


@app.command()
def update(
    path: GroupPath,
    visibility: VisibilityChoice = None,
    proxy: Proxy = None,
    anonymous_pull: AnonymousPull = None,
    default_upstream: DefaultUpstream = None,
    upstream_username: UpstreamUsername = None,
    upstream_password_file: UpstreamPasswordFile = None,
    fresh_only: FreshOnly = None,
    allow: Allow = None,
    deny: Deny = None,
    cooldown: Cooldown = None,
    cooldown_action: Action = None,
    trust_created: TrustCreated = None,
    pin: Pins = None,
    unpin: Unpins = None,
    config: ConfigFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Change what is given about a group; the rest stays. A running server follows with its next request."""
    with refusals():
        settings = load_settings(config, data)
        password = _read_password(upstream_password_file)
        gate = GateChoices(allow, deny, cooldown, cooldown_action, trust_created, pin, unpin)
        choices = _Choices(
            visibility, proxy, anonymous_pull, default_upstream, upstream_username, password, fresh_only, gate
        )
        _check_configured(default_upstream, settings.upstreams)
        group = asyncio.run(_update(settings, path, choices))
    _answer(group, as_json, "updated")


@app.command()
def delete(path: GroupPath, config: ConfigFile = None, data: DataFolder = None, as_json: AsJson = False) -> None:
    """Delete a group that holds no other group."""
    with refusals():
        group = asyncio.run(_delete(load_settings(config, data), path))
    _answer(group, as_json, "deleted")


async def _create(settings: Settings, path: str, choices: _Choices) -> Group:
    async with open_made(settings.data) as database, database.write() as connection:
        group = choices.apply(await groups.create(connection, path, datetime.now(UTC)), settings)
        await groups.update(connection, group)
        return group


async def _list_all(settings: Settings) -> list[Group]:
    async with open_existing(settings.data) as database, database.read() as connection:
        return await groups.list_all(connection)


async def _show(settings: Settings, path: str) -> Group:
    async with open_existing(settings.data) as database, database.read() as connection:
        return await groups.get(connection, path)


async def _update(settings: Settings, path: str, choices: _Choices) -> Group:
    async with open_existing(settings.data) as database, database.write() as connection:
        group = choices.apply(await groups.get(connection, path), settings)
        await groups.update(connection, group)
        return group


async def _delete(settings: Settings, path: str) -> Group:
    async with open_existing(settings.data) as database, database.write() as connection:
        return await groups.delete(connection, path)


def _read_password(file: Path | None) -> str | None:
    """The text of the file without the end of its last line; None if no file is given. Raises Refused."""
    if file is None:
        return None
    try:
        password = file.read_text().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise Refused(f"password file {file} cannot be read ({error.strerror}): give another one") from error
    except UnicodeDecodeError as error:
        raise Refused(f"password file {file} is not UTF-8: write the password into it as text") from error
    if not password:
        raise Refused(f"password file {file} is empty: write the password into it")
    return password


def _check_configured(upstream: str | None, configured: Collection[str]) -> None:
    """Raises Refused for an upstream that the settings do not know, UpstreamNameInvalid for none at all."""
    if upstream is not None and parse_upstream_name(upstream) not in configured:
        raise Refused(
            f"upstream {upstream!r} is not configured, only {', '.join(sorted(configured))}: "
            f'add [upstreams."{upstream}"] with its url to the settings, or take one of these'
        )


def _answer(group: Group, as_json: bool, done: str) -> None:
    if as_json:
        print_json(_document(group))
    else:
        path, visibility, proxy, upstream, _ = _row(group)
        print(f"{done} group {path}: {visibility}, dependency proxy {proxy}, default upstream {upstream}")


def _row(group: Group) -> tuple[str, ...]:
    pull = ", anonymous pull" if group.anonymous_pull else ""
    proxy = f"on{pull}" if group.proxy_enabled else "off"
    return group.path, group.visibility, proxy, group.default_upstream, group.upstream_username or "none"


def _document(group: Group) -> dict[str, object]:
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
        "created_at": group.created_at.isoformat(),
    }
