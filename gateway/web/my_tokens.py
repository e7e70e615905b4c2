"""My tokens: the personal access tokens of whoever is signed in."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.responses import Response

from gateway.audit.changes import AuditedChanges
from gateway.audit.event import EventKind, Subject
from gateway.audit.told import name_token, tell_token
from gateway.db.token_lists import TokenFilter, TokenOrder
from gateway.db.windows import ListWindow
from gateway.inspection.place_finder import PlaceUnknown
from gateway.namespaces.credential_rules import find_ending
from gateway.namespaces.credentials import PersonalToken, Scope
from gateway.namespaces.errors import TreeError
from gateway.namespaces.expiry import parse_expiry
from gateway.services import Services
from gateway.web.errors import sentence
from gateway.web.forms import Form
from gateway.web.pages import Pages
from gateway.web.routes import PageRoute
from gateway.web.visit import Visit

TOKENS = "/-/profile/personal_access_tokens"
PAGE = 50
"""Tokens on a page."""

SCOPES = {
    Scope.READ_REGISTRY: "Pull images.",
    Scope.WRITE_REGISTRY: "Push images, and pull them.",
    Scope.READ_API: "Read by the REST API, and pull.",
    Scope.API: "Everything that you may do: registry and REST API.",
}
"""What each scope allows, the narrowest first."""

_INVALID = 422


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A token as a form asks for it. `problem`: why it was not made; empty where nobody has tried."""

    name: str = ""
    expires: str = ""
    scopes: frozenset[str] = frozenset({Scope.READ_REGISTRY.value})
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _Shown:
    """A token that was made, with its secret, which is shown once."""

    token: PersonalToken
    secret: str = field(repr=False)


class MyTokens:
    """Handlers of one's own tokens."""

    def __init__(self, services: Services, pages: Pages) -> None:
        self._tokens = services.personal_tokens
        self._clock = services.clock
        self._audited = AuditedChanges(services.audit)
        self._pages = pages

    @property
    def routes(self) -> Sequence[PageRoute]:
        return [
            PageRoute("GET", TOKENS, self.list_own),
            PageRoute("POST", TOKENS, self.create),
            PageRoute("GET", f"{TOKENS}/{{id}}/revoke", self.ask_to_revoke),
            PageRoute("POST", f"{TOKENS}/{{id}}/revoke", self.revoke),
        ]

    async def list_own(self, visit: Visit) -> Response:
        """List the tokens, and show the form that makes one."""
        return await self._list(visit, _Wanted())

    async def create(self, visit: Visit) -> Response:
        """Make a token, whose secret is on the page that answers, and nowhere else."""
        user, wanted = visit.require_user(), _wanted(visit.form)
        known = {scope.value for scope in Scope}
        scopes = [Scope(name) for name in sorted(wanted.scopes & known)]
        try:
            expires_at = parse_expiry(wanted.expires, self._clock()) if wanted.expires else None
            made = await self._tokens.create(user.id, wanted.name, scopes, expires_at)
        except TreeError as error:
            again = _Wanted(wanted.name, wanted.expires, wanted.scopes, sentence(str(error)))
            return await self._list(visit, again, status=_INVALID)
        self._note(visit, EventKind.CREATE, made.token, after=tell_token(made.token))
        return await self._list(visit, _Wanted(), made=_Shown(made.token, made.secret))

    async def ask_to_revoke(self, visit: Visit) -> Response:
        """Ask whether a token is to be revoked."""
        token = await self._own(visit)
        return self._pages.show(visit, "revoke_token.html", f"Revoke token {token.name}", token_shown=token)

    async def revoke(self, visit: Visit) -> Response:
        """End a token."""
        token = await self._own(visit)
        await self._tokens.revoke(token.id)
        self._note(visit, EventKind.DELETE, token, before=tell_token(token))
        return self._pages.lead(visit, f"{TOKENS}?revoked=yes")

    def _note(self, visit: Visit, kind: EventKind, token: PersonalToken, **told: str) -> None:
        owner = visit.require_user().name
        self._audited.changed(visit, kind, Subject.PERSONAL_TOKEN, owner, name_token(token), **told)

    async def _own(self, visit: Visit) -> PersonalToken:
        """The token of an id, if it is the visitor's. Raises SignInNeeded, PlaceUnknown."""
        user = visit.require_user()
        token = await self._tokens.find(visit.id_in_place("id"))
        if token is None or token.user_id != user.id:
            raise PlaceUnknown("there is no such token, or it is another user's")
        return token

    async def _list(self, visit: Visit, wanted: _Wanted, *, made: _Shown | None = None, status: int = 200) -> Response:
        user, now, ended = visit.require_user(), self._clock(), visit.query.one("show") == "ended"
        number = visit.page_number
        window = ListWindow(PAGE, offset=(number - 1) * PAGE, descending=True)
        which = TokenFilter(user.id, active=not ended)
        part = await self._tokens.list_part(which, TokenOrder.CREATED, window)
        return self._pages.show(
            visit,
            "my_tokens.html",
            "Error: my tokens" if wanted.problem else "My tokens",
            status=status,
            rows=[(token, find_ending(token, now)) for token in part.rows],
            more=part.more,
            number=number,
            ended=ended,
            wanted=wanted,
            scopes=SCOPES,
            made=made,
            revoked=visit.query.has("revoked"),
        )


def _wanted(form: Form) -> _Wanted:
    return _Wanted(form.one("name").strip(), form.one("expires_at").strip(), frozenset(form.every("scope")))
