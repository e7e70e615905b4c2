"""The resources of virtual registries, which share their places and their caches."""

from gateway.api.options import ApiOptions
from gateway.api.places import Places
from gateway.api.virtual_places import VirtualPlaces
from gateway.api.virtual_registries import VirtualRegistryRoutes
from gateway.api.virtual_upstreams import VirtualUpstreamRoutes
from gateway.audit.changes import AuditedChanges
from gateway.maintenance.virtual_caches import VirtualCaches
from gateway.services import Services


def virtual_resources(
    services: Services, places: Places, audited: AuditedChanges, options: ApiOptions
) -> tuple[VirtualRegistryRoutes, VirtualUpstreamRoutes]:
    """Make the handlers of virtual registries and of their upstreams."""
    virtual, found = services.virtual, VirtualPlaces(places, services.virtual)
    caches = VirtualCaches(services.folder, services.clock)
    return (
        VirtualRegistryRoutes(found, virtual, caches, audited),
        VirtualUpstreamRoutes(found, virtual, caches, audited, options),
    )
