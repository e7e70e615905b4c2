"""My tokens: the personal access tokens of whoever is signed in."""

from collections.abc import Sequence
from dataclasses import replace

from starlette.responses import Response

from gateway.audit.changes import AuditedChanges
from gateway.audit.event import EventKind, Subject
from gateway.audit.told import name_token, tell_token
from gateway.db.token_lists import TokenFilter, TokenOrder
from gateway.db.windows import ListWindow
from gateway.inspection.place_finder import PlaceUnknown
from gateway.namespaces.credential_rules import find_ending
from gateway.namespaces.credentials import PersonalToken
from gateway.namespaces.errors import TreeError
from gateway.services import Services
from gateway.web.errors import sentence
from gateway.web.pages import Pages
from gateway.web.routes import PageRoute
from gateway.web.token_forms import PAGE, SCOPES, ListedToken, MadeToken, WantedToken
from gateway.web.visit import Visit

TOKENS = "/-/profile/personal_access_tokens"
_INVALID = 422


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
        return await self._list(visit, WantedToken())

    async def create(self, visit: Visit) -> Response:
        """Make a token, whose secret is on the page that answers, and nowhere else."""
        user, wanted = visit.require_user(), WantedToken.read(visit.form)
        try:
            made = await self._tokens.create(user.id, wanted.name, wanted.chosen, wanted.ends(self._clock()))
        except TreeError as error:
            return await self._list(visit, replace(wanted, problem=sentence(str(error))))
        self._note(visit, EventKind.CREATE, made.token, after=tell_token(made.token))
        return await self._list(visit, WantedToken(), MadeToken(wanted.name, user.name, made.secret))

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

    async def _list(self, visit: Visit, wanted: WantedToken, made: MadeToken | None = None) -> Response:
        user, now, ended = visit.require_user(), self._clock(), visit.query.one("show") == "ended"
        window = ListWindow(PAGE, offset=(visit.page_number - 1) * PAGE, descending=True)
        which = TokenFilter(user.id, active=not ended)
        part = await self._tokens.list_part(which, TokenOrder.CREATED, window)
        return self._pages.show(
            visit,
            "my_tokens.html",
            "Error: my tokens" if wanted.problem else "My tokens",
            status=_INVALID if wanted.problem else 200,
            rows=[ListedToken(token, find_ending(token, now)) for token in part.rows],
            more=part.more,
            ended=ended,
            wanted=wanted,
            scopes=SCOPES,
            made=made,
            revoked=visit.query.has("revoked"),
        )
