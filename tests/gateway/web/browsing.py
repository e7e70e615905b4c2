"""A browser at the pages, as far as forms, cookies and redirects go, over real stores with their people and pushes."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from starlette.types import ASGIApp

from gateway.auth.passwords import hash_password
from gateway.namespaces.user import UserChanges
from gateway.v2.opener import RegistryOptions
from gateway.web.options import WebOptions
from gateway.wiring.app import create_app
from tests.gateway.api.rest import Rest, open_rest
from tests.gateway.asgi import Client, Exchange, scope_of
from tests.gateway.v2.pushing import ROOTS, URL

HOST = "127.0.0.1:8080"
PASSWORD = "correct horse battery"
Fields = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Element:
    """An element of a page. `text`: what stands directly in it."""

    tag: str
    attributes: dict[str, str | None]
    text: list[str] = field(default_factory=list)


class Elements(HTMLParser):
    """All elements of a page, in their order."""

    VOID = frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[Element] = []
        self.texts: list[str] = []
        self._open: list[Element] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"<{tag}> has an attribute twice"
        self.found.append(Element(tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(self.found[-1])

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open.pop().tag == tag, f"</{tag}> closes what is not open"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.VOID
        self.handle_starttag(tag, attrs)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self._open:
            self._open[-1].text.append(data)


@dataclass
class Browser:
    """A browser with its cookies. `host`: what the address bar names."""

    app: ASGIApp
    cookies: dict[str, str] = field(default_factory=dict)
    host: str = HOST

    async def get(self, path: str, status: int | None = 200, accept: str = "text/html,*/*") -> Exchange:
        """The response to a GET, which is not followed."""
        return await self._send("GET", path, [("Accept", accept)], b"", status)

    async def post(
        self,
        path: str,
        fields: Fields = (),
        *,
        token: str | None = None,
        origin: str | None = URL,
        status: int | None = None,
        media_type: str = "application/x-www-form-urlencoded",
    ) -> Exchange:
        """The response to a form. `token`: of the form; None for that of the session. `origin`: None for none."""
        sent = [("csrf_token", await self.token() if token is None else token), *fields]
        body = urlencode(sent).encode()
        lines = [("Accept", "text/html"), ("Content-Type", media_type)]
        lines += [("Content-Length", str(len(body)))] + ([] if origin is None else [("Origin", origin)])
        return await self._send("POST", path, lines, body, status)

    async def token(self) -> str:
        """The token of the forms of this session."""
        return token_in(await self.get("/-/profile"))

    async def sign_in(self, name: str, password: str = PASSWORD, next_path: str = "/") -> Exchange:
        """The response to the sign-in form, filled in."""
        form = await self.get("/users/sign_in")
        fields = [("username", name), ("password", password), ("next", next_path)]
        return await self.post("/users/sign_in", fields, token=token_in(form))

    async def _send(self, method: str, path: str, headers: Fields, body: bytes, status: int | None) -> Exchange:
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        lines = [("Host", self.host), ("X-Request-Id", "tests"), *headers, *([("Cookie", cookies)] if cookies else [])]
        answer = await Client(scope_of(method, path, lines), [body]).request(self.app)
        for line in answer.headers.all("set-cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            if "Max-Age=0" in line:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        assert status is None or answer.status == status, (answer.status, answer.headers.get("location"), answer.body)
        return answer


@dataclass(frozen=True)
class Site:
    """The pages over the stores of the REST API's tests, whose people all have one password."""

    rest: Rest
    app: ASGIApp

    def stranger(self) -> Browser:
        """A browser in which nobody is signed in."""
        return Browser(self.app)

    async def browser(self, name: str) -> Browser:
        """A browser in which somebody is signed in."""
        browser = self.stranger()
        answer = await browser.sign_in(name)
        assert answer.status == 303, answer.body
        return browser

    async def address_of(self, name: str) -> str:
        """The address of the page of a repository."""
        project = "/".join(name.split("/")[:2])
        return f"/{project}/container_registry/{await self.rest.id_of(name)}"


@asynccontextmanager
async def open_site(data: Path, options: WebOptions | None = None, **settings: Any) -> AsyncIterator[Site]:
    """Open the pages over a new data folder."""
    async with open_rest(data, **settings) as rest:
        password_hash = hash_password(PASSWORD)
        for user in rest.surface.people.values():
            await rest.services.users.update(user.id, UserChanges(password_hash=password_hash))
        yield Site(rest, create_app(rest.services, ROOTS, RegistryOptions(open_proxy=True), pages=options))


def token_in(page: Exchange) -> str:
    """The token of the first form of a page."""
    tokens = [
        element.attributes["value"]
        for element in elements(page)
        if element.tag == "input" and element.attributes.get("name") == "csrf_token"
    ]
    assert tokens and tokens[0], page.body
    return tokens[0]


def elements(page: Exchange) -> list[Element]:
    """The elements of a page, each of which is closed in its place."""
    return Elements(page.body.decode()).found


def text_of(page: Exchange) -> str:
    """What a page says, with single spaces."""
    return re.sub(r"\s+", " ", "".join(Elements(page.body.decode()).texts)).strip()


def links_in(page: Exchange) -> list[str]:
    """The addresses to which a page links."""
    return [href for element in elements(page) if element.tag == "a" and (href := element.attributes.get("href"))]


def path_of(answer: Exchange) -> str:
    """Where a response leads, which must be on this host."""
    location = answer.headers["location"]
    assert not urlsplit(location).netloc and location.startswith("/"), location
    return location
