"""Access tokens of projects and groups: each acts for a bot with a role there, for programs that are no person's.

The secret of a token is in the answer to the request that makes it, and nowhere else.
"""

from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from gateway.api.account_documents import AccountDocuments
from gateway.api.errors import Forbidden, LoginNeeded, ResourceUnknown, ValuesRefused
from gateway.api.members import partial_of
from gateway.api.options import ApiOptions
from gateway.api.places import Places
from gateway.api.responses import no_content, offset_page, one
from gateway.api.routing import Call, Route
from gateway.api.shapes import NoParameters, is_id
from gateway.api.token_shapes import NewAccessTokenShape, RotationShape, TokenListShape
from gateway.audit.changes import AuditedChanges
from gateway.auth.matrix import Action
from gateway.directory.access_tokens import AccessToken
from gateway.directory.places import GroupPlace, ProjectPlace
from gateway.directory.token_administration import Issued
from gateway.http.access_log import note_native_lookup
from gateway.namespaces.credentials import PersonalToken
from gateway.namespaces.errors import BotRefused, CredentialInvalid, ExpiryInvalid
from gateway.namespaces.node import NodeKey, Way
from gateway.namespaces.role import Role
from gateway.services import Services

ACCESS_TOKEN = "Access Token"
_KIND, _NEW = "access token", "NewAccessToken"
_NO_PERSON = "an access token makes no other tokens: a person does"


@dataclass(frozen=True, slots=True)
class _Home:
    """The project or group whose tokens a request is about."""

    path: str
    way: Way

    @property
    def key(self) -> NodeKey:
        return self.way[-1]


class AccessTokens:
    """Handlers of access tokens. `of`: the word for what has them, in paths.

    Maintainers look after those of a project, owners after those of a group. Nobody makes or is given a token with a
    role above the own one. A bot makes no token but the one that takes the place of its own, so that whoever has its
    secret has nothing else once that is revoked.
    """

    def __init__(
        self,
        places: Places,
        services: Services,
        documents: AccountDocuments,
        audited: AuditedChanges,
        options: ApiOptions,
    ) -> None:
        self._places = places
        self._tokens = services.access_tokens
        self._personal_tokens = services.personal_tokens
        self._documents = documents
        self._audited = audited
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
        home, wanted, user = await self._home(of, call, Action.ADMIN), call.parameters, call.principal.user
        if user is None:
            raise Forbidden("the token belongs to no user")
        await self._require_at_most_own(call, home, wanted.access_level)
        try:
            made = await self._tokens.create(
                home.key,
                user.id,
                wanted.access_level,
                wanted.name,
                wanted.scopes,
                wanted.expires_at,
                wanted.description or "",
            )
        except BotRefused as error:
            raise Forbidden(_NO_PERSON) from error
        except ExpiryInvalid as error:
            raise ValuesRefused({"expires_at": [str(error)]}) from error
        except CredentialInvalid as error:
            raise ValuesRefused({"base": [str(error)]}) from error
        self._audited.granted(call, home.path, made.token.token)
        return self._shown(made, 201)

    async def revoke(self, of: str, call: Call[NoParameters]) -> Response:
        """End an access token of a project or group; its bot is no member any more."""
        home = await self._home(of, call, Action.ADMIN)
        found = await self._find(call, home)
        await self._require_at_most_own(call, home, found.role)
        await self._personal_tokens.revoke(found.token.id)
        self._audited.revoked(call, home.path, found.token)
        return no_content()

    async def rotate(self, of: str, call: Call[RotationShape]) -> Response:
        """End an access token of a project or group, and make one of the same bot that takes its place."""
        home = await self._home(of, call, Action.ADMIN)
        found = await self._find(call, home)
        await self._require_at_most_own(call, home, found.role)
        user = call.principal.user
        if user is None or (user.id != found.token.user_id and await self._tokens.is_bot(user.id)):
            raise Forbidden(_NO_PERSON)
        return await self._rotate(call, home, found)

    async def rotate_own(self, of: str, call: Call[RotationShape]) -> Response:
        """End the access token that was sent, and make one that takes its place."""
        home, sent = await self._home(of, call, Action.KNOW), call.principal.credential
        found = await self._tokens.find(home.key, sent.id) if isinstance(sent, PersonalToken) else None
        if found is None:
            raise LoginNeeded("the token that was sent is no access token of this project or group")
        return await self._rotate(call, home, found)

    async def _rotate(self, call: Call[RotationShape], home: _Home, found: AccessToken) -> Response:
        try:
            made = await self._personal_tokens.rotate(found.token.id, call.parameters.expires_at)
        except ExpiryInvalid as error:
            raise ValuesRefused({"expires_at": [str(error)]}) from error
        self._audited.revoked(call, home.path, found.token)
        self._audited.granted(call, home.path, made.token)
        return self._shown(Issued(AccessToken(made.token, found.role), made.secret), 200)

    def _shown(self, made: Issued[AccessToken], status: int) -> Response:
        return one({**self._documents.access_token(made.token), "token": made.secret}, status)

    async def _home(self, of: str, call: "Call[Any]", action: Action) -> _Home:
        """The project or group of a path. Those who look after the tokens of a group are its owners, who see them, too
        (GitLab, "Group access tokens API"). Raises ApiError."""
        if of == "projects":
            project: ProjectPlace = await self._places.project(call.path["id"], call.principal, action)
            note_native_lookup(call.request.scope, _KIND, project.project.path)
            return _Home(project.project.path, project.way)
        group: GroupPlace = await self._places.group_for(call.path["id"], call.principal, action)
        home = _Home(group.group.path, group.way)
        if action is Action.TOKENS:
            await self._require_at_most_own(call, home, Role.OWNER)
        return home

    async def _find(self, call: "Call[Any]", home: _Home) -> AccessToken:
        """The token of an id, which belongs to a project or group itself. Raises ResourceUnknown."""
        text = call.path["token_id"]
        found = await self._tokens.find(home.key, int(text)) if is_id(text) else None
        if found is None:
            raise ResourceUnknown(ACCESS_TOKEN)
        return found

    async def _require_at_most_own(self, call: "Call[Any]", home: _Home, role: Role | None) -> None:
        """Check that a caller has at least the role that a token gives. Raises Forbidden."""
        own = await self._places.role(call.principal, home.way)
        if role is not None and (own is None or role > own):
            raise Forbidden(f"the role {role.word} is above your own here")
