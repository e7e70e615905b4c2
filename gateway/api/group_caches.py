"""The cache of a group: its images, one by one, what of them is evicted and refreshed, and what was saved."""

import asyncio
from datetime import date, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from starlette.responses import Response

from cache.index.tenant_lists import TenantOrder, TenantWindow
from cache.oci.digest import Digest
from cache.values import ImageKey
from gateway.api.documents import moment
from gateway.api.errors import Conflicting, ParametersInvalid, RequestRefused, ResourceUnknown
from gateway.api.group_places import image_in, or_latest, proxying_group
from gateway.api.options import ApiOptions
from gateway.api.places import Places
from gateway.api.responses import accepted, one, page
from gateway.api.routing import Call, Route
from gateway.api.shapes import Blank, ListShape, NoParameters, Shape, Text, refused
from gateway.audit.changes import AuditedChanges
from gateway.audit.event import Subject
from gateway.auth.matrix import Action
from gateway.auth.principal import describe
from gateway.http.access_log import identity_of
from gateway.inspection.figures import PullFigures
from gateway.inspection.group_images import GroupImage, GroupImages, read_cursor, write_cursor
from gateway.maintenance.group_cache import PURGED, EvictedImage, GroupCache
from gateway.maintenance.purge_requests import CachePurge, PurgeRequests
from gateway.maintenance.refresh import refresh_tag
from gateway.namespaces.locate import canonical_name
from gateway.repositories import image_key
from gateway.services import Services

TOO_SOON = (
    "This request has already been made. It may take some time to purge the cache. "
    "You can run this at most once an hour for a given group"
)
"""The text by which GitLab's clients know this refusal."""

IMAGE = "Image"
SAVED_DAYS = 30
MOST_SAVED_DAYS = 400
CURSOR_LIMIT = 2000

_PROXY = "/groups/{id}/dependency_proxy"
_ORDERS = {
    "name": TenantOrder.NAME,
    "last_pull_at": TenantOrder.LAST_PULL,
    "created_at": TenantOrder.FIRST_PULL,
    "pulls": TenantOrder.PULLS,
}


class ImageListShape(ListShape):
    """Parameters of the list of a group's cached images."""

    order_by: Annotated[
        Literal["name", "last_pull_at", "created_at", "pulls"], Field(description="What the list is sorted by.")
    ] = "name"
    cursor: Annotated[
        Text, Field(max_length=CURSOR_LIMIT, description="With keyset: where the page begins; from the link to it.")
    ] = ""


