"""Repositories: the one place that locates an image for a command and opens repositories, behind the group's gate."""

from collections.abc import Callable
from dataclasses import dataclass

from cache.oci.digest import Digest
from cache.oci.errors import Denied, NameUnknown
from cache.oci.names import RepositoryName, Tag
from cache.policy.gate import decide_image
from cache.proxy.gated import GatedImage, GatedRepository
from cache.proxy.repository import ProxiedRepository
from cache.repository import FoundManifest, Repository
from cache.values import Source
from gateway.auth.principal import Principal
from gateway.docker_hub import short_names
from gateway.namespaces.locate import ProxiedLocation
from gateway.namespaces.paths import PROXY_SEPARATOR
from gateway.services import Services
from gateway.upstreams import Upstreams


@dataclass(frozen=True, slots=True)
class OpenedRepository:
    """A repository as its group may read it, the path of the group and the configured name of the upstream.

    `prefetch` is called with each manifest that a client was given, and begins to download what it requests next.
    """

    repository: Repository
    prefetch: Callable[[FoundManifest], None]
    group: str
    upstream: str


@dataclass(frozen=True, slots=True)
class CachedImage:
    """An image of a source as the cache's index knows it, or one tag or digest of it."""

    source: Source
    name: RepositoryName
    reference: Tag | Digest | None = None


def open_repository(location: ProxiedLocation, principal: Principal, services: Services) -> OpenedRepository:
    """Open the image of a location with the credential that serves its group.

    `principal`: who reads it, as the caller has already permitted. Raises Denied where the settings of the upstream or
    the gate of the group refuse the image.
    """
    plain = open_ungated(location, services)
    gated = _behind_gate(plain, location, services)
    return OpenedRepository(gated, plain.blobs.prefetch, location.group.path, location.upstream)


def open_ungated(location: ProxiedLocation, services: Services) -> ProxiedRepository:
    """Open an image whose name the settings and the gate allow, without the gate for tags and digests.

    For maintenance, which revalidates a tag whatever the group makes of it. Raises Denied.
    """
    check_settings(location, services.upstreams)
    group, image = location.group, location.image
    if group.gate is not None:
        verdict = decide_image(group.gate, location.upstream, image, short_names(location.upstream, image))
        if not verdict.allowed:
            raise Denied(f"group {group.path!r}: {verdict.reason}")
    client = services.upstreams.client(group, location.upstream)
    return ProxiedRepository(services.pull_through, client, image, group.path, fresh_only=group.fresh_only)


def check_settings(location: ProxiedLocation, upstreams: Upstreams) -> None:
    """Raises Denied for an image that the settings of its upstream do not allow."""
    if not upstreams.get(location.upstream).permits(location.image):
        raise Denied(f"the settings of upstream {location.upstream} do not allow {location.image}")


async def locate_image(name: str, group: str, services: Services) -> ProxiedLocation:
    """Locate `[UPSTREAM/]NAME` below a group. Raises NameInvalid, NameUnknown, DatabaseUnusable."""
    location = await services.directory.locate(RepositoryName.parse(f"{group}{PROXY_SEPARATOR}{name}"))
    if not isinstance(location, ProxiedLocation):
        raise NameUnknown(f"{name} is no image of an upstream")
    return location


def cached_image(location: ProxiedLocation, reference: Tag | Digest | None, upstreams: Upstreams) -> CachedImage:
    """The image that a location leads to, as the cache holds it for the group's credential."""
    return CachedImage(upstreams.source(location.group, location.upstream), location.image, reference)


def _behind_gate(plain: ProxiedRepository, location: ProxiedLocation, services: Services) -> Repository:
    """Wrap a repository whose group has pins for it, or a cooldown."""
    gate = location.group.gate
    if gate is None:
        return plain
    pins = gate.pins_of(location.upstream, location.image)
    if not (pins or gate.cooldown):
        return plain
    image = GatedImage(services.upstreams.source(location.group, location.upstream), location.image, pins)
    pull_through = services.pull_through
    return GatedRepository(plain, gate, image, pull_through.index, services.index, pull_through.clock)
