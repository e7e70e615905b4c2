"""Admin > Doctor: what is wrong with the installation, and what to do about it, examined on request."""

import asyncio
from collections.abc import Sequence

from starlette.responses import Response

from gateway.services import Services
from gateway.web.administrators import require_administrator
from gateway.web.pages import Pages
from gateway.web.routes import PageRoute
from gateway.web.visit import Visit

DOCTOR = "/admin/doctor"


class DoctorPage:
    """Handlers of examinations."""

    def __init__(self, services: Services, pages: Pages) -> None:
        self._diagnoses = services.diagnoses
        self._pages = pages

    @property
    def routes(self) -> Sequence[PageRoute]:
        return [PageRoute("GET", DOCTOR, self.show), PageRoute("POST", DOCTOR, self.begin)]

    async def show(self, visit: Visit) -> Response:
        """Show what the last examination found, or that one is under way."""
        require_administrator(visit)
        running = await asyncio.to_thread(self._diagnoses.is_running)
        last = await asyncio.to_thread(self._diagnoses.last)
        return self._pages.show(visit, "admin_doctor.html", "Doctor · Admin", last=last, running=running)

    async def begin(self, visit: Visit) -> Response:
        """Begin an examination, unless one is under way."""
        require_administrator(visit)
        self._diagnoses.begin()
        return self._pages.lead(visit, DOCTOR)
