"""Routes of the REST API, and how a path finds its own: over the raw path, in which `%2F` is no slash.

A path is matched as it was sent: no suffix of it is a format, nothing is redirected, and a slash at its end means
nothing.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Generic, TypeVar
from urllib.parse import unquote_to_bytes

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.shapes import Shape
from gateway.audit.changes import Author
from gateway.audit.event import Surface
from gateway.auth.principal import Principal, describe
from gateway.http.access_log import identity_of

S = TypeVar("S", bound=Shape)

BASE = "/api/v4"
"""Path below which everything lies."""

SEGMENT_LIMIT = 1024
"""Bytes of a segment of a path: an encoded path of a project has some 300."""


@dataclass(frozen=True, slots=True)
class Call(Generic[S]):
    """One request to a route, as its handler is given it. `path`: the values of the route's parameters, decoded;
    `parameters`: all others, checked."""

    request: Request
    principal: Principal
    path: Mapping[str, str]
    parameters: S

    @property
    def author(self) -> Author:
        """Who makes the request."""
        client, principal = self.request.client, self.principal
        request_id, _ = identity_of(self.request.scope)
        host = client.host if client else None
        return Author(Surface.REST, describe(principal), principal.name or None, host, request_id)


@dataclass(frozen=True, slots=True)
class Route(Generic[S]):
    """A path below BASE with one method, and its handler, whose docstring says what it does.

    `pattern`: `{NAME}` stands for one segment. `kind`: what the log names it. `anonymous`: whether it may be requested
    without a token; `jobs`: whether the token of a job is taken. `status`: of a success. `conflicts`: whether it may be
    refused because of something else, 409; `unique`: because there is the same already, 422; `refers`: because a
    parameter names what is not there, 404. `administrators`: whether it is for administrators of the server alone;
    `any_scope`: whether a personal token of whatever scope opens it; `rotates`: whether a revoked token, by being sent
    to it, ends those that took its place. `answer`: the name of the document of a success in the description of the
    API, and `preview` that of one by which a dry run is answered, with 200; empty for none.
    """

    method: str
    pattern: str
    handler: Callable[[Call[S]], Awaitable[Response]]
    shape: type[S]
    kind: str
    anonymous: bool = False
    jobs: bool = False
    status: int = 200
    conflicts: bool = False
    unique: bool = False
    refers: bool = False
    administrators: bool = False
    any_scope: bool = False
    rotates: bool = False
    answer: str = ""
    preview: str = ""

    @property
    def parts(self) -> list[str]:
        """The segments of the pattern."""
        return self.pattern.removeprefix("/").split("/")

    @property
    def names(self) -> list[str]:
        """The names of the parameters in the path."""
        return [part[1:-1] for part in self.parts if part.startswith("{")]


@dataclass(frozen=True, slots=True)
class Found:
    """What a path leads to: its routes by their methods, and the values of the parameters in the path."""

    routes: Mapping[str, Route[Any]]
    path: Mapping[str, str]


class RouteTable:
    """All routes, by the number of segments of their patterns; among those a word goes before a parameter."""

    def __init__(self, routes: Iterable[Route[Any]]) -> None:
        self.routes = tuple(routes)
        self._resources: dict[int, list[_Resource]] = {}
        for _, group in groupby(sorted(self.routes, key=_precedence), key=lambda route: route.pattern):
            resource = _Resource(list(group))
            self._resources.setdefault(len(resource.segments), []).append(resource)

    def find(self, raw_path: bytes) -> Found | None:
        """Find what a raw path leads to; None where that is nothing, or where a segment is no text."""
        if not raw_path.startswith(_BASE):
            return None
        segments = raw_path[len(_BASE) :].removesuffix(b"/").split(b"/")
        if not all(0 < len(segment) <= SEGMENT_LIMIT for segment in segments):
            return None
        for resource in self._resources.get(len(segments), ()):
            if (taken := resource.match(segments)) is not None:
                return Found(resource.routes, taken)
        return None


class _Resource:
    """The routes of one pattern."""

    def __init__(self, routes: list[Route[Any]]) -> None:
        self.routes = {route.method: route for route in routes}
        assert len(self.routes) == len(routes), f"{routes[0].pattern} has a method twice"
        self.segments = routes[0].parts
        self._names = routes[0].names

    def match(self, segments: list[bytes]) -> dict[str, str] | None:
        """The values of the parameters in a path; None where it does not fit, or a value is no text."""
        taken: list[str] = []
        for expected, segment in zip(self.segments, segments, strict=True):
            if expected.startswith("{"):
                if (text := _decode(segment)) is None:
                    return None
                taken.append(text)
            elif expected.encode() != segment:
                return None
        return dict(zip(self._names, taken, strict=True))


_BASE = f"{BASE}/".encode()


def _precedence(route: Route[Any]) -> tuple[list[bool], str]:
    return [part.startswith("{") for part in route.parts], route.pattern


def _decode(segment: bytes) -> str | None:
    """The text of a segment; None for what is not UTF-8, and for a NUL, which no name holds."""
    try:
        text = unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text
