"""Personal access tokens: one's own, and those of all for administrators.

The secret of a token is in the answer to the request that makes it, and nowhere else.
"""

from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field
from starlette.responses import Response

from gateway.api.account_documents import AccountDocuments, is_administrator
from gateway.api.errors import LoginNeeded, ResourceUnknown
from gateway.api.options import ApiOptions
from gateway.api.responses import no_content, offset_page, one
from gateway.api.routing import Call, Route
from gateway.api.shapes import Blank, NoParameters, is_id
from gateway.api.token_shapes import NewPersonalTokenShape, RotationShape, TokenListShape
from gateway.api.users import id_of, refusals
from gateway.audit.changes import AuditedChanges
from gateway.audit.event import EventKind, Subject
from gateway.audit.told import name_token, tell_token
from gateway.directory.token_administration import Issued, PersonalTokenAdministration
from gateway.directory.user_administration import UserAdministration
from gateway.namespaces.credentials import PersonalToken

ALL = "/personal_access_tokens"
ONE, OWN = f"{ALL}/{{id}}", f"{ALL}/self"


class PersonalTokenListShape(TokenListShape):
    """Parameters of a list of personal access tokens."""

    user_id: Annotated[
        int | None,
        Blank,
        Field(description="Only tokens of this user; for others than oneself by administrators alone."),
    ] = None


class PersonalTokens:
    """Handlers of personal access tokens. Whether another user's token exists is told to administrators alone."""

    def __init__(
        self,
        tokens: PersonalTokenAdministration,
        users: UserAdministration,
        documents: AccountDocuments,
        audited: AuditedChanges,
        options: ApiOptions,
    ) -> None:
        self._audited = audited
        self._tokens = tokens
        self._users = users
        self._documents = documents
        self._options = options

    @property
    def routes(self) -> list[Route[Any]]:
        kind, rotated = "personal token", "NewPersonalToken"
        return [
            Route("GET", ALL, self.list_all, PersonalTokenListShape, "personal tokens", answer="PersonalTokens"),
            Route("GET", OWN, self.show_own, NoParameters, kind, any_scope=True, answer="PersonalToken"),
            Route("DELETE", OWN, self.revoke_own, NoParameters, kind, any_scope=True, status=204),
            Route("POST", f"{OWN}/rotate", self.rotate_own, RotationShape, kind, rotates=True, answer=rotated),
            Route("GET", ONE, self.show, NoParameters, kind, answer="PersonalToken"),
            Route("DELETE", ONE, self.revoke, NoParameters, kind, status=204),
            Route("POST", f"{ONE}/rotate", self.rotate, RotationShape, kind, rotates=True, answer=rotated),
            Route(
                *("POST", f"/users/{{id}}{ALL}", self.create, NewPersonalTokenShape, kind),
                administrators=True,
                status=201,
                answer=rotated,
            ),
        ]

    async def list_all(self, call: Call[PersonalTokenListShape]) -> Response:
        """List one's own tokens, or, for administrators, those of all."""
        wanted = call.parameters
        which = replace(wanted.filter, user_id=await self._owner_wanted(call))
        part = await self._tokens.list_part(which, wanted.order, wanted.window)
        return offset_page(call, self._options, part, [self._documents.personal_token(token) for token in part.rows])

    async def show_own(self, call: Call[NoParameters]) -> Response:
        """Show the token that was sent."""
        return one(self._documents.personal_token(await self._own(call)))

    async def revoke_own(self, call: Call[NoParameters]) -> Response:
        """End the token that was sent."""
        return await self._revoke(call, await self._own(call))

    async def rotate_own(self, call: Call[RotationShape]) -> Response:
        """End the token that was sent, and make one that takes its place."""
        return await self._rotate(call, await self._own(call))

    async def show(self, call: Call[NoParameters]) -> Response:
        """Show one token."""
        return one(self._documents.personal_token(await self._find(call)))

    async def revoke(self, call: Call[NoParameters]) -> Response:
        """End a token."""
        return await self._revoke(call, await self._find(call))

    async def rotate(self, call: Call[RotationShape]) -> Response:
        """End a token, and make one that takes its place."""
        return await self._rotate(call, await self._find(call))

    async def create(self, call: Call[NewPersonalTokenShape]) -> Response:
        """Make a token of a user."""
        wanted = call.parameters
        with refusals():
            made = await self._tokens.create(
                id_of(call), wanted.name, wanted.scopes, wanted.expires_at, wanted.description or ""
            )
        await self._note(call, EventKind.CREATE, made.token, after=tell_token(made.token))
        return self._shown(made, 201)

    async def _revoke(self, call: Call[NoParameters], token: PersonalToken) -> Response:
        await self._tokens.revoke(token.id)
        await self._note(call, EventKind.DELETE, token, before=tell_token(token))
        return no_content()

    async def _rotate(self, call: Call[RotationShape], token: PersonalToken) -> Response:
        made = await self._tokens.rotate(token.id, call.parameters.expires_at)
        told = f"{name_token(made.token)}, {tell_token(made.token)}"
        await self._note(call, EventKind.UPDATE, token, before=tell_token(token), after=told)
        return self._shown(made, 200)

    async def _note(self, call: "Call[Any]", kind: EventKind, token: PersonalToken, **told: str) -> None:
        owner = await self._users.get(token.user_id)
        self._audited.changed(call, kind, Subject.PERSONAL_TOKEN, owner.name, name_token(token), **told)

    def _shown(self, made: Issued[PersonalToken], status: int) -> Response:
        return one({**self._documents.personal_token(made.token), "token": made.secret}, status)

    async def _owner_wanted(self, call: Call[PersonalTokenListShape]) -> int | None:
        """The user whose tokens are listed; None for all. Raises LoginNeeded, ResourceUnknown."""
        wanted, own = call.parameters.user_id, call.principal.user
        if is_administrator(call.principal):
            if wanted is not None:
                with refusals():
                    await self._users.get(wanted)
            return wanted
        if own is None or wanted not in (None, own.id):
            raise LoginNeeded("the tokens of another user are for administrators")
        return own.id

    async def _own(self, call: "Call[Any]") -> PersonalToken:
        """The token that was sent, as the database has it. Raises LoginNeeded."""
        credential = call.principal.credential
        token = await self._tokens.find(credential.id) if isinstance(credential, PersonalToken) else None
        if token is None:
            raise LoginNeeded("the token that was sent is no personal access token")
        return token

    async def _find(self, call: "Call[Any]") -> PersonalToken:
        """The token of an id. Raises ResourceUnknown; LoginNeeded for whoever may not know whether there is one."""
        own, text = call.principal.user, call.path["id"]
        token = await self._tokens.find(int(text)) if is_id(text) else None
        if is_administrator(call.principal):
            if token is None:
                raise ResourceUnknown()
            return token
        if token is None or own is None or token.user_id != own.id:
            raise LoginNeeded("there is no such token, or it is another user's")
        return token
