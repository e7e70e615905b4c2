"""Echo: an upstream that demands a login, and repeats the request, with the login in it, where a client may show it."""

import json
import socket
from collections.abc import Callable

from . import lies
from .images import MANIFEST, digest_of
from .liar import Answer, Liar
from .lies import Lie
from .records import Record

Place = Callable[[bytes], bytes]
"""A whole response, made of the whole request."""


def _response(first: bytes, body: bytes = b"", *headers: bytes) -> bytes:
    lines = [first, *headers, b"Content-Length: %d" % len(body), b"Connection: close"]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _line(request: bytes) -> bytes:
    """The request in one line, the login first: whoever cuts the line keeps it."""
    head, login, rest = request.partition(b"Authorization:")
    return b" ".join((login + rest + head).split())


def _login(request: bytes) -> bytes:
    """The value of Authorization without its scheme."""
    return request.partition(b"Basic ")[2].split()[0]


def _manifest(request: bytes) -> bytes:
    """A manifest that is invalid for what it repeats."""
    text = _line(request).decode("latin-1")
    body = json.dumps({"schemaVersion": 2, "mediaType": text, "config": {"digest": text}, "layers": [text]}).encode()
    digest = b"Docker-Content-Digest: " + digest_of(body).encode()
    return _response(b"HTTP/1.1 200 OK", body, b"Content-Type: " + MANIFEST.encode(), digest)


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: " + MANIFEST.encode() + b"\r\nTransfer-Encoding: chunked\r\n\r\n"

PLACES: dict[str, Place] = {
    "malformed header": lambda request: b"HTTP/1.1 200 OK\r\n" + request + b"\r\n\r\n",
    "header name": lambda request: _response(b"HTTP/1.1 200 OK", b"", b"(" + _line(request) + b": x"),
    "status line": lambda request: request + b"\r\n\r\n",
    "status": lambda request: _response(b"HTTP/1.1 " + _line(request)),
    "reason phrase": lambda request: _response(b"HTTP/1.1 500 " + _line(request)),
    "error message": lambda request: _response(
        b"HTTP/1.1 503 No",
        json.dumps({"errors": [{"code": "DENIED", "message": _line(request).decode("latin-1")}]}).encode(),
        b"Content-Type: application/json",
    ),
    "media type": lambda request: _response(b"HTTP/1.1 200 OK", b"{}", b"Content-Type: " + _line(request)),
    "digest": lambda request: _response(
        b"HTTP/1.1 200 OK", b"{}", b"Content-Type: " + MANIFEST.encode(), b"Docker-Content-Digest: " + _line(request)
    ),
    "manifest": _manifest,
    "chunk extension": lambda request: CHUNKED + b"2;" + request + b"\r\n{}\r\n0\r\n\r\n",
    "chunk size": lambda request: CHUNKED + _line(request) + b"\r\n{}\r\n0\r\n\r\n",
    "trailers": lambda request: CHUNKED + b"2\r\n{}\r\n0\r\n" + request + b"\r\n\r\n",
    "location": lambda request: _response(b"HTTP/1.1 307 There", b"", b"Location: " + _line(request)),
    "location's host": lambda request: _response(
        b"HTTP/1.1 307 There", b"", b"Location: http://" + _login(request) + b".example/"
    ),
    "location's port": lambda request: _response(
        b"HTTP/1.1 307 There", b"", b"Location: http://there.example:" + _login(request) + b"/"
    ),
    "limits": lambda request: _response(
        b"HTTP/1.1 429 Slow", b"", b"Retry-After: 1" + _line(request), b"Docker-Ratelimit-Source: " + _line(request)
    ),
}


class Echo(Liar):
    """A liar whose responses to requests with a login are made by `place`."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._place = place
        self.echoed = 0

    def _deliver(self, connection: socket.socket, record: Record, lie: Lie, honest: Answer) -> bool:
        if record.header("authorization") is None:
            challenge = lies.answered(401, b"{}", WWW_Authenticate='Basic realm="echo"')
            return super()._deliver(connection, record, challenge, honest)
        given = sorted((name, value) for name, value in record.values)
        lines = [f"{record.method} {record.path} HTTP/1.1", *(f"{name.title()}: {value}" for name, value in given)]
        self.echoed += 1
        connection.sendall(self._place("\r\n".join(lines).encode("latin-1")))
        return False
