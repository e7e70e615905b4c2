"""Client that pushes with hardly any CPU: what it sends is made beforehand, and the kernel copies it."""

import hashlib
import socket
import time
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from tests.bench.clients import TIMEOUT
from tests.parts.images import seeded

MB = 1024 * 1024
CHUNK = 32 * 1024
"""Bytes of a chunk, as Go's HTTP client sends it, with which docker pushes."""


@dataclass(frozen=True, slots=True)
class Content:
    """A blob: a part of its own, and behind it as many times one block of 1 MiB as fit."""

    name: str
    size: int

    @property
    def digest(self) -> str:
        return _digest(self.name, self.size)

    def parts(self) -> list[bytes]:
        """The blob in parts of at most 1 MiB, of which the last may be empty."""
        first = seeded(f"push-{self.name}", min(self.size, 64 * 1024))
        whole, rest = divmod(self.size - len(first), MB)
        return [first, *[_block()] * whole, _block()[:rest]]

    def chunks(self) -> list[bytes]:
        """The blob in chunks, ready to be sent."""
        block, framed = _block(), _framed(_block())
        return [*[framed if part is block else _framed(part) for part in self.parts()], b"0\r\n\r\n"]


class Pusher:
    """One connection that is kept. Raises RuntimeError for a response that a push does not expect."""

    def __init__(self, base: str, header: str = "") -> None:
        """`base`: URL of a repository, below which /blobs and /manifests are; `header`: a line with a credential."""
        self._base = urlsplit(base)
        self._header = f"{header}\r\n" if header else ""
        self._socket = socket.create_connection((self._base.hostname, self._base.port), timeout=TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.commit_seconds = 0.0
        """Seconds of the last request that ended an upload."""

    def __enter__(self) -> "Pusher":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def push(self, content: Content, *, chunked: bool) -> None:
        """Push a blob as docker does: a session, one stream into it, and its end."""
        location = self._request("POST", f"{self._base.path}/blobs/uploads/", 202)
        if chunked:
            location = self._request("PATCH", location, 202, "Transfer-Encoding: chunked", content.chunks())
        else:
            lines = f"Content-Length: {content.size}\r\nContent-Type: application/octet-stream"
            location = self._request("PATCH", location, 202, lines, content.parts())
        began = time.perf_counter()
        join = "&" if "?" in location else "?"
        self._request("PUT", f"{location}{join}digest={content.digest}", 201)
        self.commit_seconds = time.perf_counter() - began

    def put_manifest(self, tag: str, media_type: str, document: bytes) -> None:
        lines = f"Content-Type: {media_type}\r\nContent-Length: {len(document)}"
        self._request("PUT", f"{self._base.path}/manifests/{tag}", 201, lines, [document])

    def _request(
        self, method: str, target: str, expected: int, lines: str = "Content-Length: 0", body: list[bytes] | None = None
    ) -> str:
        """Send a request, and return the path and query of its Location."""
        head = f"{method} {target} HTTP/1.1\r\nHost: {self._base.netloc}\r\n{self._header}{lines}\r\n\r\n"
        self._socket.sendall(head.encode())
        for part in body or ():
            self._socket.sendall(part)
        status, headers = self._response()
        if status != expected:
            raise RuntimeError(f"{method} {target}: {status}")
        parts = urlsplit(headers.get("location", ""))
        return parts.path + (f"?{parts.query}" if parts.query else "")

    def _response(self) -> tuple[int, dict[str, str]]:
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._receive()
        head, _, body = data.partition(b"\r\n\r\n")
        first, *rest = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        while len(body) < int(headers.get("content-length", "0")):
            body += self._receive()
        return int(first.split()[1]), headers

    def _receive(self) -> bytes:
        part = self._socket.recv(8192)
        if not part:
            raise RuntimeError("the server has ended the connection")
        return part


@lru_cache
def _digest(name: str, size: int) -> str:
    digest = hashlib.sha256()
    for part in Content(name, size).parts():
        digest.update(part)
    return f"sha256:{digest.hexdigest()}"


@lru_cache
def _block() -> bytes:
    return seeded("push", MB)


def _framed(part: bytes) -> bytes:
    chunks = (part[at : at + CHUNK] for at in range(0, len(part), CHUNK))
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
