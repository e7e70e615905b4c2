"""Access tokens of projects and groups: each acts for a bot with a role there, for programs that are no person's.

The secret of a token is in the answer to the request that makes it, and nowhere else.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.responses import Response

from gateway.administration.access_tokens import NO_PERSON, AccessTokenChanges
from gateway.api.account_documents import AccountDocuments
from gateway.api.errors import Forbidden, LoginNeeded, ResourceUnknown, ValuesRefused
from gateway.api.members import partial_of
from gateway.api.options import ApiOptions
from gateway.api.places import Places
from gateway.api.responses import no_content, offset_page, one
from gateway.api.routing import Call, Route
from gateway.api.shapes import NoParameters, is_id
from gateway.api.token_shapes import NewAccessTokenShape, RotationShape, TokenListShape
from gateway.api.tree_refusals import tree_refusals
from gateway.auth.matrix import Action
from gateway.directory.access_tokens import AccessToken
from gateway.directory.places import Place
from gateway.directory.token_administration import Issued
from gateway.http.access_log import note_native_lookup
from gateway.namespaces.credentials import PersonalToken
from gateway.namespaces.errors import BotRefused, CredentialInvalid, ExpiryInvalid
from gateway.namespaces.role import Role
from gateway.services import Services

ACCESS_TOKEN = "Access Token"
_KIND, _NEW = "access token", "NewAccessToken"


class AccessTokens:
    """Handlers of access tokens. `of`: the word for what has them, in paths. Maintainers look after those of a project,
    owners after those of a group."""

    def __init__(self, places: Places, services: Services, documents: AccountDocuments, options: ApiOptions) -> None:
        self._places = places
        self._tokens = services.access_tokens
        self._changes = AccessTokenChanges(services)
        self._documents = documents
        self._options = options

    @property
    def routes(self) -> list[Route[Any]]:
        return [route for of in ("projects", "groups") for route in self._routes(of)]

    def _routes(self, of: str) -> list[Route[Any]]:
        every = f"/{of}/{{id}}/access_tokens"
        single, own = f"{every}/{{token_id}}", f"{every}/self"

        def rotation(path: str, handler: Any) -> Route[RotationShape]:
            return Route(
                "POST", f"{path}/rotate", partial_of(handler, of), RotationShape, _KIND, rotates=True, answer=_NEW
            )

        return [
            Route("GET", every, partial_of(self.list_all, of), TokenListShape, "access tokens", answer="AccessTokens"),
            Route("GET", single, partial_of(self.show, of), NoParameters, _KIND, answer="AccessToken"),
            Route("POST", every, partial_of(self.create, of), NewAccessTokenShape, _KIND, status=201, answer=_NEW),
            Route("DELETE", single, partial_of(self.revoke, of), NoParameters, _KIND, status=204),
            rotation(own, self.rotate_own),
            rotation(single, self.rotate),
        ]

    async def list_all(self, of: str, call: Call[TokenListShape]) -> Response:
        """List the access tokens of a project or group itself."""
        home, wanted = await self._home(of, call, Action.TOKENS), call.parameters
        part = await self._tokens.list_part(home.key, wanted.filter, wanted.order, wanted.window)
        return offset_page(call, self._options, part, [self._documents.access_token(token) for token in part.rows])

    async def show(self, of: str, call: Call[NoParameters]) -> Response:
        """Show one access token of a project or group."""
        home = await self._home(of, call, Action.TOKENS)
        return one(self._documents.access_token(await self._find(call, home)))

    async def create(self, of: str, call: Call[NewAccessTokenShape]) -> Response:
        """Make an access token of a project or group, with a bot that is a member there."""
        home, wanted = await self._home(of, call, Action.ADMIN), call.parameters
        described = wanted.name, wanted.scopes, wanted.expires_at, wanted.description or ""
        try:
            with _refusals():
                made = await self._changes.create(call, home, wanted.access_level, *described)
        except CredentialInvalid as error:
            raise ValuesRefused({"base": [str(error)]}) from error
        return self._shown(made, 201)

    async def revoke(self, of: str, call: Call[NoParameters]) -> Response:
        """End an access token of a project or group; its bot is no member any more."""
        home = await self._home(of, call, Action.ADMIN)
        with _refusals():
            await self._changes.revoke(call, home, await self._find(call, home))
        return no_content()

    async def rotate(self, of: str, call: Call[RotationShape]) -> Response:
        """End an access token of a project or group, and make one of the same bot that takes its place."""
        home = await self._home(of, call, Action.ADMIN)
        found = await self._find(call, home)
        with _refusals():
            return self._shown(await self._changes.take_over(call, home, found, call.parameters.expires_at), 200)

    async def rotate_own(self, of: str, call: Call[RotationShape]) -> Response:
        """End the access token that was sent, and make one that takes its place."""
        home, sent = await self._home(of, call, Action.KNOW), call.principal.credential
        found = await self._tokens.find(home.key, sent.id) if isinstance(sent, PersonalToken) else None
        if found is None:
            raise LoginNeeded("the token that was sent is no access token of this project or group")
        with _refusals():
            return self._shown(await self._changes.rotate(call, home, found, call.parameters.expires_at), 200)

    def _shown(self, made: Issued[AccessToken], status: int) -> Response:
        return one({**self._documents.access_token(made.token), "token": made.secret}, status)

    async def _home(self, of: str, call: "Call[Any]", action: Action) -> Place:
        """The project or group of a path. Those who look after the tokens of a group are its owners, who see them, too
        (GitLab, "Group access tokens API"). Raises ApiError."""
        if of == "projects":
            project = await self._places.project(call.path["id"], call.principal, action)
            note_native_lookup(call.request.scope, _KIND, project.path)
            return project
        group = await self._places.group_for(call.path["id"], call.principal, action)
        if action is Action.TOKENS:
            with _refusals():
                await self._changes.require(call, group, Role.OWNER)
        return group

    async def _find(self, call: "Call[Any]", home: Place) -> AccessToken:
        """The token of an id, which belongs to a project or group itself. Raises ResourceUnknown."""
        text = call.path["token_id"]
        found = await self._tokens.find(home.key, int(text)) if is_id(text) else None
        if found is None:
            raise ResourceUnknown(ACCESS_TOKEN)
        return found


@contextmanager
def _refusals() -> Iterator[None]:
    """Translate what is refused within the block. Raises ApiError."""
    with tree_refusals():
        try:
            yield
        except BotRefused as error:
            raise Forbidden(NO_PERSON) from error
        except ExpiryInvalid as error:
            raise ValuesRefused({"expires_at": [str(error)]}) from error
