"""Settings that do nothing: valid, and yet no request is served in another way because of them.

They are what a person notices last. `config check`, `serve` and `doctor` all tell of them.
"""

import asyncio
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from cache.sqlite import DatabaseUnusable
from gateway.cli import folder
from gateway.cli.group import way_in
from gateway.cli.idle_kind import IdleSetting
from gateway.cli.idle_rules import find_idle_rules
from gateway.cli.refusals import Refused
from gateway.db import groups, old_paths
from gateway.db.connection import Connection
from gateway.namespaces.group import HUB
from gateway.namespaces.node import enumerate_paths
from gateway.settings.tables import Settings
from gateway.upstreams import Upstream
from gateway.wiring.upstreams import configured_upstreams
from gateway.wiring.values import listed_groups

_PROXY_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
"""By which other programs find an outbound proxy."""


@dataclass(frozen=True, slots=True)
class ProxyGroups:
    """Which groups may use an account: whether any with a dependency proxy requires a login, and the paths of those
    among the listed ones that have a dependency proxy. `unreachable`: those through which nobody can pull yet."""

    any_requires_login: bool
    listed: frozenset[str]
    unreachable: tuple[str, ...] = ()


OF_NEW_FOLDER = ProxyGroups(any_requires_login=False, listed=frozenset({HUB}))
"""The groups that `serve` finds after it has made a data folder: `hub`, which is open to everybody."""


async def read_proxy_groups(connection: Connection, settings: Settings) -> ProxyGroups:
    """Read what `idle_settings` needs of the groups."""
    listed = listed_groups(settings)
    formers = await old_paths.follow_all(connection, listed)
    found = await groups.find_all(connection, {*listed, *(former.present for former in formers.values())})
    proxies = await groups.with_listings(connection, [group for group in found if group.proxy_enabled], listed)
    return ProxyGroups(
        any_requires_login=await groups.any_requires_login(connection),
        listed=frozenset(path for group in proxies for path in (group.path, *group.listed_as)),
        unreachable=tuple(await groups.list_unreachable(connection, datetime.now(UTC))),
    )


async def find_proxy_groups(settings: Settings) -> ProxyGroups:
    """Which groups may use accounts; where there is no data folder yet, or none that can be read, as in a new one."""
    with suppress(Refused, DatabaseUnusable):
        if await folder.exists(settings):
            async with folder.open_existing(settings) as database, database.read() as connection:
                return await read_proxy_groups(connection, settings)
    return OF_NEW_FOLDER


def find_idle_settings(settings: Settings) -> list[IdleSetting]:
    """Find the settings without effect in the groups that there are and the environment of this process."""
    return [
        *idle_settings(settings, os.environ, asyncio.run(find_proxy_groups(settings))),
        *asyncio.run(_find_rules(settings)),
    ]


async def _find_rules(settings: Settings) -> list[IdleSetting]:
    """Find the rules for ID tokens without effect; where there is no data folder yet, nothing is known of them."""
    with suppress(Refused, DatabaseUnusable):
        if settings.oidc and await folder.exists(settings):
            async with folder.open_existing(settings) as database, database.read() as connection:
                return await find_idle_rules(connection, settings)
    return []


def idle_settings(settings: Settings, environ: Mapping[str, str], known: ProxyGroups) -> list[IdleSetting]:
    """Find the settings without effect."""
    variables = [
        IdleSetting(
            name,
            f"{name} is set and not used: an outbound proxy is a setting of each upstream",
            'set proxy in the table of each upstream that needs it, as in [upstreams."docker.io"]',
        )
        for name in _unused_variables(settings, environ)
    ]
    unused = [_unused_account(upstream, known) for upstream in configured_upstreams(settings)]
    alone = [_unreachable(known.unreachable)] if known.unreachable else []
    return [*variables, *(idle for idle in unused if idle is not None), *alone]


def _unreachable(paths: Sequence[str]) -> IdleSetting:
    """Groups that were created, and that nobody has been let into."""
    first = paths[0]
    return IdleSetting(
        first,
        f"nobody but administrators can pull through {enumerate_paths(paths)} yet",
        way_in(first),
        kind="group",
        concerns=frozenset(paths),
    )


def _unused_variables(settings: Settings, environ: Mapping[str, str]) -> list[str]:
    """The variables that name an outbound proxy; none if all upstreams have the setting `proxy`."""
    if all(upstream.proxy for upstream in settings.upstreams.values()):
        return []
    return [name for name in environ if name.upper() in _PROXY_VARIABLES and environ[name]]


def _unused_account(upstream: Upstream, known: ProxyGroups) -> IdleSetting | None:
    """The account of an upstream that no group uses."""
    if not upstream.account or (known.listed & upstream.groups if upstream.groups else known.any_requires_login):
        return None
    name = f'upstreams."{upstream.name}".{"groups" if upstream.groups else "username"}'
    if upstream.groups:
        reason = f"no group uses account {upstream.account}: {_names(upstream.groups)} with a dependency proxy"
        remedy = "create it (`registry-gateway group create`), or name another one"
        return IdleSetting(name, reason, remedy, concerns=frozenset({upstream.name}))
    return IdleSetting(
        name,
        f"no group uses account {upstream.account}: each dependency proxy is open to everybody, and such a group uses "
        "an account only if the setting groups of the upstream names it",
        "create a group that requires a login (`registry-gateway group create NAME`); or name an open one there, as in "
        f'groups = ["{HUB}"] (everybody may then pull what the account may read)',
        concerns=frozenset({upstream.name}),
    )


def _names(paths: Collection[str]) -> str:
    listed = ", ".join(sorted(paths))
    return f"there is no group {listed}" if len(paths) == 1 else f"there is none of the groups {listed}"
