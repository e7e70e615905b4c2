"""VirtualPlaces: virtual registries and their upstreams that paths of the API name, for principals that may see or
change them.

Whoever has a role in the group of one, or in anything in it, may see it; maintainers of the group change it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gateway.api.errors import ApiError, Forbidden, ParametersInvalid, ResourceUnknown, ValuesRefused
from gateway.api.places import Places
from gateway.api.shapes import is_id
from gateway.auth.matrix import VIRTUAL_ADMIN
from gateway.auth.principal import Principal
from gateway.directory.places import GroupPlace
from gateway.namespaces.errors import VirtualRegistryRefused
from gateway.namespaces.node import NodeKey, NodeKind
from gateway.namespaces.virtual_registry import RegistryUpstream, VirtualPlace, VirtualRegistry, VirtualUpstream
from gateway.virtual.store import VirtualRegistries

REGISTRY, UPSTREAM, SHARE = "Virtual Registry", "Upstream", "Registry Upstream"


@dataclass(frozen=True, slots=True)
class FoundVirtual:
    """A virtual registry, and the group that has it."""

    group: GroupPlace
    registry: VirtualRegistry


@dataclass(frozen=True, slots=True)
class FoundUpstream:
    """An upstream, and the group that has it."""

    group: GroupPlace
    upstream: VirtualUpstream


@dataclass(frozen=True, slots=True)
class FoundShare:
    """An upstream in a virtual registry, and the group that has both."""

    group: GroupPlace
    share: RegistryUpstream


class VirtualPlaces:
    """Finds what paths name, and decides; each request anew. Raises ApiError, DatabaseUnusable."""

    def __init__(self, places: Places, virtual: VirtualRegistries) -> None:
        self._places = places
        self._virtual = virtual

    async def group(self, text: str, principal: Principal, *, changes: bool = False) -> GroupPlace:
        """The group of an id or a path whose virtual registries a principal may see or, with `changes`, change."""
        try:
            found, _ = await self._places.group(text, principal)
        except ResourceUnknown:
            # Whoever has a role in something in it may not know the group otherwise.
            named = await self._places.group_named(text)
            if named is None or not await self._places.is_within(principal, _key(named)):
                raise
            found = named
        if not await self._places.is_within(principal, _key(found)):
            raise Forbidden("members of the group, or of anything in it, see its virtual registries")
        await self._require(principal, found, changes=changes)
        return found

    async def registry(self, id: str, principal: Principal, *, changes: bool = False) -> FoundVirtual:
        """The virtual registry of an id."""
        place: VirtualPlace | None = await self._virtual.find(int(id)) if is_id(id) else None
        unknown = ResourceUnknown(REGISTRY)
        group = await self._seen(None if place is None else place.registry.group_id, principal, unknown)
        assert place is not None, "its group was found"
        await self._require(principal, group, changes=changes)
        return FoundVirtual(group, place.registry)

    async def upstream(self, id: str, principal: Principal, *, changes: bool = False) -> FoundUpstream:
        """The upstream of an id."""
        upstream = await self._virtual.find_upstream(int(id)) if is_id(id) else None
        unknown = ResourceUnknown(UPSTREAM)
        group = await self._seen(None if upstream is None else upstream.group_id, principal, unknown)
        assert upstream is not None, "its group was found"
        await self._require(principal, group, changes=changes)
        return FoundUpstream(group, upstream)

    async def share(self, id: str, principal: Principal) -> FoundShare:
        """The upstream in a virtual registry of an id, to be changed."""
        share = await self._virtual.find_share(int(id)) if is_id(id) else None
        if share is None:
            raise ResourceUnknown(SHARE)
        try:
            found = await self.registry(str(share.registry_id), principal, changes=True)
        except ResourceUnknown as error:
            raise ResourceUnknown(SHARE) from error
        return FoundShare(found.group, share)

    async def _seen(self, group_id: int | None, principal: Principal, unknown: ApiError) -> GroupPlace:
        """The group of an id, where a principal may see what it has. Raises `unknown`."""
        group = None if group_id is None else await self._places.group_of(group_id)
        if group is None or not await self._places.is_within(principal, _key(group)):
            raise unknown
        return group

    async def _require(self, principal: Principal, group: GroupPlace, *, changes: bool) -> None:
        if not changes:
            return
        role = await self._places.role(principal, group.way)
        if role is None or role < VIRTUAL_ADMIN:
            raise Forbidden(f"{VIRTUAL_ADMIN.word}s of the group change its virtual registries")


def check_top(group: GroupPlace) -> None:
    """Check that a group may have virtual registries. Raises ValuesRefused."""
    if "/" in group.group.path:
        raise ValuesRefused({"group": ["must be a group at the top: others use its virtual registries"]})


@contextmanager
def virtual_refusals() -> Iterator[None]:
    """Render what is refused of virtual registries within the block by its attribute."""
    try:
        yield
    except VirtualRegistryRefused as error:
        raise ValuesRefused({error.attribute: [error.reason]}) from error


def require_some(names: tuple[str, ...], given: set[str]) -> None:
    """Check that a change changes something. Raises ParametersInvalid."""
    if given.isdisjoint(names):
        raise ParametersInvalid([f"{', '.join(names)} are missing, at least one parameter must be provided"])


def _key(group: GroupPlace) -> NodeKey:
    return NodeKey(NodeKind.GROUP, group.group.id)
