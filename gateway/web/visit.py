"""Visit: one request for a page, with whoever makes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.requests import Request

from gateway.audit.changes import Author
from gateway.audit.event import Surface
from gateway.auth.principal import Principal, describe
from gateway.directory.web_sessions import OpenSession
from gateway.http.access_log import identity_of
from gateway.namespaces.user import User
from gateway.web.errors import PageUnknown, SignInNeeded
from gateway.web.forms import Form, parse_form, token_of


@dataclass(frozen=True, slots=True)
class Visit:
    """A request for a page. `session`: None for whoever is not signed in. `place`: the values of the parameters in the
    path. `form`: what was sent; empty for a GET."""

    request: Request
    principal: Principal
    session: OpenSession | None
    place: Mapping[str, str]
    form: Form

    @property
    def user(self) -> User | None:
        """Who is signed in."""
        return self.principal.user

    @property
    def token(self) -> str:
        """The token of forms for whoever is signed in; empty for others, who have no form."""
        return token_of(self.session.secret) if self.session is not None else ""

    @property
    def query(self) -> Form:
        """The parameters of the query. Raises PageError."""
        return parse_form(self.request.scope["query_string"])

    @property
    def target(self) -> str:
        """The path with its query, which leads here again."""
        query = self.request.scope["query_string"].decode("latin-1")
        path: str = self.request.scope["path"]
        return f"{path}?{query}" if query else path

    @property
    def address(self) -> str | None:
        """The address of the client, where it is known."""
        return self.request.client.host if self.request.client else None

    @property
    def author(self) -> Author:
        """Who visits, as events of the audit log name it."""
        request_id, _ = identity_of(self.request.scope)
        principal = self.principal
        return Author(Surface.PAGES, describe(principal), principal.name or None, self.address, request_id)

    def require_user(self) -> User:
        """The user who is signed in. Raises SignInNeeded."""
        if self.user is None:
            raise SignInNeeded
        return self.user

    def require_session(self) -> OpenSession:
        """The session of who is signed in. Raises SignInNeeded."""
        if self.session is None:
            raise SignInNeeded
        return self.session

    def id_in_place(self, name: str) -> int:
        """A number in the path. Raises PageUnknown."""
        text = self.place[name]
        if not (text.isascii() and text.isdigit() and len(text) <= _ID_DIGITS):
            raise PageUnknown
        return int(text)

    @property
    def page_number(self) -> int:
        """Which page of a list is wanted, from 1 on; what is no number means the first."""
        text = self.query.one("page", "1")
        return max(1, int(text)) if text.isascii() and text.isdigit() and len(text) <= _PAGE_DIGITS else 1

    def with_query(self, **changes: str | None) -> str:
        """The path with its query, in which some parameters are changed; None drops one."""
        kept = {name: value for name, value in self.request.query_params.items() if name not in changes}
        kept |= {name: value for name, value in changes.items() if value is not None}
        path: str = self.request.scope["path"]
        return f"{path}?{urlencode(kept)}" if kept else path


_ID_DIGITS, _PAGE_DIGITS = 18, 6


def local_path(text: str) -> str:
    """A path on this host to which a visitor is led back; the home page for everything else.

    Browsers take `//HOST` and `/\\HOST` for other hosts, and drop control characters before they look.
    """
    begins_well = text.startswith("/") and text[1:2] not in ("/", "\\")
    plain = text.isascii() and text.isprintable() and "\\" not in text
    return text if begins_well and plain and len(text) <= _PATH_LIMIT else "/"


_PATH_LIMIT = 2000
