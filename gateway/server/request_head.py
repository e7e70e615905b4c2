"""Which request heads are accepted (RFC 9112), stricter than the parser is by itself.

Two readers that take one head for two different requests are how requests are smuggled past a reverse proxy. What a
well-behaved client never sends is therefore answered 400 and the connection closed. Once parsed, most of it cannot be
seen any more, so the check stands before the parser: h11 keeps a table of who reads what, and `install` puts ours in.
"""

import re

from h11 import CLIENT, IDLE, LocalProtocolError, Request
from h11._headers import Headers
from h11._readers import READERS, maybe_read_from_IDLE_client
from h11._receivebuffer import ReceiveBuffer

HEAD_LIMIT = 32 * 1024
HEADER_LIMIT = 100
TARGET_LIMIT = 8 * 1024
AUTHORIZATION_LIMIT = 8 * 1024
LENGTH_DIGITS = 18

_HEAD_END = re.compile(rb"\n\r?\n")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP/(\d\.\d)")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HOST = re.compile(rb"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_DIGITS = re.compile(rb"[0-9]+")
_DECISIVE = (b"content-length", b"transfer-encoding", b"host", b"authorization")


class HeadRefused(Exception):
    """The head is not accepted; `status` says as what."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


def parse_head(head: bytes) -> Request:
    """Raises HeadRefused. `head` is all up to, not including, the empty line that ends it.

    Read once and here alone: the parser's own reading after a check took 8 % of the time of a cached manifest.
    """
    if len(head) > HEAD_LIMIT:
        raise HeadRefused(f"a head of more than {HEAD_LIMIT} bytes", 431)
    lines = head.split(b"\r\n")
    if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1 or _CONTROL.search(head):
        raise HeadRefused("a line does not end with CRLF alone, or holds a control character")
    method, target, version = _parse_request_line(lines[0])
    if len(lines) - 1 > HEADER_LIMIT:
        raise HeadRefused(f"more than {HEADER_LIMIT} header lines", 431)
    items: list[tuple[bytes, bytes, bytes]] = []
    decisive: dict[bytes, list[bytes]] = {}
    for line in lines[1:]:
        raw_name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(raw_name):
            raise HeadRefused("a header line that is folded, or has no name")
        name, value = raw_name.lower(), value.strip(b" \t")
        if name in _DECISIVE:
            decisive.setdefault(name, []).append(value)
            value = value.lower() if name == b"transfer-encoding" else value
        # No other protocol is spoken here, and to go on in this one is what a server may do (RFC 9110, section 7.8).
        if name != b"upgrade":
            items.append((raw_name, name, value))
    _check_framing(decisive, version == b"1.0")
    hosts = decisive.get(b"host", [])
    if len(hosts) > 1 or (not hosts and version == b"1.1") or any(not _HOST.fullmatch(host) for host in hosts):
        raise HeadRefused("no Host, more than one, or one that is none")
    if any(len(value) > AUTHORIZATION_LIMIT for value in decisive.get(b"authorization", [])):
        raise HeadRefused(f"an Authorization of more than {AUTHORIZATION_LIMIT} bytes", 431)
    return Request(method=method, target=target, headers=Headers(items), http_version=version, _parsed=True)


def _parse_request_line(line: bytes) -> tuple[bytes, bytes, bytes]:
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise HeadRefused("the request line is none")
    method, target, version = match.groups()
    if version not in (b"1.0", b"1.1"):
        raise HeadRefused("only HTTP/1.x is spoken here", 505)
    if len(target) > TARGET_LIMIT:
        raise HeadRefused(f"a target of more than {TARGET_LIMIT} bytes", 414)
    if not target.startswith(b"/") or target.startswith(b"//"):
        raise HeadRefused("the target must begin with exactly one slash")
    return method, target, version


def _check_framing(fields: dict[bytes, list[bytes]], old: bool) -> None:
    """How the body ends must be said once and in one way (RFC 9112, section 6.3)."""
    lengths, codings = fields.get(b"content-length", []), fields.get(b"transfer-encoding", [])
    if lengths and codings:
        raise HeadRefused("Content-Length together with Transfer-Encoding")
    if len(lengths) > 1 or any(len(text) > LENGTH_DIGITS or not _DIGITS.fullmatch(text) for text in lengths):
        raise HeadRefused("Content-Length is not one number")
    if codings and (old or [coding.lower() for coding in codings] != [b"chunked"]):
        raise HeadRefused("Transfer-Encoding is not just chunked")


def read_request(buffer: ReceiveBuffer) -> Request | None:
    """What h11 calls for the head of a request: None while it is not whole."""
    data = bytes(buffer)
    end = _HEAD_END.search(data)
    if end is None:
        return maybe_read_from_IDLE_client(buffer)
    try:
        if not data.endswith(b"\r\n\r\n", 0, end.end()):
            raise HeadRefused("a line does not end with CRLF alone")
        request = parse_head(data[: end.start() - 1])
    except HeadRefused as refusal:
        raise LocalProtocolError(str(refusal), error_status_hint=refusal.status) from refusal
    buffer._extract(end.end())
    return request


def install() -> None:
    """For this process's servers; clients read responses, which are not touched."""
    READERS[CLIENT, IDLE] = read_request
