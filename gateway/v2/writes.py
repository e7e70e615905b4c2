"""Writes: pushes and deletions (distribution-spec, "Push", "Content Management"), which no repository supports yet."""

from starlette.requests import Request
from starlette.types import ASGIApp

from gateway.auth.matrix import Action
from gateway.auth.principal import Principal
from gateway.v2.endpoint import Endpoint, EndpointKind
from gateway.v2.opener import RepositoryOpener
from gateway.v2.root_selection import chosen_root


class Writes:
    """Handlers of the endpoints that change a repository."""

    def __init__(self, opener: RepositoryOpener) -> None:
        self._opener = opener

    async def refuse(self, request: Request, endpoint: Endpoint, principal: Principal) -> ASGIApp:
        """Refuse a write, since no repository of this server is writable.

        Raises NameUnknown, Denied, Unsupported, Unauthorized.
        """
        # To end an upload belongs to a push.
        deletes = request.method == "DELETE" and endpoint.kind is not EndpointKind.UPLOAD
        action = Action.DELETE if deletes else Action.PUSH
        await self._opener.open(endpoint.name, principal, action, chosen_root(request.scope).root)
        raise AssertionError("a repository was opened for writing")
