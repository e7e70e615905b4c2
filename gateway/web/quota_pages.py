"""Quota of a project or group: what it stores, and how much it may store."""

from collections.abc import Sequence

from starlette.responses import Response

from gateway.administration.quotas import Quotas
from gateway.auth.matrix import Action
from gateway.directory.places import ProjectPlace
from gateway.services import Services
from gateway.settings.units import parse_rate
from gateway.web.page_places import NodePage, PagePlaces
from gateway.web.pages import Pages
from gateway.web.routes import PageRoute
from gateway.web.visit import Visit

_UNITS = (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
_INVALID = 422


class QuotaPages:
    """Handlers of quotas."""

    def __init__(self, services: Services, pages: Pages) -> None:
        self._quotas = Quotas(services)
        self._pages = pages
        self._places = PagePlaces(services)

    @property
    def routes(self) -> Sequence[PageRoute]:
        return [
            PageRoute(method, f"{node}/-/settings/quota", handler)
            for node in ("/groups/{group:path}", "/{project:path}")  # which would fit the other one, too
            for method, handler in (("GET", self.show), ("POST", self.save))
        ]

    async def show(self, visit: Visit) -> Response:
        """Show what is stored, and the quota."""
        page = await self._places.node(visit, Action.ADMIN)
        return await self._show(visit, page, exact_size(_quota_of(page)), "")

    async def save(self, visit: Visit) -> Response:
        """Change the quota."""
        page, text = await self._places.node(visit, Action.ADMIN), visit.form.one("quota").strip().replace(" ", "")
        try:
            quota = parse_rate(text).number if text else None
        except ValueError:
            problem = f"“{text}” is no size: use one such as 500MiB or 10GiB, or leave it empty for no quota."
            return await self._show(visit, page, text, problem)
        await self._quotas.change(visit, page.place, quota)
        return self._pages.lead(visit, f"{_address(page)}?saved=yes")

    async def _show(self, visit: Visit, page: NodePage, typed: str, problem: str) -> Response:
        return self._pages.show(
            visit,
            "quota.html",
            f"{'Error: quota' if problem else 'Quota'} · {page.path}",
            status=_INVALID if problem else 200,
            **page.shown,
            stored=await self._quotas.stored(page.place),
            quota=_quota_of(page),
            typed=typed,
            problem=problem,
            address=_address(page),
            may_change=self._quotas.may_change(visit.principal),
            saved=visit.query.has("saved"),
        )


def exact_size(count: int | None) -> str:
    """A number of bytes as a field takes it, in the largest unit that leaves nothing over; empty for None."""
    if count is None:
        return ""
    unit, scale = next(((unit, scale) for unit, scale in _UNITS if count and count % scale == 0), ("", 1))
    return f"{count // scale}{unit}"


def _address(page: NodePage) -> str:
    return f"{page.base}/settings/quota"


def _quota_of(page: NodePage) -> int | None:
    place = page.place
    return place.project.quota if isinstance(place, ProjectPlace) else place.group.quota
