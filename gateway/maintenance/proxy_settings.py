"""ProxySettings: the dependency proxy of a group as its owners see and change it. Nothing is decided about rights."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from cache.policy.gate import OPEN, CooldownAction, Gate
from gateway.db import image_ttl_policies
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.directory.tree_administration import TreeAdministration
from gateway.keys.sealing import Sealer
from gateway.keys.upstream_login import seal_login
from gateway.namespaces.errors import LoginIncomplete, UpstreamNameInvalid
from gateway.namespaces.gate_rules import parse_cooldown, parse_globs
from gateway.namespaces.group import Group, Login
from gateway.namespaces.image_ttl import ImageTtlPolicy, check_ttl, default_policy
from gateway.namespaces.paths import parse_upstream_name
from gateway.services import Services


@dataclass(frozen=True, slots=True)
class ProxyChange:
    """Properties to change, as people write them; None leaves one as it is.

    `identity`, `secret`: the login at the default upstream; an empty identity drops it. `allow`, `deny`: globs on the
    names of images. `cooldown`: a duration.
    """

    enabled: bool | None = None
    identity: str | None = None
    secret: str | None = field(default=None, repr=False)
    default_upstream: str | None = None
    fresh_only: bool | None = None
    allow: Sequence[str] | None = None
    deny: Sequence[str] | None = None
    cooldown: str | None = None
    cooldown_action: CooldownAction | None = None
    trusts_created: bool | None = None

    def login_of(self, group: Group) -> Login | None:
        """The login to give a group; None where it keeps what it has, or loses it. Raises LoginIncomplete."""
        if self.identity == "" and not self.secret:
            return None
        identity = self.identity or group.upstream_username
        if self.secret:
            if not identity:
                raise LoginIncomplete("the secret needs an identity")
            return Login(identity, self.secret)
        if self.identity is not None and self.identity != group.upstream_username:
            raise LoginIncomplete("the identity needs its secret")
        return None

    def gate_of(self, group: Group) -> Gate | None:
        """The gate that a group is to have; None where every image passes. Raises GateInvalid."""
        old = group.gate or OPEN
        gate = Gate(
            old.allow if self.allow is None else parse_globs(self.allow),
            old.deny if self.deny is None else parse_globs(self.deny),
            old.cooldown if self.cooldown is None else parse_cooldown(self.cooldown),
            self.cooldown_action or old.action,
            old.trusts_created if self.trusts_created is None else self.trusts_created,
            old.pins,
        )
        return None if gate == OPEN else gate


class ProxySettings:
    """Settings of groups. Raises TreeError where a change is refused, SealBroken, DatabaseUnusable."""

    def __init__(
        self,
        tree: TreeAdministration,
        database: Database,
        sealer: Sealer,
        upstreams: Sequence[str],
        clock: Callable[[], datetime],
    ) -> None:
        """`upstreams`: the names of those that are configured."""
        self._tree = tree
        self._database = database
        self._sealer = sealer
        self._upstreams = upstreams
        self._clock = clock

    @classmethod
    def of(cls, services: Services) -> "ProxySettings":
        """The settings of the groups of a server."""
        tree, database = services.directory.tree, services.native.uploads.native.database
        return cls(tree, database, services.sealer, services.upstreams.names, services.clock)

    async def update(self, group: Group, wanted: ProxyChange) -> Group:
        """Change a group; returns it as it is then."""
        if wanted.default_upstream is not None and parse_upstream_name(wanted.default_upstream) not in self._upstreams:
            known = ", ".join(self._upstreams)
            raise UpstreamNameInvalid(f"{wanted.default_upstream!r} is not configured: configured are {known}")
        login, sealed = wanted.login_of(group), group
        if login is not None:
            sealed = await asyncio.to_thread(seal_login, group, login, self._sealer)
        return await self._tree.update_group(group.id, partial(_changed, wanted, None if login is None else sealed))

    async def find_policy(self, group: Group) -> ImageTtlPolicy:
        """The policy by which images of a group are purged that were not pulled for long."""
        found = await self._database.query(partial(image_ttl_policies.find, group_id=group.id))
        return found or default_policy(group.id, group.created_at)

    async def update_policy(
        self, group: Group, enabled: bool | None, ttl: int | None
    ) -> tuple[ImageTtlPolicy, ImageTtlPolicy]:
        """Change the policy of a group; returns it as it was, and as it is. None leaves a property as it is."""
        now = self._clock()

        async def update(connection: Connection) -> tuple[ImageTtlPolicy, ImageTtlPolicy]:
            before = await image_ttl_policies.find(connection, group.id) or default_policy(group.id, now)
            after = replace(
                before,
                enabled=before.enabled if enabled is None else enabled,
                ttl=before.ttl if ttl is None else check_ttl(ttl),
                updated_at=now,
            )
            await image_ttl_policies.put(connection, after)
            return before, after

        return await self._database.transact(update)


def _changed(wanted: ProxyChange, sealed: Group | None, group: Group) -> Group:
    """The group with what is wanted. `sealed`: one with the login that it is to have; None where none is given."""
    if sealed is not None:
        login = sealed.upstream_username, sealed.upstream_password_sealed
        group = replace(group, upstream_username=login[0], upstream_password_sealed=login[1])
    elif wanted.identity == "":
        group = group.without_login()
    return replace(
        group,
        proxy_enabled=group.proxy_enabled if wanted.enabled is None else wanted.enabled,
        default_upstream=wanted.default_upstream or group.default_upstream,
        fresh_only=group.fresh_only if wanted.fresh_only is None else wanted.fresh_only,
        gate=wanted.gate_of(group),
    )
