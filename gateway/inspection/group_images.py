"""GroupImages: what is cached of the images that a group has pulled, for lists and figures."""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

from cache.index.admin import CacheAdmin
from cache.index.happenings import HappeningLog
from cache.index.tenant_lists import (
    CachedBlob,
    CachedReference,
    Cursor,
    TenantLists,
    TenantOrder,
    TenantTotals,
    TenantWindow,
    cursor_of,
)
from cache.store.filesystem import FilesystemStore
from cache.values import ImageKey, Source
from gateway.db.windows import COUNTED, ListPart
from gateway.inspection.cached_content import CacheView, ContentReport
from gateway.inspection.explain import Explanation, explain, report_content
from gateway.inspection.figures import PullFigures, figures
from gateway.inspection.verdicts import GateVerdict, explain_gate
from gateway.namespaces.group import Group
from gateway.namespaces.locate import ProxiedLocation
from gateway.services import Services


@dataclass(frozen=True, slots=True)
class GroupImage:
    """A tag or digest of an image that a group has pulled: how the group used it, and how a pull would be served.

    `location`: of the image below the group.
    """

    location: ProxiedLocation
    used: CachedReference
    content: ContentReport


@dataclass(frozen=True, slots=True)
class SavedDay:
    """What a group pulled on a day (ISO 8601)."""

    day: str
    figures: PullFigures


class GroupImages:
    """Reads what is cached for groups. All methods block, and raise DatabaseUnusable."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lists = TenantLists(services.folder.index, services.folder.usage)

    def page(self, group: Group, window: TenantWindow, *, counted: bool) -> ListPart[GroupImage]:
        """A part of the images of a group. `counted`: whether the total is wanted."""
        sources = self._sources(group)
        rows = self._lists.page(group.id, list(sources), replace(window, limit=window.limit + 1))
        number = self._lists.count(group.id, list(sources), window.search, COUNTED + 1) if counted else None
        total = number if number is not None and number <= COUNTED else None
        shown = self._reported(group, sources, rows[: window.limit])
        return ListPart(shown, len(rows) > window.limit, total)

    def totals(self, group: Group) -> TenantTotals:
        """Sum up the content of the images of a group, each blob once."""
        return self._lists.totals(group.id, list(self._sources(group)))

    def count(self, group: Group) -> int:
        """Count the images of a group, up to COUNTED and one more."""
        return self._lists.count(group.id, list(self._sources(group)), "", COUNTED + 1)

    def blobs(self, group: Group, limit: int, after: str, *, descending: bool = False) -> list[CachedBlob]:
        """Some of the blobs of the images of a group, by their digests, after one of them."""
        return self._lists.blobs(group.id, list(self._sources(group)), limit, after, descending=descending)

    def find(self, group: Group, image: ImageKey) -> GroupImage | None:
        """Find a tag or digest among the images of a group."""
        sources = self._sources(group)
        found = self._lists.find(group.id, image) if image.source in sources else None
        return None if found is None else self._reported(group, sources, [found])[0]

    def explain(self, location: ProxiedLocation, image: ImageKey) -> Explanation:
        """Explain how the next pull of a tag or digest below a group would be served, and why."""
        return explain(self._view(), location, image)

    def judged(self, group: Group, limit: int) -> list[tuple[GroupImage, GateVerdict]]:
        """The tags and digests that a group pulled last, with what its gate says of the next pull of each."""
        window = TenantWindow(limit, order=TenantOrder.LAST_PULL, descending=True)
        rows = self.page(group, window, counted=False).rows
        judged: list[tuple[GroupImage, GateVerdict]] = []
        with self._view().at_once() as view:
            for row in rows:
                reference = row.used.image.reference or row.used.digest
                verdict = explain_gate(
                    row.location, row.used.image.source, reference, view.admin, view.store.read_bytes, view.now
                )
                judged.append((row, verdict))
        return judged

    def saved(self, group: Group, first: date, last: date) -> tuple[PullFigures, list[SavedDay]]:
        """What a group pulled from one day to another, in all, and by the day; days without pulls are left out."""
        counted = self._services.group_usage.days(group.id, first.isoformat(), last.isoformat())
        days = sorted({one.day for one in counted})
        by_day = [SavedDay(day, figures([one for one in counted if one.day == day]).total) for day in days]
        return figures(counted).total, by_day

    def _sources(self, group: Group) -> dict[Source, str]:
        """The sources that a group uses, with the names of their upstreams."""
        upstreams = self._services.upstreams
        return {upstreams.source(group, name): name for name in reversed(upstreams.names)}

    def _reported(self, group: Group, sources: dict[Source, str], rows: Sequence[CachedReference]) -> list[GroupImage]:
        with self._view().at_once() as view:
            return [
                GroupImage(
                    ProxiedLocation(group, sources[row.image.source], row.image.name),
                    row,
                    report_content(view, group, row.image),
                )
                for row in rows
            ]

    def _view(self) -> CacheView:
        folder, shared = self._services.folder, self._services.pull_through
        store, log = FilesystemStore(folder.blobs), HappeningLog(folder.usage)
        return CacheView(CacheAdmin(folder.index), store, log, {}, shared.rules, self._services.clock())


def write_cursor(row: GroupImage, order: TenantOrder) -> str:
    """The text by which the page begins that follows an image."""
    values = json.dumps(cursor_of(row.used, order), separators=(",", ":"))
    return base64.urlsafe_b64encode(values.encode()).decode().rstrip("=")


def read_cursor(text: str, order: TenantOrder) -> Cursor:
    """The values of a cursor for a list in an order. Raises ValueError for what `write_cursor` has not written."""
    try:
        values = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, UnicodeDecodeError, RecursionError) as error:
        raise ValueError("not base64") from error
    names = 4 if order is TenantOrder.NAME else 5
    if not isinstance(values, list) or len(values) != names or not all(isinstance(text, str) for text in values[-4:]):
        raise ValueError("not the values of the order")
    try:
        return (*map(float, values[:-4]), *values[-4:])
    except (TypeError, OverflowError) as error:
        raise ValueError("not a number") from error
