"""Access tokens and deploy tokens of projects and groups: made, shown once, listed with their last use, and revoked."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from starlette.responses import Response

from gateway.administration.access_tokens import AccessTokenChanges
from gateway.administration.deploy_tokens import DeployTokenChanges
from gateway.auth.matrix import Action
from gateway.db.token_lists import TokenFilter, TokenOrder
from gateway.db.windows import ListPart, ListWindow
from gateway.directory.places import Place
from gateway.inspection.place_finder import PlaceUnknown
from gateway.namespaces.credential_rules import DEPLOY_TOKEN_SCOPES, find_ending
from gateway.namespaces.credentials import Scope
from gateway.namespaces.errors import TreeError
from gateway.namespaces.role import Role
from gateway.services import Services
from gateway.web.errors import PageError, sentence
from gateway.web.page_places import NodePage, PagePlaces
from gateway.web.pages import Pages
from gateway.web.routes import PageRoute
from gateway.web.token_forms import PAGE, SCOPES, ListedToken, MadeToken, WantedToken
from gateway.web.visit import Visit

_INVALID = 422


class TokenKind(Protocol):
    """One kind of tokens that projects and groups have. `segment`: the last part of the address of their page;
    `detail`: the field of the form for what `ListedToken.detail` says; `scopes`: what one may be for, in words."""

    segment: str
    noun: str
    detail: str
    scopes: Mapping[Scope, str]
    first: WantedToken

    async def list_part(self, place: Place, active: bool, window: ListWindow) -> ListPart[ListedToken]:
        """A part of the tokens of a place itself: those in use, or those that ended."""

    async def find(self, place: Place, id: int) -> ListedToken | None:
        """Find a token of a place itself."""

    async def create(self, visit: Visit, place: Place, wanted: WantedToken) -> MadeToken:
        """Make a token. Raises TreeError, PlaceRefused, PageError."""

    async def revoke(self, visit: Visit, place: Place, id: int) -> None:
        """End a token. Raises PlaceUnknown, PlaceRefused."""


class _AccessTokens:
    """Access tokens, whose bots have a role."""

    segment, noun, detail = "access_tokens", "access token", "role"
    scopes: Mapping[Scope, str] = SCOPES
    first = WantedToken(detail=Role.DEVELOPER.word)

    def __init__(self, services: Services) -> None:
        self._tokens, self._clock = services.access_tokens, services.clock
        self._changes = AccessTokenChanges(services)

    async def list_part(self, place: Place, active: bool, window: ListWindow) -> ListPart[ListedToken]:
        part = await self._tokens.list_part(place.key, TokenFilter(active=active), TokenOrder.CREATED, window)
        now = self._clock()
        rows = [ListedToken(one.token, find_ending(one.token, now), _word(one.role)) for one in part.rows]
        return ListPart(rows, part.more, part.total)

    async def find(self, place: Place, id: int) -> ListedToken | None:
        found = await self._tokens.find(place.key, id)
        if found is None:
            return None
        return ListedToken(found.token, find_ending(found.token, self._clock()), _word(found.role))

    async def create(self, visit: Visit, place: Place, wanted: WantedToken) -> MadeToken:
        try:
            role = Role.parse(wanted.detail)
        except ValueError as error:
            raise PageError("The form names no role. Nothing was changed.") from error
        ends = wanted.ends(self._clock())
        made = await self._changes.create(visit, place, role, wanted.name, wanted.chosen, ends)
        return MadeToken(wanted.name, "whatever", made.secret)

    async def revoke(self, visit: Visit, place: Place, id: int) -> None:
        found = await self._tokens.find(place.key, id)
        if found is None:
            raise PlaceUnknown("there is no such token")
        await self._changes.revoke(visit, place, found)


class _DeployTokens:
    """Deploy tokens, which are presented with a user name."""

    segment, noun, detail = "deploy_tokens", "deploy token", "username"
    scopes: Mapping[Scope, str] = {
        scope: SCOPES.get(scope, "Pull from virtual registries of the group.")
        for scope in Scope
        if scope in DEPLOY_TOKEN_SCOPES
    }
    first = WantedToken()

    def __init__(self, services: Services) -> None:
        self._tokens, self._clock = services.deploy_tokens, services.clock
        self._changes = DeployTokenChanges(services)

    async def list_part(self, place: Place, active: bool, window: ListWindow) -> ListPart[ListedToken]:
        part = await self._tokens.list_part(place.key, active, window)
        rows = [ListedToken(token, find_ending(token, self._clock()), token.username) for token in part.rows]
        return ListPart(rows, part.more, part.total)

    async def find(self, place: Place, id: int) -> ListedToken | None:
        token = await self._changes.find(place, id)
        return None if token is None else ListedToken(token, find_ending(token, self._clock()), token.username)

    async def create(self, visit: Visit, place: Place, wanted: WantedToken) -> MadeToken:
        made = await self._changes.create(
            visit, place, wanted.name, wanted.detail or None, wanted.chosen, wanted.ends(self._clock())
        )
        return MadeToken(wanted.name, made.token.username, made.secret)

    async def revoke(self, visit: Visit, place: Place, id: int) -> None:
        token = await self._changes.find(place, id)
        if token is None:
            raise PlaceUnknown("there is no such token")
        await self._changes.revoke(visit, place, token)


def _word(role: Role | None) -> str:
    return "none any more" if role is None else role.word.capitalize()


class NodeTokens:
    """Handlers of the tokens of projects and groups, for who may administer these."""

    def __init__(self, services: Services, pages: Pages) -> None:
        self._kinds: Sequence[TokenKind] = (_AccessTokens(services), _DeployTokens(services))
        self._pages = pages
        self._places = PagePlaces(services)

    @property
    def routes(self) -> Sequence[PageRoute]:
        return [
            route
            for node in ("/groups/{group:path}", "/{project:path}")  # which would fit the other one, too
            for kind in self._kinds
            for route in self._routes(kind, f"{node}/-/settings/{kind.segment}")
        ]

    def _routes(self, kind: TokenKind, every: str) -> list[PageRoute]:
        return [
            PageRoute("GET", every, partial(self.list_all, kind)),
            PageRoute("POST", every, partial(self.create, kind)),
            PageRoute("GET", f"{every}/{{id}}/revoke", partial(self.ask_to_revoke, kind)),
            PageRoute("POST", f"{every}/{{id}}/revoke", partial(self.revoke, kind)),
        ]

    async def list_all(self, kind: TokenKind, visit: Visit) -> Response:
        """List the tokens, and show the form that makes one."""
        page = await self._places.node(visit, Action.ADMIN)
        return await self._list(visit, page, kind, kind.first)

    async def create(self, kind: TokenKind, visit: Visit) -> Response:
        """Make a token, whose secret is on the page that answers, and nowhere else."""
        page = await self._places.node(visit, Action.ADMIN)
        wanted = WantedToken.read(visit.form, kind.detail)
        try:
            made = await kind.create(visit, page.place, wanted)
        except TreeError as error:
            return await self._list(visit, page, kind, replace(wanted, problem=sentence(str(error))))
        return await self._list(visit, page, kind, kind.first, made)

    async def ask_to_revoke(self, kind: TokenKind, visit: Visit) -> Response:
        """Ask whether a token is to be revoked."""
        page = await self._places.node(visit, Action.ADMIN)
        found = await kind.find(page.place, visit.id_in_place("id"))
        if found is None:
            raise PlaceUnknown("there is no such token")
        return self._pages.show(
            visit,
            "revoke_node_token.html",
            f"Revoke {kind.noun} {found.token.name}",
            **page.shown,
            kind=kind,
            token_shown=found.token,
            tokens=self._tokens_of(page, kind),
        )

    async def revoke(self, kind: TokenKind, visit: Visit) -> Response:
        """End a token."""
        page = await self._places.node(visit, Action.ADMIN)
        await kind.revoke(visit, page.place, visit.id_in_place("id"))
        return self._pages.lead(visit, f"{self._tokens_of(page, kind)}?revoked=yes")

    @staticmethod
    def _tokens_of(page: NodePage, kind: TokenKind) -> str:
        return f"{page.base}/settings/{kind.segment}"

    async def _list(
        self, visit: Visit, page: NodePage, kind: TokenKind, wanted: WantedToken, made: MadeToken | None = None
    ) -> Response:
        ended, number = visit.query.one("show") == "ended", visit.page_number
        part = await kind.list_part(
            page.place, not ended, ListWindow(PAGE, offset=(number - 1) * PAGE, descending=True)
        )
        mine = await self._places.finder.role(visit.principal, page.place)
        return self._pages.show(
            visit,
            "node_tokens.html",
            f"{'Error: ' if wanted.problem else ''}{kind.noun.capitalize()}s · {page.path}",
            status=_INVALID if wanted.problem else 200,
            **page.shown,
            kind=kind,
            rows=part.rows,
            more=part.more,
            ended=ended,
            wanted=wanted,
            made=made,
            roles=[role for role in Role if mine is not None and role <= mine],
            revoked=visit.query.has("revoked"),
            tokens=self._tokens_of(page, kind),
        )
