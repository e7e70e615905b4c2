"""Deploy tokens of projects and groups, and those of all for administrators.

The secret of a token is in the answer to the request that makes it, and nowhere else.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.responses import Response

from gateway.api.account_documents import AccountDocuments
from gateway.api.errors import ResourceUnknown, ValuesRefused
from gateway.api.options import ApiOptions
from gateway.api.places import Places
from gateway.api.responses import no_content, offset_page, offset_window, one
from gateway.api.routing import Call, Route
from gateway.api.shapes import NoParameters, is_id
from gateway.api.token_shapes import DeployTokenListShape, NewDeployTokenShape
from gateway.audit.changes import AuditedChanges
from gateway.audit.event import EventKind, Subject
from gateway.audit.told import name_token, tell_token
from gateway.auth.matrix import Action
from gateway.directory.token_administration import DeployTokenAdministration
from gateway.http.access_log import note_native_lookup
from gateway.namespaces.credentials import DeployToken
from gateway.namespaces.errors import CredentialInvalid, ExpiryInvalid
from gateway.namespaces.node import NodeKey, PathEntry

ALL, DEPLOY_TOKEN = "/deploy_tokens", "Deploy Token"

NodeOf = Callable[["Call[Any]", Action], Awaitable[PathEntry]]
"""Finds the project or group that a path names, to which the caller may do something."""


class DeployTokens:
    """Handlers of deploy tokens."""

    def __init__(
        self,
        places: Places,
        tokens: DeployTokenAdministration,
        documents: AccountDocuments,
        audited: AuditedChanges,
        options: ApiOptions,
    ) -> None:
        self._audited = audited
        self._places = places
        self._tokens = tokens
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

    def _routes_of(self, word: str, node_of: NodeOf) -> list[Route[Any]]:
        """The routes of the tokens of projects, or of groups."""
        every = f"/{word}/{{id}}{ALL}"
        single, kind = f"{every}/{{token_id}}", "deploy token"

        async def list_some(call: Call[DeployTokenListShape]) -> Response:
            """List the deploy tokens of a project or group itself."""
            return await self._list(call, (await node_of(call, Action.TOKENS)).key)

        async def show(call: Call[NoParameters]) -> Response:
            """Show one deploy token of a project or group."""
            node = await node_of(call, Action.TOKENS)
            return one(self._documents.deploy_token(await self._find(call, node.key)))

        async def create(call: Call[NewDeployTokenShape]) -> Response:
            """Make a deploy token of a project or group."""
            return await self._create(call, await node_of(call, Action.ADMIN))

        async def revoke(call: Call[NoParameters]) -> Response:
            """End a deploy token of a project or group."""
            node = await node_of(call, Action.ADMIN)
            token = await self._find(call, node.key)
            await self._tokens.revoke(token.id)
            self._note(call, EventKind.DELETE, node, token, before=tell_token(token))
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

    async def _create(self, call: Call[NewDeployTokenShape], node: PathEntry) -> Response:
        wanted = call.parameters
        try:
            made = await self._tokens.create(node.key, wanted.name, wanted.username, wanted.scopes, wanted.expires_at)
        except ExpiryInvalid as error:
            raise ValuesRefused({"expires_at": [str(error)]}) from error
        except CredentialInvalid as error:
            raise ValuesRefused({"base": [str(error)]}) from error
        self._note(call, EventKind.CREATE, node, made.token, after=tell_token(made.token))
        return one({**self._documents.deploy_token(made.token), "token": made.secret}, 201)

    def _note(self, call: "Call[Any]", kind: EventKind, node: PathEntry, token: DeployToken, **told: str) -> None:
        self._audited.changed(call, kind, Subject.DEPLOY_TOKEN, node.path, name_token(token), **told)

    async def _find(self, call: "Call[Any]", node: NodeKey) -> DeployToken:
        """The token of an id, which belongs to a project or group itself. Raises ResourceUnknown."""
        text = call.path["token_id"]
        token = await self._tokens.find(int(text)) if is_id(text) else None
        if token is None or token.node != node:
            raise ResourceUnknown(DEPLOY_TOKEN)
        return token

    async def _project(self, call: "Call[Any]", action: Action) -> PathEntry:
        place = await self._places.project(call.path["id"], call.principal, action)
        note_native_lookup(call.request.scope, "deploy tokens", place.project.path)
        return PathEntry(place.project.path, place.project.key)

    async def _group(self, call: "Call[Any]", action: Action) -> PathEntry:
        place = await self._places.group_for(call.path["id"], call.principal, action)
        return PathEntry(place.group.path, place.way[-1])
