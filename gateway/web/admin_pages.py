"""Admin: the state of the server, and its audit log, for administrators."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from functools import partial

from starlette.responses import Response

from cache.oci.errors import NameInvalid
from cache.oci.names import RepositoryName
from gateway.audit.event import EventKind
from gateway.audit.file import AuditQuery, EventPosition, WrittenEvent
from gateway.inspection.server_report import report_server
from gateway.namespaces.errors import ExpiryInvalid
from gateway.namespaces.expiry import parse_past
from gateway.services import Services
from gateway.web.administrators import require_administrator
from gateway.web.forms import Form
from gateway.web.pages import Pages
from gateway.web.routes import PageRoute
from gateway.web.visit import Visit

EVENTS = 50
"""Events of the audit log on a page."""

READERS = 2
"""Requests of a process that read the log at the same time: a filter that fits little reads much of it."""

_INVALID = 422


class AdminPages:
    """Handlers of what administrators look at."""

    def __init__(self, services: Services, pages: Pages) -> None:
        self._services = services
        self._pages = pages
        self._readers = asyncio.Semaphore(READERS)

    @property
    def routes(self) -> Sequence[PageRoute]:
        return [PageRoute("GET", "/admin", self.overview), PageRoute("GET", "/admin/audit", self.audit)]

    async def overview(self, visit: Visit) -> Response:
        """Show the state of the server."""
        require_administrator(visit)
        report = await report_server(self._services)
        return self._pages.show(visit, "admin.html", "Admin", report=report)

    async def audit(self, visit: Visit) -> Response:
        """List what was done, and by whom, the latest first."""
        require_administrator(visit)
        query, problem, found = visit.query, "", list[WrittenEvent]()
        try:
            wanted = _wanted(query, self._services.clock())
            read = partial(self._services.audit.read, latest_first=True)
            async with self._readers:
                found = list(await asyncio.to_thread(read, wanted, _position(query.one("after")), EVENTS + 1))
        except (ValueError, NameInvalid, ExpiryInvalid) as error:
            problem = str(error)
        rows = found[:EVENTS]
        return self._pages.show(
            visit,
            "admin_audit.html",
            f"{'Error: audit' if problem else 'Audit'} log",
            status=_INVALID if problem else 200,
            rows=[written.event for written in rows],
            problem=problem,
            kinds=list(EventKind),
            query=query,
            is_kept=self._services.audit.is_kept,
            next=f"{rows[-1].event.at!r}_{rows[-1].id}" if len(found) > EVENTS else "",
        )


def _wanted(query: Form, now: datetime) -> AuditQuery:
    """The events that a query wants. Raises ValueError, NameInvalid, ExpiryInvalid."""
    kind, path, since = query.one("event"), query.one("path").strip().lower(), query.one("since").strip()
    return AuditQuery(
        since=parse_past(since, now).timestamp() if since else None,
        event=EventKind(kind) if kind else None,
        user=query.one("user").strip() or None,
        path=RepositoryName.parse(path).text if path else None,
    )


def _position(text: str) -> EventPosition | None:
    """Where a page begins; at the latest event for what names no place."""
    at, _, number = text.partition("_")
    try:
        return EventPosition(float(at), int(number)) if text else None
    except ValueError:
        return None
