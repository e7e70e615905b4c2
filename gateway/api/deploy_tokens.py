"""Deploy tokens of projects and groups, and those of all for administrators.

The secret of a token is in the answer to the request that makes it, and nowhere else.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.responses import Response

from gateway.administration.deploy_tokens import DeployTokenChanges
from gateway.api.account_documents import AccountDocuments
from gateway.api.errors import ResourceUnknown, ValuesRefused
from gateway.api.options import ApiOptions
from gateway.api.places import Places
from gateway.api.responses import no_content, offset_page, offset_window, one
from gateway.api.routing import Call, Route
from gateway.api.shapes import NoParameters, is_id
from gateway.api.token_shapes import DeployTokenListShape, NewDeployTokenShape
from gateway.auth.matrix import Action
from gateway.directory.places import Place
from gateway.http.access_log import note_native_lookup
from gateway.namespaces.credentials import DeployToken
from gateway.namespaces.errors import CredentialInvalid, ExpiryInvalid
from gateway.namespaces.node import NodeKey
from gateway.services import Services

ALL, DEPLOY_TOKEN = "/deploy_tokens", "Deploy Token"

PlaceOf = Callable[["Call[Any]", Action], Awaitable[Place]]
"""Finds the project or group that a path names, to which the caller may do something."""


class DeployTokens:
    """Handlers of deploy tokens."""

    def __init__(self, places: Places, services: Services, documents: AccountDocuments, options: ApiOptions) -> None:
        self._places = places
        self._tokens = services.deploy_tokens
        self._changes = DeployTokenChanges(services)
        self._documents = documents
        self._options = options

    @property
    def routes(self) -> list[Route[Any]]:
        every = Route(
            *("GET", ALL, self.list_all, DeployTokenListShape, "deploy tokens"),
            administrators=True,
            answer="DeployTokens",
        )
        return [every, *self._routes_of("projects", self._project), *self._routes_of("groups", self._group)]

    def _routes_of(self, word: str, place_of: PlaceOf) -> list[Route[Any]]:
        """The routes of the tokens of projects, or of groups."""
        every = f"/{word}/{{id}}{ALL}"
        single, kind = f"{every}/{{token_id}}", "deploy token"

        async def list_some(call: Call[DeployTokenListShape]) -> Response:
            """List the deploy tokens of a project or group itself."""
            return await self._list(call, (await place_of(call, Action.TOKENS)).key)

        async def show(call: Call[NoParameters]) -> Response:
            """Show one deploy token of a project or group."""
            return one(self._documents.deploy_token(await self._find(call, await place_of(call, Action.TOKENS))))

        async def create(call: Call[NewDeployTokenShape]) -> Response:
            """Make a deploy token of a project or group."""
            return await self._create(call, await place_of(call, Action.ADMIN))

        async def revoke(call: Call[NoParameters]) -> Response:
            """End a deploy token of a project or group."""
            place = await place_of(call, Action.ADMIN)
            await self._changes.revoke(call, place, await self._find(call, place))
            return no_content()

        return [
            Route("GET", every, list_some, DeployTokenListShape, "deploy tokens", answer="DeployTokens"),
            Route("GET", single, show, NoParameters, kind, answer="DeployToken"),
            Route("POST", every, create, NewDeployTokenShape, kind, status=201, answer="NewDeployToken"),
            Route("DELETE", single, revoke, NoParameters, kind, status=204),
        ]

    async def list_all(self, call: Call[DeployTokenListShape]) -> Response:
        """List the deploy tokens of all projects and groups."""
        return await self._list(call, None)

    async def _list(self, call: Call[DeployTokenListShape], node: NodeKey | None) -> Response:
        part = await self._tokens.list_part(node, call.parameters.active, offset_window(call.parameters))
        return offset_page(call, self._options, part, [self._documents.deploy_token(token) for token in part.rows])

    async def _create(self, call: Call[NewDeployTokenShape], place: Place) -> Response:
        wanted = call.parameters
        try:
            made = await self._changes.create(
                call, place, wanted.name, wanted.username, wanted.scopes, wanted.expires_at
            )
        except ExpiryInvalid as error:
            raise ValuesRefused({"expires_at": [str(error)]}) from error
        except CredentialInvalid as error:
            raise ValuesRefused({"base": [str(error)]}) from error
        return one({**self._documents.deploy_token(made.token), "token": made.secret}, 201)

    async def _find(self, call: "Call[Any]", place: Place) -> DeployToken:
        """The token of an id, which belongs to a project or group itself. Raises ResourceUnknown."""
        text = call.path["token_id"]
        token = await self._changes.find(place, int(text)) if is_id(text) else None
        if token is None:
            raise ResourceUnknown(DEPLOY_TOKEN)
        return token

    async def _project(self, call: "Call[Any]", action: Action) -> Place:
        place = await self._places.project(call.path["id"], call.principal, action)
        note_native_lookup(call.request.scope, "deploy tokens", place.path)
        return place

    async def _group(self, call: "Call[Any]", action: Action) -> Place:
        return await self._places.group_for(call.path["id"], call.principal, action)
