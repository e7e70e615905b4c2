"""VirtualRegistries: virtual registries and their upstreams, for requests from memory, and changes of them.

Who may see or change them is decided elsewhere.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial

from cache.upstream.urls import registry_of
from gateway.db import virtual_registries
from gateway.db.changes import Concern
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.db.windows import ListPart, ListWindow
from gateway.directory.memory import Memory
from gateway.keys.sealing import Sealer
from gateway.namespaces.errors import VirtualRegistryRefused
from gateway.namespaces.virtual_registry import (
    RegistryUpstream,
    VirtualPlace,
    VirtualRegistry,
    VirtualUpstream,
    check_upstream_url,
)

KEPT = 1_000
"""Virtual registries that a process remembers."""

Attributes = Mapping[str, object]


class VirtualRegistries:
    """Virtual registries of one database. Raises DatabaseUnusable, and VirtualRegistryRefused for a change that cannot
    be."""

    def __init__(
        self, database: Database, sealer: Sealer, clock: Callable[[], datetime], private_hosts: frozenset[str]
    ) -> None:
        """`private_hosts`: hosts that may have private addresses, and http."""
        self._database = database
        self._sealer = sealer
        self._clock = clock
        self._private_hosts = private_hosts
        self._places: Memory[int, VirtualPlace] = Memory(KEPT)
        for concern in (Concern.GROUP, Concern.MOVE):
            database.changes.subscribe(concern, self._drop)

    async def find(self, id: int) -> VirtualPlace | None:
        """Find a virtual registry with its upstreams, mostly in memory."""
        self._database.changes.catch_up()
        if (known := self._places.find(id)) is not None or self._places.knows_absence(id):
            return known
        version = self._places.version
        found = await self._database.query(partial(virtual_registries.find_place, id=id))
        self._places.keep(id, found, version)
        return found

    async def registries_of(self, group_id: int) -> list[VirtualRegistry]:
        """List the virtual registries of a group."""
        return await self._database.query(partial(virtual_registries.list_registries, group_id=group_id))

    async def create(self, group_id: int, name: str, description: str) -> VirtualRegistry:
        """Make a virtual registry."""
        made = partial(
            virtual_registries.create_registry,
            group_id=group_id,
            name=name,
            description=description,
            now=self._clock(),
        )
        return await self._database.transact(made)

    async def update(self, registry: VirtualRegistry, values: Attributes) -> VirtualRegistry:
        """Change the name or the description of a virtual registry."""
        changed = partial(virtual_registries.update_registry, id=registry.id, values=values, now=self._clock())
        return await self._database.transact(changed)

    async def delete(self, registry: VirtualRegistry) -> None:
        """Delete a virtual registry; its upstreams stay."""
        await self._database.transact(partial(virtual_registries.delete_registry, registry=registry))

    # Upstreams

    async def upstreams_of_group(
        self, group_id: int, window: ListWindow, *, counted: bool
    ) -> ListPart[VirtualUpstream]:
        """A part of the upstreams of a group."""
        async with self._database.read() as connection:
            return await virtual_registries.list_upstreams(connection, group_id, window, counted=counted)

    async def find_upstream(self, id: int) -> VirtualUpstream | None:
        """Find an upstream."""
        return await self._database.query(partial(virtual_registries.find_upstream, id=id))

    async def create_upstream(
        self, registry: VirtualRegistry, attributes: Attributes, password: str | None
    ) -> tuple[VirtualUpstream, RegistryUpstream]:
        """Make an upstream, the last one of a registry. `password`: given exactly where `username` is. Raises
        SealBroken."""
        values = dict(attributes)
        check_upstream_url(str(values["url"]), self._private_hosts)
        values["password_sealed"] = self._sealed(registry.group_id, str(values["url"]), password)
        made = partial(virtual_registries.create_upstream, registry=registry, values=values, now=self._clock())
        return await self._database.transact(made)

    async def update_upstream(
        self, upstream: VirtualUpstream, attributes: Attributes, password: str | None
    ) -> VirtualUpstream:
        """Change an upstream. Where its URL or its login changes, its cache is empty. `password`: None for the one
        that it has, which is sent to no other registry. Raises SealBroken."""
        values = dict(attributes)
        url = str(values.get("url", upstream.url))
        check_upstream_url(url, self._private_hosts)
        moves = registry_of(url) != registry_of(upstream.url)
        if password is not None:
            values["password_sealed"] = self._sealed(upstream.group_id, url, password)
        elif "username" in values and values["username"] is None:
            values["password_sealed"] = None
        elif upstream.username is not None and moves:
            raise VirtualRegistryRefused(
                "password", "must be given for another registry: the old one is not sent there"
            )
        if moves or "username" in values or "password_sealed" in values:
            values["cache_key"] = virtual_registries.new_cache_key()
        changed = partial(virtual_registries.update_upstream, upstream=upstream, values=values, now=self._clock())
        return await self._database.transact(changed)

    async def delete_upstream(self, upstream: VirtualUpstream) -> None:
        """Delete an upstream, and with it its places in registries."""
        await self._database.transact(partial(virtual_registries.delete_upstream, upstream=upstream))

    async def empty_cache(self, upstream: VirtualUpstream) -> None:
        """Let an upstream have an empty cache, in every process at once."""
        await self._database.transact(partial(virtual_registries.renew_cache_key, upstream=upstream))

    # Upstreams in registries

    async def shares_of(self, registry_id: int) -> list[RegistryUpstream]:
        """List the places of upstreams in a registry."""
        return await self._database.query(partial(virtual_registries.shares_of, registry_id=registry_id))

    async def find_share(self, id: int) -> RegistryUpstream | None:
        """Find the place of an upstream in a registry."""
        return await self._database.query(partial(virtual_registries.find_share, id=id))

    async def share(self, registry: VirtualRegistry, upstream: VirtualUpstream) -> RegistryUpstream:
        """Put an upstream behind those that a registry has."""
        return await self._database.transact(partial(virtual_registries.share, registry=registry, upstream=upstream))

    async def move_share(self, group_id: int, moved: RegistryUpstream, position: int) -> RegistryUpstream:
        """Put an upstream at a position of its registry, or at the end."""

        async def move(connection: Connection) -> RegistryUpstream:
            await virtual_registries.move_share(connection, group_id, moved, position)
            return await virtual_registries.find_share(connection, moved.id) or moved

        return await self._database.transact(move)

    async def unshare(self, group_id: int, gone: RegistryUpstream) -> None:
        """Take an upstream out of a registry; it stays."""
        await self._database.transact(partial(virtual_registries.unshare, group_id=group_id, gone=gone))

    def _sealed(self, group_id: int, url: str, password: str | None) -> str | None:
        return None if password is None else self._sealer.seal(password, login_context(group_id, url))

    def _drop(self, _: str | None) -> None:
        self._places.drop_all()


def login_context(group_id: int, url: str) -> str:
    """To what a password is sealed: it opens for one registry, and one group, alone."""
    return f"login of a virtual upstream of group {group_id} at {registry_of(url)}"
