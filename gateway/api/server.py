"""The server itself: its version, and whom it takes the client for."""

from typing import Any

from starlette.responses import Response

from gateway.api.documents import DocumentWriter
from gateway.api.errors import Forbidden
from gateway.api.responses import one
from gateway.api.routing import Call, Route
from gateway.api.shapes import NoParameters
from gateway.release import DISTRIBUTION, UNKNOWN_VERSION, installed_version


class ServerFacts:
    """Handlers of the server itself."""

    def __init__(self, documents: DocumentWriter) -> None:
        self._documents = documents
        self._version = {"version": installed_version() or UNKNOWN_VERSION, "revision": DISTRIBUTION}

    @property
    def routes(self) -> list[Route[Any]]:
        return [
            Route("GET", "/version", self.version, NoParameters, "version", answer="Version"),
            Route("GET", "/metadata", self.metadata, NoParameters, "metadata", answer="Metadata"),
            Route("GET", "/user", self.user, NoParameters, "user", answer="User"),
        ]

    async def version(self, call: Call[NoParameters]) -> Response:
        """Show the version of this server."""
        return one(self._version)

    async def metadata(self, call: Call[NoParameters]) -> Response:
        """Show the version of this server, and which parts of GitLab it has not."""
        agents = {"enabled": False, "externalUrl": None, "version": None}
        return one({**self._version, "kas": agents, "enterprise": False})

    async def user(self, call: Call[NoParameters]) -> Response:
        """Show the user whose token was sent."""
        if call.principal.user is None:
            raise Forbidden("the token belongs to no user")
        return one(self._documents.user(call.principal.user))
