"""What is changed in the cache of a group: images that are refreshed, pinned and evicted, and purges of all of it."""

import asyncio
from collections.abc import Sequence

from starlette.responses import Response

from cache.index.admin import CacheAdmin
from cache.oci.digest import Digest
from gateway.audit.changes import AuditedChanges
from gateway.audit.event import EventKind, Subject
from gateway.auth.matrix import Action
from gateway.auth.principal import describe
from gateway.http.access_log import identity_of
from gateway.maintenance.group_cache import PURGED, GroupCache
from gateway.maintenance.purge_requests import CachePurge, PurgeRequests
from gateway.maintenance.refresh import refresh_tag
from gateway.namespaces.locate import canonical_name
from gateway.services import Services
from gateway.web.errors import PageError, PageForbidden
from gateway.web.page_places import PagePlaces
from gateway.web.pages import Pages
from gateway.web.proxied_images import ProxiedImages, SoughtImage
from gateway.web.proxy_pages import PATTERN, address_of_image
from gateway.web.routes import PageRoute
from gateway.web.visit import Visit


class PurgedAlready(PageError):
    """A purge of a group is requested too soon after the last one."""

    status, title = 409, "This cache was purged a while ago"


class ProxyChanges:
    """Handlers of what is changed."""

    def __init__(self, services: Services, pages: Pages) -> None:
        self._services = services
        self._pages = pages
        self._audited = AuditedChanges(services.audit)
        self._places = PagePlaces(services)
        self._images = ProxiedImages(services)

    @property
    def routes(self) -> Sequence[PageRoute]:
        return [
            PageRoute("POST", f"{PATTERN}/image/refresh", self.refresh),
            PageRoute("POST", f"{PATTERN}/image/pin", self.pin),
            PageRoute("POST", f"{PATTERN}/image/unpin", self.unpin),
            PageRoute("POST", f"{PATTERN}/image/evict", self.evict),
            PageRoute("GET", f"{PATTERN}/purge", self.ask_to_purge),
            PageRoute("POST", f"{PATTERN}/purge", self.purge),
        ]

    async def refresh(self, visit: Visit) -> Response:
        """Confirm a tag at its upstream now, however fresh it is, and fetch its manifest."""
        sought = await self._find(visit)
        if isinstance(sought.reference, Digest):
            raise PageError("The content of a digest never changes. Refresh a tag. Nothing was requested.")
        refreshed = await refresh_tag(sought.location, sought.reference, self._services)
        changed = refreshed.before != refreshed.manifest.descriptor.digest
        return self._lead_back(visit, sought, "changed" if changed else "confirmed")

    async def pin(self, visit: Visit) -> Response:
        """Keep what a tag or digest refers to from eviction."""
        sought = await self._find_for_pin(visit)
        await asyncio.to_thread(self._admin.pin, sought.key.source, sought.key.name, str(sought.reference))
        self._note_pin(visit, sought, after=_PINNED)
        return self._lead_back(visit, sought, "pinned")

    async def unpin(self, visit: Visit) -> Response:
        """Let what a tag or digest refers to be evicted again."""
        sought = await self._find_for_pin(visit)
        gone = await asyncio.to_thread(self._admin.unpin, sought.key.source, sought.key.name, str(sought.reference))
        if not gone:
            raise PageError("There is no pin of exactly this tag or digest: another one keeps its content.")
        self._note_pin(visit, sought, before=_PINNED)
        return self._lead_back(visit, sought, "unpinned")

    async def evict(self, visit: Visit) -> Response:
        """Evict a tag or digest, after a confirmation; the next pull fetches it again."""
        sought = await self._find(visit)
        page, group = sought.page, sought.page.group
        if visit.form.one("confirmed") != "yes":
            title = f"Evict {sought.text}"
            return self._pages.show(visit, "evict_image.html", title, page=page, group=group, sought=sought)
        cache = GroupCache.of(self._services)
        evicted = await asyncio.to_thread(cache.evict, group.id, sought.key, PURGED)
        self._audited.evicted(visit, Subject.REPOSITORY, canonical_name(sought.location), sought.reference)
        title = f"Evicted {sought.text}"
        return self._pages.show(
            visit, "image_evicted.html", title, page=page, group=group, sought=sought, evicted=evicted
        )

    async def ask_to_purge(self, visit: Visit) -> Response:
        """Ask whether all that a group has pulled is to be evicted, and show how far the last purge has come."""
        page = await self._places.proxy(visit, Action.OWN)
        last = await self._purges.find(page.group.id)
        title = f"Purge the cache · {page.group.path}"
        return self._pages.show(visit, "purge_cache.html", title, page=page, group=page.group, last=last)

    async def purge(self, visit: Visit) -> Response:
        """Evict all that a group has pulled, in the background, at most once an hour."""
        page = await self._places.proxy(visit, Action.OWN)
        who, name = describe(visit.principal), visit.principal.name or None
        request_id = identity_of(visit.request.scope)[0]
        wanted = CachePurge(page.group.id, self._services.clock(), who, name, visit.address, request_id)
        if not await self._purges.request(wanted):
            raise PurgedAlready("A group's cache is purged at most once an hour. Nothing was changed.")
        self._audited.evicted(visit, Subject.GROUP, page.group.path)
        return self._pages.lead(visit, f"{page.address}/purge")

    @property
    def _admin(self) -> CacheAdmin:
        return CacheAdmin(self._services.folder.index)

    @property
    def _purges(self) -> PurgeRequests:
        return PurgeRequests.of(self._services)

    async def _find(self, visit: Visit) -> SoughtImage:
        return await self._images.find(visit, Action.OWN, visit.form.one("image").strip())

    async def _find_for_pin(self, visit: Visit) -> SoughtImage:
        """The image of a form, for whoever looks after the server: a pin takes room from all groups."""
        sought = await self._images.find_any(visit, Action.OWN, visit.form.one("image").strip())
        if not sought.page.pins:
            raise PageForbidden("Administrators of this server pin images: a pin takes room from all groups.")
        return sought

    def _note_pin(
        self, visit: Visit, sought: SoughtImage, *, before: str | None = None, after: str | None = None
    ) -> None:
        subject, path = Subject.REPOSITORY, canonical_name(sought.location)
        reference = str(sought.reference)
        self._audited.changed(visit, EventKind.UPDATE, subject, path, reference, before=before, after=after)

    def _lead_back(self, visit: Visit, sought: SoughtImage, done: str) -> Response:
        return self._pages.lead(visit, address_of_image(sought.page.address, sought.text, done=done))


_PINNED = "pinned in the cache"
"""What the audit log says of a pin."""
