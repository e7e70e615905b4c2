"""Client of pushers: one request on one connection, noted in the ledger however it ends."""

import base64
import hashlib
import socket
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from urllib.parse import urljoin, urlsplit

from tests.parts import raw
from tests.parts.images import INDEX, MANIFEST

from .push_ledger import Key, Look, PushLedger, Step, Thing

PATIENCE = 60.0
LATE = 20.0
"""Seconds in which a server may still do what a client requested that has left."""

LONGEST_REFUSAL = 400
NO_HEADERS = raw.RawHeaders(())
ACCEPT = {"Accept": f"{MANIFEST}, {INDEX}"}


@dataclass(frozen=True)
class Answer:
    """Response to one request; `status` 0: none arrived completely. `url`: the request's own."""

    url: str
    begun: float
    ended: float
    status: int = 0
    headers: raw.RawHeaders = NO_HEADERS
    body: bytes = b""
    left: bool = False

    @property
    def location(self) -> str:
        """Absolute URL to which the response points."""
        return urljoin(self.url, self.headers["Location"])

    @property
    def received(self) -> int:
        """Bytes of an upload that have arrived; `0-0` is taken for none, as most registries mean it."""
        last = int((self.headers.get("Range") or "0-0").rpartition("-")[2])
        return last + 1 if last else 0

    @property
    def until(self) -> float:
        """Moment from which the request has no more effect."""
        return self.ended if self.status else self.ended + LATE


class PushClient:
    """Sends requests of one user to a server, and notes each in the ledger."""

    def __init__(self, url: str, user: str, secret: str, ledger: PushLedger) -> None:
        self.url, self.ledger = url, ledger
        self.credential = {"Authorization": "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()}

    def send(
        self,
        what: str,
        method: str,
        path: str,
        expected: Collection[int],
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        since: float | None = None,
        leave_after: int | None = None,
        lost: Callable[[Answer], int] | None = None,
    ) -> Answer:
        """Sends a request to a path below /v2/, or to a whole URL. `leave_after`: the client leaves by a reset when it
        has sent so many bytes of the body. `lost`: counts the acknowledged bytes that the response lacks."""
        url = path if path.startswith("http") else f"{self.url}/v2/{path}"
        lines = self.credential | dict(headers or {})
        if method in ("POST", "PUT", "PATCH") and not body and "Transfer-Encoding" not in lines:
            lines["Content-Length"] = "0"
        begun = time.monotonic()
        step = Step(what, urlsplit(url).path, begun, begun, expected=frozenset(expected), since=since or begun)
        if leave_after is not None:
            leave_early(method, url, lines, body, leave_after)
            ended = time.monotonic()
            self.ledger.stepped(replace(step, ended=ended, left=True))
            return Answer(url, begun, ended, left=True)
        try:
            with raw.open_stream(method, url, lines, body, timeout=PATIENCE) as stream:
                waited, content = time.monotonic() - begun, stream.read_all()
                ended = time.monotonic()
                status = stream.status if stream.complete else 0
                answer = Answer(url, begun, ended, status, stream.headers, content)
        except (OSError, raw.BrokenHead) as error:
            ended = time.monotonic()
            hung = isinstance(error, TimeoutError)
            self.ledger.stepped(replace(step, ended=ended, hung=hung, waited=ended - begun))
            return Answer(url, begun, ended)
        self.ledger.stepped(
            replace(
                step,
                ended=ended,
                status=status,
                waited=waited,
                lost=lost(answer) if lost and status == 204 else 0,
                right=status != 200 or method == "HEAD" or is_right(urlsplit(url).path, answer),
                retry_after=answer.headers.get("Retry-After"),
                request_id=answer.headers.get("X-Request-Id"),
                refusal=content[:LONGEST_REFUSAL].decode(errors="replace") if status >= 400 else "",
            )
        )
        return answer

    def look(self, key: Key, method: str = "GET", by: str | None = None) -> bool | None:
        """Reads a key; whether something is there, and None where that did not become known. `by`: another name of its
        repository."""
        path = key.path if by is None else replace(key, repository=by).path
        answer = self.send(f"look at {key.thing.value}", method, path, (200, 404), ACCEPT)
        if answer.status not in (200, 404):
            return None
        value = None
        if answer.status == 200:
            value = key.name if key.thing is Thing.BLOB else answer.headers.get("Docker-Content-Digest")
        where = "" if by is None else f", read as {by},"
        self.ledger.looked(Look(key, value, answer.begun, answer.ended, where))
        return value is not None


def is_right(path: str, answer: Answer) -> bool:
    """Whether a body has the digest that the path requests, and that the response states."""
    name, stated = path.rpartition("/")[2], answer.headers.get("Docker-Content-Digest")
    wanted = {digest for digest in (name, stated) if digest and ":" in digest}
    return all(digest_like(digest, answer.body) == digest for digest in wanted)


def digest_like(digest: str, data: bytes) -> str:
    """Digest of some bytes by the algorithm of another digest."""
    algorithm = digest.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def leave_early(method: str, url: str, headers: Mapping[str, str], body: bytes, count: int) -> None:
    """Sends a head that promises the whole body, and `count` bytes of it, and leaves by a reset."""
    address = urlsplit(url)
    target = address.path + (f"?{address.query}" if address.query else "")
    lines = {"Host": address.netloc, "Content-Length": str(len(body))} | dict(headers)
    head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    try:
        with socket.create_connection((address.hostname or "", address.port or 80), timeout=PATIENCE) as connection:
            connection.sendall(head.encode() + b"\r\n" + body[:count])
            linger = (1).to_bytes(4, "little") + bytes(4)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    except OSError:
        return  # the server was gone first
