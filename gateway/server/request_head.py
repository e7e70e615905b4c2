"""Which request heads are accepted (RFC 9112), stricter than h11 is by itself; pure.

Requests are smuggled past a reverse proxy if two readers take one head for two different requests. What a well-behaved
client never sends is therefore refused with 400, and the connection closed. Once a head is parsed, most of it cannot be
seen any more, so the check reads the bytes.
"""

import re

HEAD_LIMIT = 32 * 1024
HEADER_LIMIT = 100
METHOD_LIMIT = 32
TARGET_LIMIT = 8 * 1024
AUTHORIZATION_LIMIT = 8 * 1024
LENGTH_DIGITS = 18

_HEAD_END = re.compile(rb"\n\r?\n")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP/(\d\.\d)")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HOST = re.compile(rb"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_DIGITS = re.compile(rb"[0-9]+")
_CHECKED_HEADERS = (b"content-length", b"transfer-encoding", b"host", b"authorization")


class HeadRefused(Exception):
    """The head is not accepted; `status` is the HTTP status of the response."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


RequestHead = tuple[bytes, bytes, bytes, list[tuple[bytes, bytes, bytes]], bool]
"""Method, target, version and headers of a parsed head, and whether chunks follow it.

A header is its name as it was sent, its name in lower case, and its value; `Upgrade` is left out.
"""


def find_head_end(data: bytes) -> int | None:
    """Return the offset behind the empty line that ends the head; None while the head is incomplete."""
    end = _HEAD_END.search(data)
    return end.end() if end else None


def parse_whole_head(data: bytes, end: int) -> RequestHead:
    """Parse the head that ends at `end`, an offset by `find_head_end`. Raises HeadRefused."""
    if not data.endswith(b"\r\n\r\n", 0, end):
        raise HeadRefused("a line does not end with CRLF alone")
    return parse_head(data[: end - 4])


def parse_head(head: bytes) -> RequestHead:
    """Parse a head without the empty line that ends it, nor the line break before that. Raises HeadRefused."""
    if len(head) > HEAD_LIMIT:
        raise HeadRefused(f"a head of more than {HEAD_LIMIT} bytes", 431)
    lines = head.split(b"\r\n")
    if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1 or _CONTROL.search(head):
        raise HeadRefused("a line does not end with CRLF alone, or contains a control character")
    method, target, version = _parse_request_line(lines[0])
    if len(lines) - 1 > HEADER_LIMIT:
        raise HeadRefused(f"more than {HEADER_LIMIT} header lines", 431)
    headers: list[tuple[bytes, bytes, bytes]] = []
    checked: dict[bytes, list[bytes]] = {}
    for line in lines[1:]:
        raw_name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(raw_name):
            raise HeadRefused("a header line is folded or has no valid name")
        name, value = raw_name.lower(), value.strip(b" \t")
        if name in _CHECKED_HEADERS:
            checked.setdefault(name, []).append(value)
            value = value.lower() if name == b"transfer-encoding" else value
        # A server may ignore Upgrade (RFC 9110, section 7.8); HTTP/1.1 is the only protocol of this one.
        if name != b"upgrade":
            headers.append((raw_name, name, value))
    _check_framing(checked, version == b"1.0")
    hosts = checked.get(b"host", [])
    if len(hosts) > 1 or (not hosts and version == b"1.1") or any(not _HOST.fullmatch(host) for host in hosts):
        raise HeadRefused("Host is missing, repeated or malformed")
    if any(len(value) > AUTHORIZATION_LIMIT for value in checked.get(b"authorization", [])):
        raise HeadRefused(f"an Authorization of more than {AUTHORIZATION_LIMIT} bytes", 431)
    return method, target, version, headers, b"transfer-encoding" in checked


def _parse_request_line(line: bytes) -> tuple[bytes, bytes, bytes]:
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise HeadRefused("malformed request line")
    method, target, version = match.groups()
    if version not in (b"1.0", b"1.1"):
        raise HeadRefused("the HTTP version is neither 1.0 nor 1.1", 505)
    if len(method) > METHOD_LIMIT:
        raise HeadRefused(f"a method of more than {METHOD_LIMIT} bytes", 501)
    if len(target) > TARGET_LIMIT:
        raise HeadRefused(f"a target of more than {TARGET_LIMIT} bytes", 414)
    if not target.startswith(b"/") or target.startswith(b"//"):
        raise HeadRefused("the target must begin with exactly one slash")
    return method, target, version


def _check_framing(fields: dict[bytes, list[bytes]], is_http_1_0: bool) -> None:
    """Check that the end of the body is stated once and in one way (RFC 9112, section 6.3). Raises HeadRefused."""
    lengths, codings = fields.get(b"content-length", []), fields.get(b"transfer-encoding", [])
    if lengths and codings:
        raise HeadRefused("Content-Length together with Transfer-Encoding")
    if len(lengths) > 1 or any(len(text) > LENGTH_DIGITS or not _DIGITS.fullmatch(text) for text in lengths):
        raise HeadRefused("Content-Length is not one number")
    if codings and (is_http_1_0 or [coding.lower() for coding in codings] != [b"chunked"]):
        raise HeadRefused("Transfer-Encoding is not just chunked")
