"""Conditional and partial requests (RFC 9110, sections 13 and 14); pure."""

import re
from dataclasses import dataclass

_SINGLE_RANGE = re.compile(r"bytes=\s*(\d{0,19})-(\d{0,19})\s*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes `start` up to, not including, `stop`."""

    start: int
    stop: int


class Unsatisfiable(Exception):
    """The range begins beyond the end."""


def parse_range(header: str | None, size: int) -> ByteRange | None:
    """Parse the one requested range, cut to the size; None for the whole.

    Several ranges, and anything that is no range of bytes, select the whole, as a server may (section 14.2).
    Raises Unsatisfiable.
    """
    match = _SINGLE_RANGE.fullmatch(header) if header else None
    if match is None or match.group(1, 2) == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        if int(last) == 0 or size == 0:
            raise Unsatisfiable
        return ByteRange(max(0, size - int(last)), size)
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        raise Unsatisfiable
    return ByteRange(int(first), min(int(last) + 1, size) if last else size)


def matches(if_none_match: str | None, etag: str) -> bool:
    """Whether the client already has the content; a weak comparison (section 13.1.2)."""
    if if_none_match is None:
        return False
    candidates = [candidate.strip() for candidate in if_none_match.split(",")]
    return "*" in candidates or any(candidate.removeprefix("W/") == etag for candidate in candidates)


def range_applies(if_range: str | None, etag: str) -> bool:
    """Whether the client's part belongs to the current content; a strong comparison, and dates never match."""
    return if_range is None or if_range.strip() == etag
