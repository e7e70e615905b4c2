"""Images below a group as addresses of pages name them: `[UPSTREAM/]NAME[:TAG|@DIGEST]`."""

import asyncio
from dataclasses import dataclass

from cache.oci.digest import Digest
from cache.oci.names import Tag
from cache.values import ImageKey
from gateway.auth.matrix import Action
from gateway.inspection.cached_content import LATEST
from gateway.maintenance.group_cache import GroupCache
from gateway.namespaces.image_text import parse_image
from gateway.namespaces.locate import ProxiedLocation, canonical_name, locate_image
from gateway.repositories import image_key
from gateway.services import Services
from gateway.web.errors import PageError
from gateway.web.page_places import PagePlaces, ProxyPage
from gateway.web.visit import Visit


class ImageNotPulled(PageError):
    """A group has not pulled an image; what others have pulled is not told."""

    status, title = 404, "This group has not pulled this image"

    def __init__(self) -> None:
        super().__init__(
            "Only what is pulled through the group is listed and explained here. Where an owner has evicted it, the "
            "next pull fetches it again."
        )


@dataclass(frozen=True, slots=True)
class SoughtImage:
    """A tag or digest of an image below a group."""

    page: ProxyPage
    location: ProxiedLocation
    reference: Tag | Digest
    key: ImageKey

    @property
    def text(self) -> str:
        """The image as an address of a page names it."""
        return f"{self.location.upstream}/{self.location.image}{suffix(self.reference)}"

    @property
    def path(self) -> str:
        """The name by which clients pull it, without the registry's name."""
        return f"{canonical_name(self.location)}{suffix(self.reference)}"


class ProxiedImages:
    """Finds images for visits. Raises as PagePlaces does."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._places = PagePlaces(services)

    async def find(self, visit: Visit, action: Action, text: str) -> SoughtImage:
        """The image of a text, without a tag its `latest`, below the group of a path. Raises ImageNotPulled too."""
        sought = await self.find_any(visit, action, text)
        knows = GroupCache.of(self._services).knows
        if not await asyncio.to_thread(knows, sought.page.group.id, sought.key):
            raise ImageNotPulled
        return sought

    async def find_any(self, visit: Visit, action: Action, text: str) -> SoughtImage:
        """The image of a text, whether the group has pulled it or not."""
        page, upstreams = await self._places.proxy(visit, action), self._services.upstreams
        if not text:
            raise PageError("Name an image, such as alpine:3.20.")
        name, reference = parse_image(text)
        location = locate_image(name, page.group.path, {page.group.path: page.group}, upstreams.names)
        reference = LATEST if reference is None else reference
        return SoughtImage(page, location, reference, image_key(location, reference, upstreams))


def suffix(reference: Tag | Digest | None) -> str:
    """What follows the name of an image."""
    return "" if reference is None else f"{'@' if isinstance(reference, Digest) else ':'}{reference}"
