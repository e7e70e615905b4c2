"""Grammar of fixed headers, which settings define and which requests to upstreams carry."""

import re
from collections.abc import Mapping

FROM_FILE = "file:"
"""Prefix of a value that is read from a file."""

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}")
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,8190}[\x21-\x7e])?")

_NOT_FIXED = frozenset(
    [
        *("accept", "accept-encoding", "authorization", "connection", "content-length", "content-type", "expect"),
        *("host", "if-modified-since", "if-none-match", "if-range", "keep-alive", "range", "te", "trailer"),
        *("transfer-encoding", "upgrade", "user-agent"),
    ]
)
"""Headers that the gateway sends itself, or by which a message is framed."""


def is_header_value(text: str) -> bool:
    """Whether every server reads a value in the same way: visible ASCII with blanks inside (RFC 9110, section 5.5)."""
    return _VALUE.fullmatch(text) is not None


def check_headers(headers: Mapping[str, str]) -> None:
    """Check names and values. Raises ValueError, whose text repeats no value."""
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or name.lower() in _NOT_FIXED or name.lower().startswith("proxy-"):
            raise ValueError("not the name of a fixed header")
        if not is_header_value(value) or value == FROM_FILE:
            raise ValueError("not the value of a header")
    if len({name.lower() for name in headers}) < len(headers):
        raise ValueError("a header is given twice")
