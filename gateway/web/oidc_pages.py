"""Signing in by an issuer: a link leads a browser there, and the issuer leads it back."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from secrets import token_urlsafe

from starlette.responses import Response

from gateway.audit.changes import AuditedChanges
from gateway.audit.event import EventKind, Subject
from gateway.audit.told import tell_user
from gateway.auth.refused_logins import LoginRefused
from gateway.http.access_log import log_refused_login
from gateway.oidc.code_flow import SignInAttempt
from gateway.services import Services
from gateway.web.cookies import Cookies
from gateway.web.errors import PageUnknown
from gateway.web.options import SignIn
from gateway.web.pages import Pages
from gateway.web.routes import PageRoute
from gateway.web.sign_in import SignInPages
from gateway.web.visit import Visit, local_path

OIDC = "/users/oidc"

_SECRET_BYTES = 32
_COOKIE = re.compile(r"([A-Za-z0-9_-]{43})\.([A-Za-z0-9_-]*)")
_LONGEST_NEXT = 1000
"""Characters of a path to which a visitor is led back: a cookie has some 4 KiB."""


class OidcPages:
    """Handlers of sign-ins by issuers. What belongs to an attempt rests in a cookie of its own browser alone."""

    def __init__(self, services: Services, pages: Pages, cookies: Cookies, sign_in: SignInPages) -> None:
        self._issuers = services.oidc_sign_in
        self._sessions = services.web_sessions
        self._pages = pages
        self._cookies = cookies
        self._sign_in = sign_in
        self._audited = AuditedChanges(services.audit)

    @property
    def routes(self) -> Sequence[PageRoute]:
        return [
            PageRoute("GET", f"{OIDC}/{{issuer}}", self.begin),
            PageRoute("GET", f"{OIDC}/{{issuer}}/callback", self.finish),
        ]

    async def begin(self, visit: Visit) -> Response:
        """Lead a browser to an issuer."""
        name, next_path = self._issuer_in(visit), local_path(visit.query.one("next", "/"))
        attempt = SignInAttempt(name, token_urlsafe(_SECRET_BYTES))
        try:
            address = await self._issuers.begin(attempt, self._callback(name))
        except LoginRefused as error:
            return self._refused(visit, next_path, error)
        response = self._pages.lead(visit, address)
        self._cookies.keep_attempt(response, _cookie_of(attempt, next_path))
        return response

    async def finish(self, visit: Visit) -> Response:
        """Begin a session for whom an issuer vouches for, in the browser that began the attempt."""
        name = self._issuer_in(visit)
        found = _COOKIE.fullmatch(self._cookies.attempt(visit.request) or "")
        next_path = "/" if found is None else _path_of(found[2])
        attempt = SignInAttempt(name, token_urlsafe(_SECRET_BYTES) if found is None else found[1])
        told = {key: visit.query.one(key) for key in ("state", "code", "error", "iss") if visit.query.has(key)}
        try:
            person = await self._issuers.finish(attempt, told, self._callback(name))
        except LoginRefused as error:
            return self._refused(visit, next_path, error)
        if person.is_new:
            rights, target = tell_user(person.user), f"{person.identity.issuer} {person.identity.subject}"
            self._audited.changed(visit, EventKind.CREATE, Subject.USER, person.user.name, target, after=rights)
        former = visit.session.stored if visit.session is not None else None
        session = await self._sessions.begin(person.user, former, person.identity)
        response = self._pages.lead(visit, next_path)
        self._cookies.keep_session(response, session.secret)
        self._cookies.drop_attempt(response)
        return response

    def _issuer_in(self, visit: Visit) -> str:
        """The name of the issuer in a path. Raises PageUnknown."""
        name = visit.place["issuer"]
        if name not in self._issuers.names or self._pages.options.sign_in is SignIn.REFUSED:
            raise PageUnknown("nobody signs in by such an issuer")
        return name

    def _callback(self, name: str) -> str:
        """Where an issuer leads a browser back to: one address for each, so that none is taken for another one."""
        return f"{self._pages.options.url}{OIDC}/{name}/callback"

    def _refused(self, visit: Visit, next_path: str, error: LoginRefused) -> Response:
        log_refused_login(visit.request.scope, error.account, error.reason)
        response = self._sign_in.show(visit, next_path, error=error)
        self._cookies.drop_attempt(response)
        return response


def _cookie_of(attempt: SignInAttempt, next_path: str) -> str:
    kept = next_path if len(next_path) <= _LONGEST_NEXT else "/"
    return f"{attempt.secret}.{urlsafe_b64encode(kept.encode()).rstrip(b'=').decode()}"


def _path_of(text: str) -> str:
    """The path that a cookie holds; the home page for what is none on this host."""
    try:
        return local_path(urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode())
    except ValueError:
        return "/"
