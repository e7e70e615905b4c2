"""Groups as GraphQL documents read them. What the caller may not see of one is null."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from graphql import GraphQLError

from cache.index.tenant_lists import CachedBlob, TenantOrder, TenantTotals, TenantWindow
from gateway.api.documents import moment
from gateway.api.errors import Forbidden, LoginNeeded, ResourceUnknown
from gateway.api.graphql.connections import Connection, PageWanted, connect
from gateway.api.options import ApiOptions
from gateway.api.places import Places
from gateway.api.proxy_settings import image_prefix
from gateway.api.routing import Call
from gateway.api.shapes import is_id
from gateway.auth.matrix import Action
from gateway.inspection.group_images import GroupImage, GroupImages, read_cursor, write_cursor
from gateway.maintenance.proxy_settings import ProxySettings
from gateway.namespaces.group import Group
from gateway.namespaces.image_ttl import ImageTtlPolicy
from gateway.namespaces.locate import canonical_name
from gateway.namespaces.paths import split_proxied_name
from gateway.services import Services
from gateway.settings.units import format_bytes

T = TypeVar("T")

ORDER = TenantOrder.FIRST_PULL


@dataclass(frozen=True, slots=True)
class GraphqlCall:
    """One request, as its resolvers are given it."""

    services: Services
    places: Places
    options: ApiOptions
    call: Call[Any]


class GroupNode:
    """A group that the caller may know of. Each method resolves the field of its name."""

    def __init__(self, context: GraphqlCall, group: Group) -> None:
        self._context = context
        self._group = group
        self._images = GroupImages(context.services)
        self.id = f"gid://gitlab/Group/{group.id}"
        self.name = group.path.rpartition("/")[2]
        self.fullName = group.path.replace("/", " / ")
        self.fullPath = group.path
        self.visibility = group.visibility.value
        self.webUrl = f"{context.options.url}/groups/{group.path}"

    async def dependencyProxyImagePrefix(self, info: Any) -> str | None:
        return image_prefix(self._group, self._context.options) if await self._may(Action.PULL) else None

    async def dependencyProxyImageCount(self, info: Any) -> int | None:
        return await self._seen(partial(self._images.count, self._group))

    async def dependencyProxyBlobCount(self, info: Any) -> int | None:
        totals = await self._totals()
        return None if totals is None else totals.blobs

    async def dependencyProxyTotalSize(self, info: Any) -> str | None:
        totals = await self._totals()
        return None if totals is None else format_bytes(totals.bytes)

    async def dependencyProxyTotalSizeInBytes(self, info: Any) -> int | None:
        totals = await self._totals()
        return None if totals is None else totals.bytes

    async def dependencyProxySetting(self, info: Any) -> dict[str, object] | None:
        return setting_node(self._group) if await self._may(Action.OWN) else None

    async def dependencyProxyImageTtlPolicy(self, info: Any) -> dict[str, object] | None:
        if not await self._may(Action.OWN):
            return None
        return policy_node(await ProxySettings.of(self._context.services).find_policy(self._group))

    async def dependencyProxyManifests(self, info: Any, **arguments: Any) -> Connection[object] | None:
        wanted = _page_of(arguments)
        try:
            after = read_cursor(wanted.cursor, ORDER) if wanted.cursor else None
        except ValueError as error:
            raise GraphQLError("the cursor is of no page of this list") from error
        window = TenantWindow(wanted.limit + 1, 0, after, ORDER, not wanted.backward)
        part = await self._seen(partial(self._images.page, self._group, window, counted=False))
        if part is None:
            return None
        return connect(wanted, part.rows, manifest_node, lambda row: write_cursor(row, ORDER))

    async def dependencyProxyBlobs(self, info: Any, **arguments: Any) -> Connection[object] | None:
        wanted = _page_of(arguments)
        read = partial(
            self._images.blobs, self._group, wanted.limit + 1, wanted.cursor or "", descending=wanted.backward
        )
        blobs = await self._seen(read)
        return None if blobs is None else connect(wanted, blobs, blob_node, lambda blob: str(blob.digest))

    async def _totals(self) -> TenantTotals | None:
        return await self._seen(partial(self._images.totals, self._group))

    async def _seen(self, read: Callable[[], T]) -> T | None:
        """What whoever may pull through the group sees of its cache; None for others."""
        return await asyncio.to_thread(read) if await self._may(Action.PULL) else None

    async def _may(self, action: Action) -> bool:
        return await find_group(self._context, self._group.path, action) is not None


async def find_group(context: GraphqlCall, path: str, action: Action) -> Group | None:
    """The group of a path to which the caller may do something; None for any other. Raises DatabaseUnusable."""
    if is_id(path):
        return None
    principal = context.call.principal
    if principal.is_anonymous and action is not Action.KNOW:
        return None
    try:
        return (await context.places.group_for(path, principal, action)).group
    except (Forbidden, LoginNeeded, ResourceUnknown):
        return None


def setting_node(group: Group) -> dict[str, object]:
    return {"enabled": group.proxy_enabled, "identity": group.upstream_username}


def policy_node(policy: ImageTtlPolicy) -> dict[str, object]:
    return {
        "enabled": policy.enabled,
        "ttl": policy.ttl,
        "createdAt": moment(policy.created_at),
        "updatedAt": moment(policy.updated_at),
    }


def manifest_node(image: GroupImage) -> dict[str, object]:
    """A tag or digest; of what is evicted nothing is left, so none is scheduled for that."""
    _, name = split_proxied_name(canonical_name(image.location)) or ("", "")
    named = f"{name}:{image.used.image.reference}"
    return {
        "id": f"gid://gitlab/DependencyProxy::Manifest/{write_cursor(image, TenantOrder.NAME)}",
        "createdAt": moment(image.used.first_pull),
        "updatedAt": moment(image.used.last_pull),
        "fileName": f"{named}.json",
        "imageName": named if image.content.tag is not None else name,
        "digest": str(image.used.digest),
        "size": format_bytes(image.content.bytes),
        "status": "DEFAULT",
    }


def blob_node(blob: CachedBlob) -> dict[str, object]:
    return {
        "createdAt": moment(blob.first_pull),
        "updatedAt": moment(blob.last_pull),
        "fileName": f"{blob.digest.hex}.gz",
        "size": format_bytes(blob.size),
    }


def _page_of(arguments: dict[str, Any]) -> PageWanted:
    names = ("first", "last", "after", "before")
    return PageWanted.of(*(arguments.get(name) for name in names))


Resolver = Callable[..., Awaitable[object]]
