"""The gate of a group before an image, for whoever opens one: the registry's surface, and commands."""

from cache.oci.errors import Denied
from cache.policy.gate import decide_image
from cache.proxy.gated import GatedRepository, Subject
from cache.proxy.repository import ProxiedRepository
from gateway.namespaces.locate import ProxiedLocation
from gateway.services import Services

Repository = ProxiedRepository | GatedRepository


def open_proxied(location: ProxiedLocation, services: Services) -> Repository:
    """The image of a location, as its group may see it and with the credential that serves it. Raises Denied."""
    group = location.group
    client = services.upstreams.client(group, location.upstream)
    plain = ProxiedRepository(services.pull_through, client, location.image, group.path, fresh_only=group.fresh_only)
    return behind_gate(plain, location, services)


def behind_gate(repository: ProxiedRepository, location: ProxiedLocation, services: Services) -> Repository:
    """As the group of the location may see it. Raises Denied. What the gate does not look at stays as it is."""
    gate = location.group.gate
    if gate is None:
        return repository
    verdict = decide_image(gate, location.upstream, location.image)
    if not verdict.allowed:
        raise Denied(f"group {location.group.path!r}: {verdict.reason}")
    pins = gate.pins_of(location.upstream, location.image)
    if not (pins or gate.cooldown):
        return repository
    subject = Subject(services.upstreams.source(location.group, location.upstream), location.image, pins)
    pull_through = services.pull_through
    return GatedRepository(repository, gate, subject, pull_through.index, services.index, pull_through.clock)