def _read_day(value: object) -> date | None:
    """A day (ISO 8601). Raises ValueError."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("a day is a text")
    return date.fromisoformat(value)


Day = Annotated[date | None, BeforeValidator(_read_day), Blank]


class SavingsShape(Shape):
    """From which day to which."""

    since: Annotated[Day, Field(alias="from", description="The first day; 29 days before the last one if absent.")] = (
        None
    )
    until: Annotated[Day, Field(alias="to", description="The last day; today if absent.")] = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.since is not None and self.until is not None:
            if self.since > self.until:
                raise refused("from is after to")
            if (self.until - self.since).days >= MOST_SAVED_DAYS:
                raise refused(f"from is more than {MOST_SAVED_DAYS} days before to")
        return self


class GroupCaches:
    """Handlers of the caches of groups."""

    def __init__(self, services: Services, places: Places, options: ApiOptions) -> None:
        self._services = services
        self._places = places
        self._options = options
        self._audited = AuditedChanges(services.audit)

    @property
    def routes(self) -> list[Route[Any]]:
        cache, images = f"{_PROXY}/cache", f"{_PROXY}/images"
        single = f"{images}/{{image}}"
        return [
            Route("GET", cache, self.progress, NoParameters, "cache", answer="CachePurge"),
            Route("DELETE", cache, self.purge, NoParameters, "cache", status=202, conflicts=True),
            Route("GET", images, self.list_all, ImageListShape, "images", answer="CachedImages"),
            Route("GET", single, self.show, NoParameters, "image", answer="CachedImage"),
            Route("DELETE", single, self.evict, NoParameters, "image", answer="EvictedImage"),
            Route("POST", f"{single}/refresh", self.refresh, NoParameters, "image", status=200, answer="RefreshedTag"),
            Route("GET", f"{_PROXY}/savings", self.savings, SavingsShape, "savings", answer="Savings"),
        ]

    async def purge(self, call: Call[NoParameters]) -> Response:
        """Evict all that a group has pulled from the cache, in the background, at most once an hour.

        What other groups have pulled by the same source stays cached for them, and what is pinned stays.
        """
        group = await proxying_group(self._places, call, Action.OWN, "cache")
        client, scope = call.request.client, call.request.scope
        wanted = CachePurge(
            group.id,
            self._services.clock(),
            describe(call.principal),
            call.principal.name or None,
            client.host if client else None,
            identity_of(scope)[0],
        )
        if not await self._purges.request(wanted):
            raise Conflicting(TOO_SOON)
        self._audited.evicted(call, Subject.GROUP, group.path)
        return accepted()

    async def progress(self, call: Call[NoParameters]) -> Response:
        """Show how far the last purge of a group's cache has come."""
        group = await proxying_group(self._places, call, Action.OWN, "cache")
        return one(_purge_document(await self._purges.find(group.id)))

    async def list_all(self, call: Call[ImageListShape]) -> Response:
        """List the tags and digests that a group has pulled, and that are cached."""
        wanted = call.parameters
        group = await proxying_group(self._places, call, Action.PULL, "images")
        order, is_keyset = _ORDERS[wanted.order_by], wanted.pagination is not None
        window = TenantWindow(
            wanted.per_page,
            0 if is_keyset else (wanted.page - 1) * wanted.per_page,
            _after(wanted, order) if is_keyset else None,
            order,
            wanted.sort == "desc",
            wanted.search,
        )
        part = await asyncio.to_thread(self._images.page, group, window, counted=not is_keyset)
        after = {"cursor": write_cursor(part.rows[-1], order)} if part.rows else {}
        return page(call, self._options, part, [self._document(row) for row in part.rows], after)

    async def show(self, call: Call[NoParameters]) -> Response:
        """Show one tag or digest of a cached image; without one, `latest`."""
        group = await proxying_group(self._places, call, Action.PULL, "image")
        location, reference = image_in(call, group, self._services.upstreams.names)
        key = image_key(location, or_latest(reference), self._services.upstreams)
        found = await asyncio.to_thread(self._images.find, group, key)
        if found is None:
            raise ResourceUnknown(IMAGE)
        return one(self._document(found))

    async def evict(self, call: Call[NoParameters]) -> Response:
        """Evict an image, or one tag or digest of it, that a group has pulled; the next pull fetches it again.

        What other groups have pulled by the same source stays cached for them, and what is pinned stays.
        """
        group = await proxying_group(self._places, call, Action.OWN, "image")
        location, reference = image_in(call, group, self._services.upstreams.names)
        key, cache = image_key(location, reference, self._services.upstreams), self._cache
        if not await asyncio.to_thread(cache.knows, group.id, key):
            raise ResourceUnknown(IMAGE)
        evicted = await asyncio.to_thread(cache.evict, group.id, key, PURGED)
        self._audited.evicted(call, Subject.REPOSITORY, canonical_name(location), reference)
        return one(_evicted_document(evicted))

    async def refresh(self, call: Call[NoParameters]) -> Response:
        """Confirm a tag that a group has pulled at its upstream now, however fresh it is, and fetch its manifest."""
        group = await proxying_group(self._places, call, Action.OWN, "image")
        location, reference = image_in(call, group, self._services.upstreams.names)
        tag = or_latest(reference)
        if isinstance(tag, Digest):
            raise RequestRefused("400 Bad Request - the content of a digest never changes: name a tag")
        if not await asyncio.to_thread(self._cache.knows, group.id, image_key(location, tag, self._services.upstreams)):
            raise ResourceUnknown(IMAGE)
        refreshed = await refresh_tag(location, tag, self._services)
        before, present = refreshed.before, refreshed.manifest.descriptor.digest
        return one(
            {
                "upstream": location.upstream,
                "image": str(location.image),
                "tag": str(tag),
                "old_digest": None if before is None else str(before),
                "digest": str(present),
                "changed": before != present,
            }
        )

    async def savings(self, call: Call[SavingsShape]) -> Response:
        """Show what a group pulled by the day, and what of it did not have to be fetched; days without pulls are left
        out."""
        group = await proxying_group(self._places, call, Action.PULL, "savings")
        last = call.parameters.until or self._services.clock().date()
        first = call.parameters.since or last - timedelta(days=min(SAVED_DAYS - 1, last.toordinal() - 1))
        if first > last or (last - first).days >= MOST_SAVED_DAYS:
            raise ParametersInvalid([f"from is not within {MOST_SAVED_DAYS} days before to"])
        total, days = await asyncio.to_thread(self._images.saved, group, first, last)
        shown = [{"day": day.day, **_figures_document(day.figures)} for day in days]
        bounds = {"from": first.isoformat(), "to": last.isoformat()}
        return one({**bounds, "total": _figures_document(total), "days": shown})

    @property
    def _purges(self) -> PurgeRequests:
        return PurgeRequests.of(self._services)

    @property
    def _cache(self) -> GroupCache:
        return GroupCache.of(self._services)

    @property
    def _images(self) -> GroupImages:
        return GroupImages(self._services)

    def _document(self, image: GroupImage) -> dict[str, object]:
        used, content = image.used, image.content
        path = f"{canonical_name(image.location)}{_suffix(used.image)}"
        return {
            "name": f"{image.location.image}{_suffix(used.image)}",
            "upstream": image.location.upstream,
            "path": path,
            "location": f"{self._options.registry}/{path}",
            "tag": None if content.tag is None else str(content.tag),
            "digest": str(used.digest),
            "size": content.bytes,
            "created_at": moment(used.first_pull),
            "last_pull_at": moment(used.last_pull),
            "pulls": used.pulls,
            "hits": used.hits,
            "last_outcome": used.outcome,
            "checked_at": None if content.checked_at is None else moment(content.checked_at),
            "state": content.state.value,
            "reason": content.reason,
            "pinned": content.pinned,
        }


