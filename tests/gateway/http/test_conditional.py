"""Ranges and conditions: the cases of the specification, and every small case against a slow model."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.http.conditional import ByteRange, Unsatisfiable, matches, parse_range, range_applies

ETAG = '"sha256:' + 64 * "a" + '"'
OTHER = '"sha256:' + 64 * "b" + '"'
WHOLE, REFUSED = "whole", "refused"
HUGE = "9" * 19
HUGER = "9" * 4000


def asked(header: str | None, size: int) -> tuple[int, int] | str:
    try:
        found = parse_range(header, size)
    except Unsatisfiable:
        return REFUSED
    return WHOLE if found is None else (found.start, found.stop)


@pytest.mark.parametrize(
    ("header", "size", "expected"),
    [
        (None, 10, WHOLE),
        ("", 10, WHOLE),
        # First and last.
        ("bytes=0-0", 10, (0, 1)),
        ("bytes=0-9", 10, (0, 10)),
        ("bytes=3-5", 10, (3, 6)),
        ("bytes=9-9", 10, (9, 10)),
        ("bytes=9-10", 10, (9, 10)),
        ("bytes=0-99", 10, (0, 10)),
        (f"bytes=3-{HUGE}", 10, (3, 10)),
        ("bytes=003-005", 10, (3, 6)),
        ("bytes=10-", 10, REFUSED),
        ("bytes=10-20", 10, REFUSED),
        (f"bytes={HUGE}-", 10, REFUSED),
        (f"bytes={HUGE}-{HUGE}", 10, REFUSED),
        # To the end.
        ("bytes=0-", 10, (0, 10)),
        ("bytes=9-", 10, (9, 10)),
        # The last bytes.
        ("bytes=-1", 10, (9, 10)),
        ("bytes=-10", 10, (0, 10)),
        ("bytes=-11", 10, (0, 10)),
        (f"bytes=-{HUGE}", 10, (0, 10)),
        ("bytes=-0", 10, REFUSED),
        # Empty content.
        ("bytes=0-", 0, REFUSED),
        ("bytes=0-0", 0, REFUSED),
        ("bytes=-1", 0, REFUSED),
        # A unit has no case, and space may stand around a range (RFC 9110, sections 5.6.1 and 14.1).
        ("Bytes=1-2", 10, (1, 3)),
        ("bytes= 1-2", 10, (1, 3)),
        ("bytes=1-2 ", 10, (1, 3)),
        # Invalid ranges are ignored.
        ("bytes=5-3", 10, WHOLE),
        ("bytes=20-15", 10, WHOLE),
        ("bytes=-", 10, WHOLE),
        ("bytes=", 10, WHOLE),
        ("bytes", 10, WHOLE),
        ("bytes=a-b", 10, WHOLE),
        ("bytes=1-b", 10, WHOLE),
        ("bytes=--1", 10, WHOLE),
        ("bytes=+1-2", 10, WHOLE),
        ("bytes=1_0-12", 100, WHOLE),
        ("bytes=0x1-0x2", 10, WHOLE),
        ("bytes=1.0-2", 10, WHOLE),
        ("bytes=1 -2", 10, WHOLE),
        ("bytes=1- 2", 10, WHOLE),
        ("bytes 0-5/10", 10, WHOLE),
        ("bytes=0-5/10", 10, WHOLE),
        ("items=0-5", 10, WHOLE),
        ("xbytes=0-5", 10, WHOLE),
        ("bytes=0-5x", 10, WHOLE),
        ("bytes=\u0663-\u0665", 10, WHOLE),
        ("bytes=²-³", 10, WHOLE),
        # More digits than any size.
        (f"bytes=0-{HUGER}", 10, WHOLE),
        (f"bytes={HUGER}-", 10, WHOLE),
        (f"bytes=-{HUGER}", 10, WHOLE),
        # Several ranges, also overlapping, adjacent, empty, or unsatisfiable.
        ("bytes=0-1,3-4", 10, WHOLE),
        ("bytes=0-5,3-9", 10, WHOLE),
        ("bytes=0-4,5-9", 10, WHOLE),
        ("bytes=0-,0-,0-", 10, WHOLE),
        ("bytes=0-1,-1", 10, WHOLE),
        ("bytes=0-1,", 10, WHOLE),
        ("bytes=,0-1", 10, WHOLE),
        ("bytes=20-30,40-50", 10, WHOLE),
    ],
)
def test_a_range_is(header: str | None, size: int, expected: object) -> None:
    assert asked(header, size) == expected


def modelled(first: str, last: str, size: int) -> object:
    """Model `parse_range` by counting bytes one by one (RFC 9110, section 14.1.2)."""
    if not first and not last:
        return WHOLE
    if first and last and int(last) < int(first):
        return WHOLE
    if first:
        picked = [at for at in range(size) if at >= int(first) and (not last or at <= int(last))]
    else:
        picked = [at for at in range(size) if size - at <= int(last)]
    return (picked[0], picked[-1] + 1) if picked else REFUSED


positions = st.one_of(st.just(""), st.integers(0, 40).map(str), st.integers(0, 10**18).map(str))


@given(first=positions, last=positions, size=st.integers(0, 32))
def test_every_single_range_is_what_counting_the_bytes_says(first: str, last: str, size: int) -> None:
    assert asked(f"bytes={first}-{last}", size) == modelled(first, last, size)


@given(st.one_of(st.text(), st.from_regex(r"bytes=[0-9,\- ]{0,60}", fullmatch=True)), st.integers(0, 2**63))
@example("bytes=0-\n", 5)
@example("bytes=\x001-2", 5)
def test_whatever_is_asked_the_answer_lies_within_the_blob(header: str, size: int) -> None:
    try:
        found = parse_range(header, size)
    except Unsatisfiable:
        return
    assert found is None or (isinstance(found, ByteRange) and 0 <= found.start < found.stop <= size)


def calls(work: Callable[[], object]) -> int:
    """Count the functions of Python and C that the work calls: effort without a clock."""
    count = 0

    def note(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize(
    "header",
    [
        "bytes=" + ",".join(f"{at}-{at}" for at in range(10_000)),
        "bytes=" + ",".join("0-" for _ in range(10_000)),
        "bytes=" + "," * 10_000,
        "bytes=0-" + " " * 30_000 + "x",
        "bytes=" + " " * 30_000 + "x",
        "bytes=" + "1" * 30_000 + "-",
    ],
    ids=["many", "overlapping", "empty", "space after", "space before", "digits"],
)
def test_ten_thousand_ranges_cost_no_more_than_two(header: str) -> None:
    assert asked(header, 100) == WHOLE
    assert calls(lambda: asked(header, 100)) <= calls(lambda: asked("bytes=0-1,3-4", 100))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, False),
        ("", False),
        (ETAG, True),
        (f"W/{ETAG}", True),
        ("*", True),
        (OTHER, False),
        (f"{OTHER}, {ETAG}", True),
        (f"{OTHER},{ETAG}", True),
        (f"{OTHER} ,  W/{ETAG} ", True),
        (f"{OTHER}, {OTHER}", False),
        (f", {ETAG},", True),
        (ETAG.strip('"'), False),
        (f"w/{ETAG}", False),
        (f"W/W/{ETAG}", False),
        (ETAG[:-2] + '"', False),
        (ETAG.upper(), False),
        ('"*"', False),
        ("Wed, 21 Oct 2015 07:28:00 GMT", False),
        (",".join([OTHER] * 10_000), False),
        (",".join([OTHER] * 10_000 + [ETAG]), True),
    ],
)
def test_what_a_client_has_already_is(given: str | None, expected: bool) -> None:
    assert matches(given, ETAG) is expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, True),
        (ETAG, True),
        (f" {ETAG} ", True),
        (OTHER, False),
        (f"W/{ETAG}", False),
        ("*", False),
        ("", False),
        (f"{ETAG}, {OTHER}", False),
        ("Wed, 21 Oct 2015 07:28:00 GMT", False),
    ],
)
def test_a_part_belongs_to_what_is_served(given: str | None, expected: bool) -> None:
    assert range_applies(given, ETAG) is expected
