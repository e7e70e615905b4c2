"""Routes of pages: which handler serves a path."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from starlette.responses import Response

from gateway.web.errors import MethodUnknown, PageUnknown
from gateway.web.visit import Visit

Handler = Callable[[Visit], Awaitable[Response]]

_WORD = re.compile(r"\{(\w+)(:path)?\}")
_PATH = r"[a-z0-9][a-z0-9._-]*(?:/[a-z0-9][a-z0-9._-]*)*"


@dataclass(frozen=True, slots=True)
class PageRoute:
    """A path with one method, and its handler.

    `pattern`: `{NAME}` stands for one segment, `{NAME:path}` for the path of a group or project. `guarded`: whether the
    token of a session is checked before the handler; the sign-in form has one of its own.
    """

    method: str
    pattern: str
    handler: Handler
    guarded: bool = True

    @property
    def name(self) -> str:
        """The method and the pattern, as tables of rights name the route."""
        return f"{self.method} {self.pattern}"


class PageTable:
    """All routes of pages; of several that fit a path, the first counts."""

    def __init__(self, routes: Iterable[PageRoute]) -> None:
        self.routes: Sequence[PageRoute] = tuple(routes)
        self._patterns: dict[str, re.Pattern[str]] = {
            route.pattern: re.compile(_expression(route.pattern)) for route in self.routes
        }

    def find(self, method: str, path: str) -> tuple[PageRoute, Mapping[str, str]]:
        """The route of a path, and the values of its parameters. A slash at the end means nothing, and no capital does
        in the path of a group or project. Raises PageUnknown, MethodUnknown."""
        path = path.rstrip("/") or "/"
        for pattern, expression in self._patterns.items():
            if (match := expression.fullmatch(path)) is None:
                continue
            found = {route.method: route for route in self.routes if route.pattern == pattern}
            route = found.get("GET" if method == "HEAD" else method)
            if route is None:
                raise MethodUnknown(", ".join(sorted([*found, *(["HEAD"] if "GET" in found else [])])))
            return route, {name: value for name, value in match.groupdict().items() if value is not None}
        raise PageUnknown


def _expression(pattern: str) -> str:
    """The regular expression of a pattern."""
    text, end = "", 0
    for word in _WORD.finditer(pattern):
        text += re.escape(pattern[end : word.start()])
        text += f"(?P<{word[1]}>(?i:{_PATH}))" if word[2] else f"(?P<{word[1]}>[^/]+)"
        end = word.end()
    return text + re.escape(pattern[end:])
