"""WebApp: the app of every path that belongs to no other surface."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cache.oci.errors import RefusalReason, Unauthorized
from cache.runtime.on_behalf import on_behalf_of
from gateway.auth.principal import ANONYMOUS, Principal, describe
from gateway.auth.requester import requester_of
from gateway.db.web_sessions import StoredSession
from gateway.directory.web_sessions import OpenSession
from gateway.http.access_log import identity_of, note_principal, note_refused
from gateway.inspection.place_finder import PlaceUnknown
from gateway.server.client_connection import note_accepted
from gateway.services import Services
from gateway.web.admin_pages import AdminPages
from gateway.web.admin_users import AdminUsers
from gateway.web.cleanup_settings import CleanupSettings
from gateway.web.client_files_page import ClientFilesPage
from gateway.web.comparison_pages import ComparisonPages
from gateway.web.cookies import Cookies
from gateway.web.doctor_page import DoctorPage
from gateway.web.errors import (
    RENDERED,
    UNEXPECTED,
    MethodUnknown,
    PageUnknown,
    SignInNeeded,
    needs_sign_in,
    text_of,
)
from gateway.web.forms import Form, check_origin, check_token, read_form
from gateway.web.general_settings import GeneralSettings
from gateway.web.headers import STATIC
from gateway.web.help_pages import HelpPages
from gateway.web.home import Home
from gateway.web.member_pages import MemberPages
from gateway.web.my_tokens import MyTokens
from gateway.web.new_nodes import NewNodes
from gateway.web.node_tokens import NodeTokens
from gateway.web.oidc_pages import OidcPages
from gateway.web.options import WebOptions
from gateway.web.pages import Pages
from gateway.web.protection_pages import ProtectionPages
from gateway.web.proxy_changes import ProxyChanges
from gateway.web.proxy_pages import ProxyPages
from gateway.web.proxy_savings import ProxySavings
from gateway.web.quota_pages import QuotaPages
from gateway.web.removals import Removals
from gateway.web.repository_moves import RepositoryMovePages
from gateway.web.routes import PageRoute, PageTable
from gateway.web.sign_in import SignInPages, sign_in_path
from gateway.web.static_files import StaticFiles
from gateway.web.tag_pages import TagPages
from gateway.web.tree_pages import TreePages
from gateway.web.visit import Visit

_READS = ("GET", "HEAD")

OWN_PAGES = ("/-/profile", "/-/new")
"""Beginnings of paths below /-/ that are pages."""


def page_table(services: Services, pages: Pages, cookies: Cookies) -> PageTable:
    """Make the table of all pages."""
    tree, sign_in = TreePages(services, pages), SignInPages(services, pages, cookies)
    rooms = (
        sign_in,
        OidcPages(services, pages, cookies, sign_in),
        HelpPages(pages),
        Home(services, pages),
        MyTokens(services, pages),
        MemberPages(services, pages),
        NodeTokens(services, pages),
        ProtectionPages(services, pages),
        QuotaPages(services, pages),
        NewNodes(services, pages),
        GeneralSettings(services, pages),
        RepositoryMovePages(services, pages),
        CleanupSettings(services, pages),
        Removals(services, pages),
        ProxyPages(services, pages),
        ProxyChanges(services, pages),
        ProxySavings(services, pages),
        ClientFilesPage(services, pages),
        AdminPages(services, pages),
        AdminUsers(services, pages),
        DoctorPage(services, pages),
        TagPages(services, pages),
        ComparisonPages(services, pages),
        tree,
    )
    return PageTable([*(route for room in rooms for route in room.routes), *tree.last_routes])


class WebApp:
    """App for pages and what they are made of."""

    def __init__(self, services: Services, options: WebOptions, none: ASGIApp) -> None:
        """`none`: serves clients that are no browsers where there is no page for them."""
        self._services = services
        self._options = options
        self._static = StaticFiles()
        self._pages = Pages(options, self._static)
        self._cookies = Cookies(options)
        self._table = page_table(services, self._pages, self._cookies)
        self._none = none

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
        except Exception:  # the middleware that logs it would render it as the registry does
            failed = self._pages.refuse(request, None, UNEXPECTED, identity_of(scope)[0])
            await failed(scope, receive, send)
            raise
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> ASGIApp:
        opened = _Opened(ANONYMOUS, None)
        try:
            if request.scope["path"].startswith(STATIC):
                _require_read(request)
                return self._static.respond(request.scope["path"])
            route, place = self._table.find(request.method, request.scope["path"])
            opened = await self._open(request)
            visit = Visit(request, opened.principal, opened.session, place, await self._read(request, route, opened))
            address = visit.address or ""
            with on_behalf_of(requester_of(opened.principal, address)):
                response = await route.handler(visit)
        except (*RENDERED, SignInNeeded) as error:
            if isinstance(error, PageUnknown | PlaceUnknown | MethodUnknown) and not _is_browser(request):
                return self._none
            response = self._refuse(request, opened, error)
        if opened.renewed is not None and "set-cookie" not in response.headers:
            self._cookies.keep_session(response, opened.renewed)
        if opened.ended:
            self._cookies.drop_session(response)
        return response

    async def _open(self, request: Request) -> "_Opened":
        """Find out who is signed in. Raises DatabaseUnusable."""
        secret, sessions = self._cookies.session(request), self._services.web_sessions
        session = None if secret is None else await sessions.find(secret)
        if session is None:
            return _Opened(ANONYMOUS, None)
        stored = session.stored
        try:
            principal = await self._principal_of(stored)
        except Unauthorized:
            await sessions.end(session)
            return _Opened(ANONYMOUS, None, ended=True)
        note_accepted(request.scope)
        note_principal(request.scope, describe(principal))
        await self._services.directory.require_current()
        user = principal.user
        if user is None or user.admin == stored.admin:
            return _Opened(principal, session)
        session = await sessions.renew(user, stored)  # nobody who knew the former secret has the new rights
        return _Opened(principal, session, renewed=session.secret)

    async def _principal_of(self, session: StoredSession) -> Principal:
        """Who is signed in by a session. Raises Unauthorized where nobody is any more, DatabaseUnusable."""
        authenticator = self._services.authenticator
        if session.identity_id is None:
            return await authenticator.session_principal(session.user_id, session.password_changed_at)
        if not await self._services.oidc_sign_in.is_valid(session.identity_id):
            raise Unauthorized("the issuer of this sign-in is none of the settings any more: sign in again")
        return await authenticator.identity_principal(session.user_id)

    async def _read(self, request: Request, route: PageRoute, opened: "_Opened") -> Form:
        """The form of a request, which a page of this server has sent. Raises PageError, SignInNeeded,
        RegistryError."""
        if request.method in _READS:
            return Form()
        check_origin(request, self._options.url)
        form = await read_form(request)
        if route.guarded:
            if opened.session is None:
                raise SignInNeeded
            check_token(form, opened.session.secret)
        return form

    def _refuse(self, request: Request, opened: "_Opened", error: Exception) -> Response:
        """The page for a request that was refused, which is noted for the log."""
        visit = Visit(request, opened.principal, opened.session, {}, Form())
        if needs_sign_in(error, is_anonymous=opened.principal.is_anonymous):
            note_refused(request.scope, RefusalReason.LOGIN, str(error) or "there is no such place")
            next_path = visit.target if request.method in _READS else "/"
            return self._pages.lead(visit, sign_in_path(next_path))
        text = text_of(error)
        note_refused(request.scope, text.counted_as, text.reason)
        return self._pages.refuse(request, visit, text, identity_of(request.scope)[0])


@dataclass(frozen=True, slots=True)
class _Opened:
    """Who is signed in. `renewed`: the secret that the session has from now on; None where it keeps its own. `ended`:
    whether the session that the browser names has just ended."""

    principal: Principal
    session: OpenSession | None
    renewed: str | None = None
    ended: bool = False


def _require_read(request: Request) -> None:
    if request.method not in _READS:
        raise MethodUnknown("GET, HEAD")


def _is_browser(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")
