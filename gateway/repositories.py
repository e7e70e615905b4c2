"""The gate of a group before an image, for whoever opens one: the registry's surface, and commands."""

from collections.abc import Callable
from dataclasses import dataclass

from cache.oci.errors import Denied
from cache.policy.gate import decide_image
from cache.proxy.gated import GatedImage, GatedRepository
from cache.proxy.repository import ProxiedRepository
from cache.repository import FoundManifest, Repository
from gateway.docker_hub import short_names
from gateway.namespaces.locate import ProxiedLocation
from gateway.services import Services


@dataclass(frozen=True, slots=True)
class ProxiedImage:
    """An image as its group may see it. `prefetch` is for manifests that a client was given: it begins to download
    what such a client requests next."""

    repository: Repository
    prefetch: Callable[[FoundManifest], None]


def open_proxied(location: ProxiedLocation, services: Services) -> ProxiedImage:
    """Open the image of a location with the credential that serves its group. Raises Denied."""
    group = location.group
    client = services.upstreams.client(group, location.upstream)
    plain = ProxiedRepository(services.pull_through, client, location.image, group.path, fresh_only=group.fresh_only)
    return ProxiedImage(behind_gate(plain, location, services), plain.blobs.prefetch)


def behind_gate(repository: ProxiedRepository, location: ProxiedLocation, services: Services) -> Repository:
    """As the group of the location may see it. Raises Denied. What the gate does not look at stays as it is."""
    gate = location.group.gate
    if gate is None:
        return repository
    verdict = decide_image(gate, location.upstream, location.image, short_names(location.upstream, location.image))
    if not verdict.allowed:
        raise Denied(f"group {location.group.path!r}: {verdict.reason}")
    pins = gate.pins_of(location.upstream, location.image)
    if not (pins or gate.cooldown):
        return repository
    image = GatedImage(services.upstreams.source(location.group, location.upstream), location.image, pins)
    pull_through = services.pull_through
    return GatedRepository(repository, gate, image, pull_through.index, services.index, pull_through.clock)
