"""Dependency proxy of a group: the images that it has pulled, why each is served so, and what its gate refuses."""

import asyncio
from collections.abc import Sequence
from urllib.parse import urlencode

from starlette.responses import Response

from cache.index.tenant_lists import TenantOrder, TenantWindow
from gateway.auth.matrix import Action
from gateway.inspection.cached_content import ContentState
from gateway.inspection.group_images import GroupImage, GroupImages, read_cursor, write_cursor
from gateway.inspection.verdicts import GateState
from gateway.services import Services
from gateway.settings.units import format_duration
from gateway.web.page_places import PagePlaces
from gateway.web.pages import Pages
from gateway.web.proxied_images import ProxiedImages, suffix
from gateway.web.routes import PageRoute
from gateway.web.visit import Visit

PAGE = 30
"""Images on a page."""

JUDGED = 100
"""Images, the last ones that were pulled, of which a page tells what the gate says."""

SORTS = {
    "pulled": ("Pulled last", TenantOrder.LAST_PULL, True),
    "name": ("Name", TenantOrder.NAME, False),
    "pulls": ("Most pulls", TenantOrder.PULLS, True),
    "new": ("Newest", TenantOrder.FIRST_PULL, True),
}
"""What the list may be sorted by: what the page calls it, the column, and whether it begins at the end."""

STATES = {
    ContentState.FRESH: "fresh",
    ContentState.STALE: "stale",
    ContentState.EXPIRED: "expired",
    ContentState.KNOWN: "tag known",
    ContentState.ABSENT: "not cached",
}
"""What the pages call the states of cached content."""

PATTERN = "/groups/{group:path}/-/dependency_proxy"


class ProxyPages:
    """Handlers of dependency proxies that are looked at."""

    def __init__(self, services: Services, pages: Pages) -> None:
        self._services = services
        self._pages = pages
        self._places = PagePlaces(services)
        self._images = ProxiedImages(services)

    @property
    def routes(self) -> Sequence[PageRoute]:
        return [
            PageRoute("GET", PATTERN, self.list_all),
            PageRoute("GET", f"{PATTERN}/image", self.image),
            PageRoute("GET", f"{PATTERN}/gate", self.gate),
        ]

    async def list_all(self, visit: Visit) -> Response:
        """List the tags and digests that a group has pulled, and that are cached."""
        page, query = await self._places.proxy(visit), visit.query
        sort = query.one("sort") if query.one("sort") in SORTS else "pulled"
        _, order, descending = SORTS[sort]
        search = query.one("search").strip()
        try:
            after = read_cursor(query.one("after"), order) if query.has("after") else None
        except ValueError:  # what an address names wrongly means nothing
            after = None
        window = TenantWindow(PAGE, after=after, order=order, descending=descending, search=search)
        images = GroupImages(self._services)
        part = await asyncio.to_thread(images.page, page.group, window, counted=False)
        totals = await asyncio.to_thread(images.totals, page.group)
        return self._pages.show(
            visit,
            "dependency_proxy.html",
            f"Dependency Proxy · {page.group.path}",
            page=page,
            group=page.group,
            part=part,
            texts=[text_of_image(row) for row in part.rows],
            totals=totals,
            sort=sort,
            sorts=SORTS,
            search=search,
            states=STATES,
            next=write_cursor(part.rows[-1], order) if part.rows and part.more else "",
        )

    async def image(self, visit: Visit) -> Response:
        """Explain how the next pull of an image is served, and why."""
        sought = await self._images.find_any(visit, Action.PULL, visit.query.one("image").strip())
        images, group = GroupImages(self._services), sought.page.group
        if not sought.page.pins:  # whoever looks after the server sees all that is cached
            sought = await self._images.find(visit, Action.PULL, sought.text)
        explanation = await asyncio.to_thread(images.explain, sought.location, sought.key)
        return self._pages.show(
            visit,
            "proxied_image.html",
            f"{sought.location.image}{suffix(sought.reference)} · {group.path}",
            page=sought.page,
            group=group,
            sought=sought,
            found=await asyncio.to_thread(images.find, group, sought.key),
            explanation=explanation,
            content=explanation.content,
            history=explanation.history,
            states=STATES,
            gates=_GATES,
            done=visit.query.one("done"),
        )

    async def gate(self, visit: Visit) -> Response:
        """Show the gate of a group, and what it would refuse of what the group pulled last."""
        page = await self._places.proxy(visit, Action.OWN)
        judged = await asyncio.to_thread(GroupImages(self._services).judged, page.group, JUDGED)
        refused = [(row, verdict) for row, verdict in judged if verdict.state is GateState.REFUSED]
        gate = page.group.gate
        return self._pages.show(
            visit,
            "proxy_gate.html",
            f"Gate · {page.group.path}",
            page=page,
            group=page.group,
            gate=gate,
            cooldown=format_duration(gate.cooldown) if gate and gate.cooldown else "",
            judged=len(judged),
            refused=[(row, verdict, text_of_image(row)) for row, verdict in refused],
        )


_GATES = {
    GateState.OPEN: "lets everything through",
    GateState.ALLOWED: "lets it through",
    GateState.PINNED: "pins it",
    GateState.OLDER: "serves older content",
    GateState.REFUSED: "refuses it",
    GateState.UNKNOWN: "decides at the next pull",
}
"""What a gate does with an image, in words."""


def text_of_image(row: GroupImage) -> str:
    """An image of a list, as the address of its page names it."""
    return f"{row.location.upstream}/{row.location.image}{suffix(row.used.image.reference)}"


def address_of_image(address: str, text: str, **more: str) -> str:
    """The address of the page of an image."""
    return f"{address}/image?{urlencode({'image': text, **more})}"
