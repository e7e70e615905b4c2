"""Lies of an upstream, one constructor per lie.

A `Lie` changes an honest response in some of its parts. Offsets count body bytes; a negative one counts from the end.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from .holds import Hold
from .images import stored_gzip


class Framing(Enum):
    """Form in which the end of a body is signalled (RFC 9112, 6)."""

    LENGTH = "Content-Length"
    CHUNKED = "chunked, with its terminator"
    UNFINISHED = "chunked, closed without the terminator"
    CLOSE = "the connection's end"


@dataclass(frozen=True)
class Lie:
    """Differences of a response from the honest one; `honest` fields are None, empty or False.

    status, body: replace the honest ones. headers: set, or removed if the value is None. flip: the byte at this offset
    is inverted. cut: the connection closes after this many bytes, whatever was promised. reset: like cut, but by RST.
    extra: bytes added to the body, and counted. surplus: bytes sent right behind the response, whatever its method.
    late: the surplus waits until released. silent: no response, the connection closes. closing: it closes after the
    response, once released. later: the lie is told from the second request of a connection on. hold: bytes stop at
    `hold.after` until released; below 0: before the status line. pace: (bytes, seconds) sends the body in such steps.
    delay: seconds before the status line. whole: a Range request gets 200 and the whole body. bare: the lines of the
    head end without CR. times: number of spoilt responses; later ones are honest.
    """

    status: int | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)
    body: bytes | None = None
    framing: Framing = Framing.LENGTH
    flip: int | None = None
    cut: int | None = None
    reset: int | None = None
    extra: bytes = b""
    surplus: bytes = b""
    late: Hold | None = None
    silent: bool = False
    closing: Hold | None = None
    later: bool = False
    hold: Hold | None = None
    pace: tuple[int, float] | None = None
    delay: float = 0.0
    encode: bool = False
    whole: bool = False
    bare: bool = False
    times: int | None = None

    def only(self, times: int) -> "Lie":
        """Limits the lie to `times` responses."""
        return replace(self, times=times)

    def body_of(self, honest: bytes) -> bytes:
        """Body that is sent instead of `honest` (before it is cut)."""
        body = honest if self.body is None else self.body
        if self.flip is not None and body:
            at = range(len(body))[self.flip]
            body = body[:at] + bytes([body[at] ^ 0xFF]) + body[at + 1 :]
        if self.encode:
            return stored_gzip(body)
        return body + self.extra if self.extra else body


def flipped(at: int) -> Lie:
    """Inverts the byte at this offset; -1 is the last one."""
    return Lie(flip=at)


def short(after: int) -> Lie:
    """Promises all bytes, and closes the connection after `after` of them."""
    return Lie(cut=after)


def reset(after: int) -> Lie:
    """Promises all bytes, and resets the connection after `after` of them."""
    return Lie(reset=after)


def long(extra: bytes = b"!") -> Lie:
    """Adds bytes to the blob, and counts them in Content-Length."""
    return Lie(extra=extra)


def surplus(extra: bytes = b"!") -> Lie:
    """Sends the honest response, and then more bytes on the same connection."""
    return Lie(surplus=extra)


def late_surplus(extra: bytes = b"!") -> Lie:
    """Sends the honest response, and more bytes once `lie.late` is released."""
    return Lie(surplus=extra, late=Hold(0))


def closed_when_idle() -> Lie:
    """Sends the honest response, and closes the connection once `lie.closing` is released, without a word before."""
    return Lie(closing=Hold(0))


def closed_without_response() -> Lie:
    """Closes a kept connection when its next request arrives."""
    return Lie(silent=True, later=True)


def reset_without_response() -> Lie:
    """Resets a kept connection when its next request arrives."""
    return Lie(silent=True, reset=0, later=True)


def noise(later: bool = True) -> Lie:
    """Sends bytes that are no HTTP instead of a response to the next request of a kept connection."""
    return Lie(silent=True, surplus=b"\x00\x01\x02 no response\r\n\r\n", later=later)


def chunked() -> Lie:
    """Sends the honest bytes chunked, without a Content-Length."""
    return Lie(framing=Framing.CHUNKED)


def unfinished(after: int | None = None) -> Lie:
    """Sends chunks, and closes after `after` bytes (None: all) without the last chunk."""
    return Lie(framing=Framing.UNFINISHED, cut=after)


def until_close(after: int | None = None) -> Lie:
    """Sends neither Content-Length nor chunks: closing the connection is the end, after `after` bytes (None: all)."""
    return Lie(framing=Framing.CLOSE, cut=after)


def html(status: int = 200) -> Lie:
    """Sends an HTML page instead of bytes, as a captive portal or a proxy would."""
    page = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in.</body></html>\n"
    return Lie(status=status, body=page, headers={"Content-Type": "text/html", "Docker-Content-Digest": None})


def encoded() -> Lie:
    """Sends Content-Encoding: gzip with the honest bytes, although no request accepts it."""
    return Lie(encode=True, headers={"Content-Encoding": "gzip"})


def digest_header(digest: str = "sha256:" + 64 * "0") -> Lie:
    """Sends the honest bytes under another Docker-Content-Digest."""
    return Lie(headers={"Docker-Content-Digest": digest})


def media_type(value: str) -> Lie:
    """Sends the honest bytes under another Content-Type."""
    return Lie(headers={"Content-Type": value})


def stalled(at: int) -> Lie:
    """Stops after `at` bytes until `lie.hold.release()`; -1: before the status line."""
    return Lie(hold=Hold(at))


def trickled(step: int, seconds: float) -> Lie:
    """Sends `step` bytes at a time, with a pause after each."""
    return Lie(pace=(step, seconds))


def delayed(seconds: float) -> Lie:
    """Sends the honest response late."""
    return Lie(delay=seconds)


def whole() -> Lie:
    """Responds to a Range request with 200 and the whole body."""
    return Lie(whole=True)


def redirected(location: str, status: int = 307) -> Lie:
    """Redirects; the location may be anything, even the request's own path: a loop."""
    return Lie(status=status, body=b"", headers={"Location": location})


def foreign_realm(url: str, scope: str = "repository:any:pull") -> Lie:
    """Sends a challenge whose token service is on another host."""
    challenge = f'Bearer realm="{url}",service="registry",scope="{scope}"'
    return replace(refused(401, "UNAUTHORIZED"), headers={"WWW-Authenticate": challenge})


def refused(status: int, code: str = "UNKNOWN", retry_after: int | str | None = None) -> Lie:
    """Sends an error of the registry: 401, 403, 404, 429 (with Retry-After), 500, 503."""
    headers: dict[str, str | None] = {"Content-Type": "application/json", "Docker-Content-Digest": None}
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    body = b'{"errors":[{"code":"%s","message":"told so"}]}' % code.encode()
    return Lie(status=status, body=body, headers=headers)


def answered(status: int, body: bytes, **headers: str) -> Lie:
    """Sends any response; keywords are headers, `_` for `-`."""
    return Lie(status=status, body=body, headers={name.replace("_", "-"): value for name, value in headers.items()})
