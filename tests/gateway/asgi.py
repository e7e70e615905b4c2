"""Requests straight to an ASGI app, with the scope that the server would make of them."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Scope

from tests.parts.raw import RawHeaders

Watch = Callable[[Message], Awaitable[None]]


@dataclass
class Exchange:
    """Response of an app. `complete`: the app sent the message that ends a body."""

    status: int = 0
    headers: RawHeaders = field(default_factory=lambda: RawHeaders(()))
    body: bytes = b""
    complete: bool = False

    @property
    def error(self) -> dict[str, Any]:
        """The one error of a response in the specification's form."""
        document = json.loads(self.body)
        assert list(document) == ["errors"]
        (entry,) = document["errors"]
        assert {"code", "message"} <= set(entry) <= {"code", "message", "detail"}
        assert not isinstance(entry.get("detail", {}), str), "some clients print it behind the message"
        return dict(entry)


def scope_of(
    method: str, target: str, headers: Sequence[tuple[str, str]] = (), *, http_version: str = "1.1"
) -> dict[str, Any]:
    path, _, query = target.partition("?")
    return {
        "type": "http",
        "asgi": {"spec_version": "2.1", "version": "3.0"},
        "http_version": http_version,
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode("ascii"),
        "query_string": query.encode("ascii"),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8080),
        "state": {},
        "extensions": {},
    }


class Client:
    """Client that sends one request with its body, and then nothing until `leave`."""

    def __init__(self, scope: Scope, body: Sequence[bytes] = (b"",), *, ends: bool = True) -> None:
        """`ends`: whether the last part of the body is its end; otherwise more is expected, and never comes."""
        self.scope = scope
        self._ends = ends
        self.left = asyncio.Event()
        self.received = Exchange()
        self.unread = list(body)
        self.watch: Watch | None = None

    async def request(self, app: ASGIApp) -> Exchange:
        await app(self.scope, self._receive, self._send)
        return self.received

    def leave(self) -> None:
        self.left.set()

    async def _receive(self) -> Message:
        if self.unread:
            part = self.unread.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(self.unread) or not self._ends}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        received = self.received
        assert not received.complete, "a message after the last one"
        if message["type"] == "http.response.start":
            assert not received.status, "a second start"
            received.status = message["status"]
            lines = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"])
            received.headers = RawHeaders(lines)
        else:
            assert message["type"] == "http.response.body"
            assert received.status, "a body before its start"
            received.body += message.get("body", b"")
            received.complete = not message.get("more_body", False)
        if self.watch is not None:
            await self.watch(message)


async def send_request(
    app: ASGIApp, method: str, target: str, headers: Sequence[tuple[str, str]] = (), *, http_version: str = "1.1"
) -> Exchange:
    return await Client(scope_of(method, target, headers, http_version=http_version)).request(app)
