"""Signing in and out, and the change of one's own password."""

import asyncio
from collections.abc import Sequence
from urllib.parse import urlencode

from starlette.responses import Response

from cache.oci.errors import RegistryError
from gateway.audit.changes import AuditedChanges
from gateway.audit.event import Subject
from gateway.audit.told import tell_user
from gateway.auth.authenticator import CLIENT_ADDRESS, WRONG, peer_of
from gateway.auth.passwords import hash_password
from gateway.auth.refused_logins import LoginDelayed, LoginRefused
from gateway.http.access_log import log_refused_login
from gateway.namespaces.errors import PasswordRefused
from gateway.namespaces.user import User, UserChanges, check_password
from gateway.services import Services
from gateway.web.cookies import Cookies, new_guard
from gateway.web.errors import PageForbidden, sentence
from gateway.web.forms import check_token, token_of
from gateway.web.options import SignIn
from gateway.web.pages import Pages
from gateway.web.routes import PageRoute
from gateway.web.visit import Visit, local_path

SIGN_IN = "/users/sign_in"
SIGN_OUT = "/users/sign_out"
ACCOUNT = "/-/profile"
PASSWORD = "/-/profile/password"

_INVALID = 422
_NOT_OVER_HTTP = (
    "This server is reached by http beyond its own machine, where everybody on the way can read a password. Put it "
    "behind https, or let whoever looks after it set insecure_login = true."
)


def sign_in_path(next_path: str) -> str:
    """The address of the sign-in page that leads back to a path."""
    return SIGN_IN if next_path == "/" else f"{SIGN_IN}?{urlencode({'next': next_path})}"


class SignInPages:
    """Handlers of sessions."""

    def __init__(self, services: Services, pages: Pages, cookies: Cookies) -> None:
        self._services = services
        self._audited = AuditedChanges(services.audit)
        self._pages = pages
        self._cookies = cookies

    @property
    def routes(self) -> Sequence[PageRoute]:
        return [
            PageRoute("GET", SIGN_IN, self.ask),
            PageRoute("POST", SIGN_IN, self.sign_in, guarded=False),
            PageRoute("POST", SIGN_OUT, self.sign_out),
            PageRoute("POST", f"{SIGN_OUT}_everywhere", self.sign_out_everywhere),
            PageRoute("GET", ACCOUNT, self.account),
            PageRoute("GET", PASSWORD, self.ask_for_password),
            PageRoute("POST", PASSWORD, self.change_password),
        ]

    async def ask(self, visit: Visit) -> Response:
        """Show the form by which people sign in."""
        next_path = local_path(visit.query.one("next", "/"))
        if visit.user is not None:
            return self._pages.lead(visit, next_path)
        return self.show(visit, next_path)

    async def sign_in(self, visit: Visit) -> Response:
        """Begin a session for whoever knows the password of a user."""
        if self._pages.options.sign_in is SignIn.REFUSED:
            raise PageForbidden(_NOT_OVER_HTTP)
        check_token(visit.form, self._cookies.guard(visit.request))
        name, next_path = visit.form.one("username").strip(), local_path(visit.form.one("next", "/"))
        try:
            user = await self._verified(visit, name, visit.form.one("password"))
        except (LoginRefused, LoginDelayed) as error:
            log_refused_login(visit.request.scope, error.account, error.reason)
            return self.show(visit, next_path, name, error)
        former = visit.session.stored if visit.session is not None else None
        session = await self._services.web_sessions.begin(user, former)
        response = self._pages.lead(visit, next_path)
        self._cookies.keep_session(response, session.secret)
        self._cookies.drop_guard(response)
        return response

    async def sign_out(self, visit: Visit) -> Response:
        """End this session."""
        await self._services.web_sessions.end(visit.require_session())
        return self._signed_out(visit)

    async def sign_out_everywhere(self, visit: Visit) -> Response:
        """End all sessions of whoever is signed in."""
        await self._services.web_sessions.end_all(visit.require_user().id)
        return self._signed_out(visit)

    async def account(self, visit: Visit) -> Response:
        """Show who is signed in, and where."""
        count = await self._services.web_sessions.count(visit.require_user().id)
        return self._pages.show(
            visit, "account.html", "Your account", sessions=count, changed=visit.query.has("changed")
        )

    async def ask_for_password(self, visit: Visit) -> Response:
        """Show the form by which people change their password."""
        visit.require_user()
        return self._pages.show(visit, "password.html", "Change your password", problem="")

    async def change_password(self, visit: Visit) -> Response:
        """Change the password of whoever is signed in and knows the old one. All other sessions end with it."""
        user, form = visit.require_user(), visit.form
        problem = ""
        try:
            await self._verified(visit, user.name, form.one("current_password"))
            if form.one("new_password") != form.one("repeated_password"):
                problem = "The new password and its repetition differ."
            else:
                check_password(form.one("new_password"))
        except LoginRefused as error:
            log_refused_login(visit.request.scope, error.account, error.reason)
            problem = "The current password is wrong."
        except (LoginDelayed, PasswordRefused) as error:
            problem = _sentence_of(error)
        if problem:
            return self._pages.show(
                visit, "password.html", "Error: change your password", status=_INVALID, problem=problem
            )
        password_hash = await asyncio.to_thread(hash_password, form.one("new_password"))
        before, changed = await self._services.users.update(user.id, UserChanges(password_hash=password_hash))
        self._audited.updated(visit, Subject.USER, changed.name, tell_user(before), tell_user(changed))
        await self._services.web_sessions.end_all(user.id)
        session = await self._services.web_sessions.begin(changed)
        response = self._pages.lead(visit, f"{ACCOUNT}?changed=password")
        self._cookies.keep_session(response, session.secret)
        return response

    async def _verified(self, visit: Visit, name: str, password: str) -> User:
        """The user of a name and a password. Raises LoginRefused, LoginDelayed, DatabaseUnusable."""
        scope = visit.request.scope
        principal = await self._services.authenticator.password_principal(
            name, password, scope.get(CLIENT_ADDRESS), peer_of(scope)
        )
        assert principal.user is not None, "a password is that of a user"
        return principal.user

    def show(self, visit: Visit, next_path: str, name: str = "", error: RegistryError | None = None) -> Response:
        """Show the form by which people sign in. `error`: why it has not worked."""
        guard = self._cookies.guard(visit.request) or new_guard()
        delayed = isinstance(error, LoginDelayed)
        refused = self._pages.options.sign_in is SignIn.REFUSED
        response = self._pages.show(
            visit,
            "sign_in.html",
            "Error: sign in" if error else "Sign in",
            status=200 if error is None else error.status if delayed else _INVALID,
            headers=error.headers if error is not None and delayed else None,
            private=True,
            next_path=next_path,
            name=name,
            problem="" if error is None else _sentence_of(error),
            guard_token=token_of(guard),
            refused=_NOT_OVER_HTTP if refused else "",
            issuers=self._services.oidc_sign_in.names,
        )
        if not refused:
            self._cookies.keep_guard(response, guard)
        return response

    def _signed_out(self, visit: Visit) -> Response:
        response = self._pages.lead(visit, SIGN_IN)
        self._cookies.drop_session(response)
        return response


def _sentence_of(error: Exception) -> str:
    text = str(error.detail) if isinstance(error, RegistryError) else str(error)
    return "The user name or the password is wrong." if text == WRONG else sentence(text)