def _suffix(image: ImageKey) -> str:
    return f"{'@' if isinstance(image.reference, Digest) else ':'}{image.reference}"


def _after(wanted: ImageListShape, order: TenantOrder) -> tuple[str | float, ...] | None:
    """Where a page of a keyset begins. Raises ParametersInvalid."""
    try:
        return read_cursor(wanted.cursor, order) if wanted.cursor else None
    except ValueError as error:
        raise ParametersInvalid(["cursor is invalid"]) from error


def _purge_document(purge: CachePurge | None) -> dict[str, object]:
    if purge is None:
        counts = {"images": None, "purged": 0, "shared": 0, "freed_bytes": 0}
        return {"status": "none", "requested_at": None, "completed_at": None, **counts}
    is_begun = purge.images is not None
    status = "finished" if purge.completed_at else "ongoing" if is_begun else "scheduled"
    return {
        "status": status,
        "requested_at": moment(purge.requested_at),
        "completed_at": None if purge.completed_at is None else moment(purge.completed_at),
        "images": purge.images,
        "purged": purge.purged,
        "shared": purge.shared,
        "freed_bytes": purge.freed_bytes,
    }


def _evicted_document(evicted: EvictedImage) -> dict[str, object]:
    return {
        "tags": evicted.tags,
        "freed_bytes": evicted.bytes,
        "shared": evicted.shared,
        "pinned": [pin or "*" for pin in evicted.kept],
    }


def _figures_document(figures: PullFigures) -> dict[str, object]:
    return {
        "pulls": figures.pulls,
        "hit_rate": figures.hit_rate,
        "saved_pulls": figures.saved_pulls,
        "sent_bytes": figures.sent_bytes,
        "fetched_bytes": figures.fetched_bytes,
        "saved_bytes": figures.sent_bytes - figures.fetched_bytes,
    }
