"""VirtualOpener: opens images of virtual registries, for principals that may pull from them."""

from cache.oci.errors import Denied, NameUnknown, RegistryError, Unauthorized, Unsupported
from cache.oci.names import RepositoryName
from gateway.auth.access import Access
from gateway.auth.decisions import Decision, Refusal
from gateway.auth.matrix import Action
from gateway.auth.principal import Principal
from gateway.auth.proxy_permissions import PULL_ONLY
from gateway.client_name import client_name
from gateway.directory.places import GroupPlace
from gateway.namespaces.node import NodeKey, NodeKind
from gateway.namespaces.virtual_registry import VirtualPlace, parse_virtual_name
from gateway.repositories import OpenedVirtual, open_virtual
from gateway.services import Services

_NO_GROUP = 0
"""An id that no group has: what is decided about a registry that there is not costs the same."""


class VirtualOpener:
    """Opens images below `virtual_registries/container/ID/`, for each request anew."""

    def __init__(self, services: Services, access: Access) -> None:
        self._services = services
        self._access = access

    async def open(self, name: RepositoryName, principal: Principal, action: Action, address: str) -> OpenedVirtual:
        """Open what a name leads to. `address`: of the client, which stands for a principal without a name. Raises
        NameUnknown, Denied, Unsupported, Unauthorized, DatabaseUnusable."""
        parsed = parse_virtual_name(name)
        place, decision = await self._decided(name, principal)
        if place is None or parsed is None or not decision.allowed:
            raise _refused(decision, name, principal)
        if action is not Action.PULL:
            raise Unsupported(f"{parsed.image} comes from the upstreams of a virtual registry: {PULL_ONLY}")
        key = NodeKey(NodeKind.GROUP, place.registry.group_id)
        group = await self._services.directory.find_place(key)
        path = group.group.path if isinstance(group, GroupPlace) else ""
        client = principal.name or client_name(address)
        return open_virtual(place, parsed.image, path, name.text, self._services, client)

    async def may_pull(self, name: RepositoryName, principal: Principal) -> bool:
        """Whether a principal may pull what a name leads to. Raises DatabaseUnusable."""
        place, decision = await self._decided(name, principal)
        return place is not None and decision.allowed

    async def _decided(self, name: RepositoryName, principal: Principal) -> tuple[VirtualPlace | None, Decision]:
        """The registry of a name, and the decision about it."""
        parsed = parse_virtual_name(name)
        place = None if parsed is None else await self._services.virtual.find(parsed.registry_id)
        group = NodeKey(NodeKind.GROUP, _NO_GROUP if place is None else place.registry.group_id)
        return place, await self._access.decide_virtual(principal, name.text, group, self._services.clock())


def _refused(decision: Decision, name: RepositoryName, principal: Principal) -> RegistryError:
    """The error of a refusal; the client is told no more than it may know."""
    nothing = f"{name} is no image of a virtual registry, or not for everybody"
    error: RegistryError
    match decision.refusal:
        case Refusal.DENIED:
            error = Denied(decision.reason, counted_as=decision.counted_as)
        case Refusal.LOGIN if principal.is_anonymous:
            error = Unauthorized(f"{nothing}; log in to pull")
        case Refusal.LOGIN:
            error = Unauthorized(decision.reason)
        case _:
            error = NameUnknown(nothing)
    error.reason = decision.reason
    return error
