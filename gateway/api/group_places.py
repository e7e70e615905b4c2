"""Groups with a dependency proxy, and images below them, as paths of the API name them."""

from collections.abc import Collection
from typing import Any

from cache.oci.digest import Digest
from cache.oci.names import Tag
from gateway.api.errors import PathUnknown
from gateway.api.places import Places
from gateway.api.routing import Call
from gateway.auth.matrix import Action
from gateway.http.access_log import note_lookup
from gateway.inspection.cached_content import LATEST
from gateway.namespaces.group import Group
from gateway.namespaces.image_text import parse_image
from gateway.namespaces.locate import ProxiedLocation, locate_image


async def proxying_group(places: Places, call: "Call[Any]", action: Action, kind: str) -> Group:
    """The group of a path, whose dependency proxy is on. `kind`: what the log names the request. Raises ApiError."""
    place = await places.group_for(call.path["id"], call.principal, action)
    group = place.group
    note_lookup(call.request.scope, kind, group.path, "")
    if not group.proxy_enabled:
        raise PathUnknown(f"the dependency proxy of group {group.path!r} is off")
    return group


def image_in(
    call: "Call[Any]", group: Group, upstreams: Collection[str]
) -> tuple[ProxiedLocation, Tag | Digest | None]:
    """The image of a path, `[UPSTREAM/]NAME[:TAG|@DIGEST]`, below a group; None for all of it. Raises RegistryError."""
    name, reference = parse_image(call.path["image"])
    return locate_image(name, group.path, {group.path: group}, upstreams), reference


def or_latest(reference: Tag | Digest | None) -> Tag | Digest:
    """The reference that an image without one has."""
    return LATEST if reference is None else reference
