"""Refresh: revalidates a tag at the upstream now, and caches its manifest."""

from cache.oci.names import Tag
from cache.proxy.repository import Refreshed
from gateway.namespaces.locate import ProxiedLocation
from gateway.repositories import open_allowed_image
from gateway.services import Services


async def refresh_tag(location: ProxiedLocation, tag: Tag, services: Services) -> Refreshed:
    """Revalidate a tag, however fresh it is. The gate decides about the image's name alone. Raises RegistryError."""
    return await open_allowed_image(location, services).refresh(tag)
