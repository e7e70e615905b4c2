"""What the dependency proxy of a group saved: hit rate, bytes and pulls, as pictures and as a table."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from starlette.responses import Response

from gateway.inspection.figures import PullFigures
from gateway.inspection.group_images import GroupImages
from gateway.services import Services
from gateway.web.charts import Bar, Column, bars
from gateway.web.formats import percent, plural, size
from gateway.web.page_places import PagePlaces
from gateway.web.pages import Pages
from gateway.web.routes import PageRoute
from gateway.web.visit import Visit

SPANS = {"day": ("Today", 1), "week": ("7 days", 7), "month": ("30 days", 30)}
"""Spans that a page may show, with the number of their days."""

_NOTHING = PullFigures(0, None, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Picture:
    """A chart with its title, and with the value that its highest bar would have."""

    title: str
    most: str
    bars: tuple[Bar, ...]
    legend: Mapping[str, str]


class ProxySavings:
    """Handler of the figures of dependency proxies."""

    def __init__(self, services: Services, pages: Pages) -> None:
        self._services = services
        self._pages = pages
        self._places = PagePlaces(services)

    @property
    def routes(self) -> Sequence[PageRoute]:
        return [PageRoute("GET", "/groups/{group:path}/-/dependency_proxy/savings", self.savings)]

    async def savings(self, visit: Visit) -> Response:
        """Show what a group pulled in the last days, and what of it did not have to be fetched."""
        page = await self._places.proxy(visit)
        wanted = visit.query.one("over")
        over = wanted if wanted in SPANS else "week"
        last = self._services.clock().date()
        span = [last - timedelta(days=back) for back in reversed(range(SPANS[over][1]))]
        total, found = await asyncio.to_thread(GroupImages(self._services).saved, page.group, span[0], last)
        known = {one.day: one.figures for one in found}
        days = [(day, known.get(day.isoformat(), _NOTHING)) for day in span]
        return self._pages.show(
            visit,
            "proxy_savings.html",
            f"What it saved · {page.group.path}",
            page=page,
            group=page.group,
            over=over,
            spans=SPANS,
            total=total,
            days=days,
            pictures=_pictures(days),
        )


def _pictures(days: Sequence[tuple[date, PullFigures]]) -> list[Picture]:
    most_bytes = max(figures.sent_bytes for _, figures in days)
    most_pulls = max(figures.pulls for _, figures in days)
    of_bytes = [
        Column([("saved", _saved(one)), ("fetched", one.sent_bytes - _saved(one))], _bytes_text(day, one))
        for day, one in days
    ]
    of_pulls = [Column([("saved", one.pulls)], f"{day}: {plural(one.pulls, 'request')}") for day, one in days]
    of_rates = [Column([("saved", one.hit_rate or 0.0)], f"{day}: {percent(one.hit_rate)}") for day, one in days]
    return [
        Picture("Hit rate", "100 %", bars(of_rates, 1.0), {}),
        Picture(
            "Bytes sent to clients",
            size(most_bytes),
            bars(of_bytes, most_bytes),
            {"saved": "from the cache", "fetched": "fetched from upstreams"},
        ),
        Picture("Requests", f"{most_pulls:,}", bars(of_pulls, most_pulls), {}),
    ]


def _saved(figures: PullFigures) -> int:
    """Bytes that were sent and not fetched; a download that a client left may have cost more than was sent."""
    return max(figures.sent_bytes - figures.fetched_bytes, 0)


def _bytes_text(day: date, figures: PullFigures) -> str:
    return f"{day}: {size(figures.sent_bytes)} sent, {size(figures.fetched_bytes)} fetched"
