"""Groups: what a client is told of one."""

from typing import Any

from starlette.responses import Response

from gateway.api.documents import DocumentWriter
from gateway.api.places import Places, namespace_above
from gateway.api.responses import one
from gateway.api.routing import Call, Route
from gateway.api.shapes import NoParameters


class Groups:
    """Handlers of groups."""

    def __init__(self, places: Places, documents: DocumentWriter) -> None:
        self._places = places
        self._documents = documents

    @property
    def routes(self) -> list[Route[Any]]:
        return [Route("GET", "/groups/{id}", self.show, NoParameters, "group", anonymous=True, answer="Group")]

    async def show(self, call: Call[NoParameters]) -> Response:
        """Show one group."""
        place, _ = await self._places.group(call.path["id"], call.principal)
        return one(self._documents.group(place.group, namespace_above(place.group.path, place.way)))
