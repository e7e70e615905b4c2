"""Virtual registries of groups, and which upstreams they have in which order."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field
from starlette.responses import Response

from gateway.api.documents import moment
from gateway.api.errors import ResourceUnknown
from gateway.api.responses import no_content, one
from gateway.api.routing import Call, Route
from gateway.api.shapes import NoParameters, Shape, Text
from gateway.api.virtual_places import (
    UPSTREAM,
    FoundVirtual,
    VirtualPlaces,
    check_top,
    require_some,
    virtual_refusals,
)
from gateway.audit.changes import AuditedChanges
from gateway.audit.event import EventKind, Subject
from gateway.maintenance.virtual_caches import VirtualCaches
from gateway.namespaces.virtual_registry import (
    DESCRIPTION_LIMIT,
    NAME_LIMIT,
    RegistryUpstream,
    VirtualRegistry,
)
from gateway.virtual.store import VirtualRegistries

BASE = "/virtual_registries/container"
OF_GROUP = "/groups/{id}/-" + BASE
ALL, ONE = f"{OF_GROUP}/registries", f"{BASE}/registries/{{id}}"
SHARES = f"{BASE}/registry_upstreams"
LAST_POSITION = 20

Name = Annotated[Text, Field(min_length=1, max_length=NAME_LIMIT, description="What people call it.")]
Description = Annotated[Text, Field(max_length=DESCRIPTION_LIMIT, description="What it is for.")]


class NewRegistryShape(Shape):
    """Parameters of a new virtual registry."""

    name: Name
    description: Description = ""


class RegistryShape(Shape):
    """Parameters that are changed of a virtual registry; those that are not given stay."""

    name: Name | None = None
    description: Description | None = None


class ShareShape(Shape):
    """Which upstream a virtual registry is to have, too."""

    registry_id: Annotated[int, Field(ge=1, description="The id of the virtual registry.")]
    upstream_id: Annotated[int, Field(ge=1, description="The id of an upstream of the same group.")]


class PositionShape(Shape):
    """At which place an upstream is asked."""

    position: Annotated[int, Field(ge=1, le=LAST_POSITION, description="The place, from 1; beyond the last, the end.")]


class VirtualRegistryRoutes:
    """Handlers of virtual registries."""

    def __init__(
        self, places: VirtualPlaces, virtual: VirtualRegistries, caches: VirtualCaches, audited: AuditedChanges
    ) -> None:
        self._places = places
        self._virtual = virtual
        self._caches = caches
        self._audited = audited

    @property
    def routes(self) -> list[Route[Any]]:
        kind, share = "virtual_registry", f"{SHARES}/{{id}}"
        return [
            Route("GET", ALL, self.list_all, NoParameters, "virtual_registries", answer="VirtualRegistries"),
            Route("POST", ALL, self.create, NewRegistryShape, kind, status=201, answer="VirtualRegistry"),
            Route("GET", ONE, self.show, NoParameters, kind, answer="VirtualRegistryDetails"),
            Route("PATCH", ONE, self.update, RegistryShape, kind, answer="VirtualRegistry"),
            Route("DELETE", ONE, self.delete, NoParameters, kind, status=204),
            Route("DELETE", f"{ONE}/cache", self.empty, NoParameters, kind, status=204),
            Route("POST", SHARES, self.share, ShareShape, kind, status=201, refers=True, answer="RegistryUpstream"),
            Route("PATCH", share, self.move, PositionShape, kind, answer="RegistryUpstream"),
            Route("DELETE", share, self.unshare, NoParameters, kind, status=204),
        ]

    async def list_all(self, call: Call[NoParameters]) -> Response:
        """List the virtual registries of a group."""
        group = await self._places.group(call.path["id"], call.principal)
        return one([_document(each) for each in await self._virtual.registries_of(group.group.id)])

    async def create(self, call: Call[NewRegistryShape]) -> Response:
        """Make a virtual registry of a group at the top, which has five at most."""
        group, wanted = await self._places.group(call.path["id"], call.principal, changes=True), call.parameters
        check_top(group)
        with virtual_refusals():
            made = await self._virtual.create(group.group.id, wanted.name, wanted.description)
        self._note(call, EventKind.CREATE, FoundVirtual(group, made))
        return one(_document(made), 201)

    async def show(self, call: Call[NoParameters]) -> Response:
        """Show a virtual registry, with the places of its upstreams."""
        found = await self._places.registry(call.path["id"], call.principal)
        shares = await self._virtual.shares_of(found.registry.id)
        return one({**_document(found.registry), "registry_upstreams": _places_of(shares)})

    async def update(self, call: Call[RegistryShape]) -> Response:
        """Change the name or the description of a virtual registry."""
        found, wanted = await self._places.registry(call.path["id"], call.principal, changes=True), call.parameters
        values = wanted.model_dump(exclude_none=True)
        require_some(tuple(RegistryShape.model_fields), set(values))
        with virtual_refusals():
            changed = await self._virtual.update(found.registry, values)
        self._note(call, EventKind.UPDATE, FoundVirtual(found.group, changed))
        return one(_document(changed))

    async def delete(self, call: Call[NoParameters]) -> Response:
        """Delete a virtual registry; its upstreams stay."""
        found = await self._places.registry(call.path["id"], call.principal, changes=True)
        await self._virtual.delete(found.registry)
        self._note(call, EventKind.DELETE, found)
        return no_content()

    async def empty(self, call: Call[NoParameters]) -> Response:
        """Empty the caches of all upstreams of a virtual registry, also for other virtual registries that have them."""
        found = await self._places.registry(call.path["id"], call.principal, changes=True)
        place = await self._virtual.find(found.registry.id)
        for upstream in () if place is None else place.upstreams:
            await self._virtual.empty_cache(upstream)
            await self._caches.delete_all(upstream)
        self._note(call, EventKind.UPDATE, found, "its caches were emptied")
        return no_content()

    async def share(self, call: Call[ShareShape]) -> Response:
        """Put an upstream of the same group behind those that a virtual registry has, which are five at most."""
        wanted = call.parameters
        found = await self._places.registry(str(wanted.registry_id), call.principal, changes=True)
        upstream = await self._virtual.find_upstream(wanted.upstream_id)
        if upstream is None or upstream.group_id != found.registry.group_id:
            raise ResourceUnknown(UPSTREAM)
        with virtual_refusals():
            made = await self._virtual.share(found.registry, upstream)
        self._note(call, EventKind.UPDATE, found, f"upstream {upstream.id} at position {made.position}")
        return one(share_document(made), 201)

    async def move(self, call: Call[PositionShape]) -> Response:
        """Move an upstream to a place in its virtual registry; the others make room."""
        found = await self._places.share(call.path["id"], call.principal)
        moved = await self._virtual.move_share(found.group.group.id, found.share, call.parameters.position)
        await self._note_share(call, moved, f"upstream {moved.upstream_id} at position {moved.position}")
        return one(share_document(moved))

    async def unshare(self, call: Call[NoParameters]) -> Response:
        """Take an upstream out of a virtual registry; it stays, for others."""
        found = await self._places.share(call.path["id"], call.principal)
        await self._virtual.unshare(found.group.group.id, found.share)
        await self._note_share(call, found.share, f"without upstream {found.share.upstream_id}")
        return no_content()

    async def _note_share(self, call: "Call[Any]", share: RegistryUpstream, told: str) -> None:
        found = await self._places.registry(str(share.registry_id), call.principal)
        self._note(call, EventKind.UPDATE, found, told)

    def _note(self, call: "Call[Any]", kind: EventKind, found: FoundVirtual, told: str | None = None) -> None:
        target = f"{found.registry.id} ({found.registry.name})"
        path = found.group.group.path
        self._audited.changed(call, kind, Subject.VIRTUAL_REGISTRY, path, target, after=told)


def _document(registry: VirtualRegistry) -> dict[str, object]:
    return {
        "id": registry.id,
        "group_id": registry.group_id,
        "name": registry.name,
        "description": registry.description or None,
        "created_at": moment(registry.created_at),
        "updated_at": moment(registry.updated_at),
    }


def share_document(share: RegistryUpstream) -> dict[str, object]:
    """An upstream in a virtual registry."""
    return {
        "id": share.id,
        "registry_id": share.registry_id,
        "upstream_id": share.upstream_id,
        "position": share.position,
    }


def _places_of(shares: Sequence[RegistryUpstream]) -> list[dict[str, object]]:
    return [{"id": share.id, "position": share.position, "upstream_id": share.upstream_id} for share in shares]
