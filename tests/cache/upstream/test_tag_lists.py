"""Tag lists of any size: scanned in pieces where they are large, with the result of a parser."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.oci.document import STRUCTURE_LIMIT
from cache.oci.names import is_tag
from cache.upstream.tag_lists import (
    AT_ONCE,
    BRACKET_LIMIT,
    ENTRY_LIMIT,
    NAMES_LIMIT,
    PIECE_LIMIT,
    _scanned,
    read_tags,
)

TEXTS = st.one_of(st.sampled_from(["latest", "tags", 'a"tags":[', "\\", "[", "]}", ","]), st.text(max_size=5))
INTEGERS = st.integers(-(2**63), 2**64 - 1)
"""Integers that a document may have; longer ones are refused, which other tests show."""
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), INTEGERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=10,
)
NAMES = st.lists(
    st.one_of(st.none(), st.from_regex(r"[a-zA-Z0-9_.-]{0,8}", fullmatch=True), st.just("sha256:" + "0" * 64))
)


@given(st.dictionaries(TEXTS, VALUES, max_size=4), NAMES, st.dictionaries(TEXTS, VALUES, max_size=4), st.booleans())
def test_scanning_finds_what_parsing_finds(
    before: dict[str, object], names: list[str | None], after: dict[str, object], spaced: bool
) -> None:
    document = {key: value for key, value in before.items() if key != "tags"} | {"tags": names}
    document |= {key: value for key, value in after.items() if key != "tags"}
    raw = json.dumps(document, indent=1 if spaced else None).encode()
    assert _scanned(raw) == read_tags(raw) == [name for name in names if name and is_tag(name)]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b'{"tags": ["a"]',
        b'{"tags": ["a"]}}',
        b'{"tags": ["a"]]',
        b'{"tags": ["a" "b"]}',
        b'{"tags": ["a",]}',
        b'{"tags": ["a", 1]}',
        b'{"tags": ["a", ["b"]]}',
        b'{"tags": ["a", {}]}',
        b'{"tags": ["\\u00e9"]}',
        b'{"tags": ["a\xff"]}',
        b'{"tags": ["a"], "tags": ["b"]}',
        b'{"tags": ["a"], "x": [}',
        b'{"x": ' + b"[" * 100 + b"]" * 100 + b"}",
        b'\xef\xbb\xbf{"tags": []}',
    ],
)
def test_what_is_no_list_of_tags_is_refused_by_the_scanner_too(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        _scanned(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"name": "x"}',
        b'{"tags": null}',
        b'{"tags": []}',
        b'{"x": {"tags": ["inner"]}}',
        b'{"x": [{"tags": ["inner"]}], "y": "tags"}',
    ],
)
def test_only_the_list_of_the_document_itself_counts(raw: bytes) -> None:
    assert _scanned(raw) == read_tags(raw) == []


def test_more_values_than_are_scanned_are_refused_at_once() -> None:
    for raw in (
        b'{"x": [' + b"[]," * (BRACKET_LIMIT // 2) + b'[]], "tags": []}',
        b'{"tags": [' + b'"",' * (ENTRY_LIMIT + 1) + b'""]}',
    ):
        began = time.monotonic()
        with pytest.raises(ValueError, match="too many values"):
            read_tags(raw)
        assert time.monotonic() - began < 10


def test_names_that_are_no_tags_are_left_out() -> None:
    names = [None, "", "a", f"sha256:{'0' * 64}", "-b", "c" * 129, "d"]
    assert read_tags(json.dumps({"tags": names}).encode()) == ["a", "d"]
    filler = {"manifest": [{}] * STRUCTURE_LIMIT}
    assert read_tags(json.dumps(filler | {"tags": names}).encode()) == ["a", "d"]


MUCH = 4 * AT_ONCE


@pytest.mark.parametrize(
    "raw",
    [
        b'{"tags": ["' + b"a" * MUCH + b'"]}',
        b'{"tags": ["' + b"\\n" * MUCH + b'"]}',
        b'{"tags": ["a", "' + b"a" * MUCH + b'"]}',
        b'{"x": "' + b"a" * MUCH + b'", "tags": []}',
        b'{"x": "' + b"\\n" * MUCH + b'", "tags": []}',
        b'{"' + b"a" * MUCH + b'": 1, "tags": []}',
        b'{"x": ' + b"1" * MUCH + b', "tags": []}',
        b'{"tags":' + b" " * MUCH + b"[]}",
        b'{"tags"' + b" " * MUCH + b":[]}",
        b'{"tags":[' + b" " * MUCH + b"]}",
        b'{"tags":[' + b" " * MUCH + b'"a"]}',
        b'{"tags":["a"' + b" " * MUCH + b"]}",
        b'{"tags":["a"]}' + b" " * MUCH,
        b" " * MUCH + b'{"tags":["a"]}',
    ],
    ids=lambda raw: f"{raw[:16].decode()}...{raw[-16:].decode()}",
)
def test_a_long_text_or_gap_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=f"more than {PIECE_LIMIT} characters"):
        read_tags(raw)


def test_a_large_list_with_texts_and_gaps_within_the_limit_is_read() -> None:
    names = [f"{number:0128}" for number in range(10_000)]
    document = {"x": ["a" * PIECE_LIMIT, "\n" * PIECE_LIMIT] * 5, "tags": [*names, "b" * PIECE_LIMIT, None]}
    raw = json.dumps(document).replace(" ", " " * 1000, 50).encode()
    assert len(raw) > AT_ONCE
    assert read_tags(raw) == names


@pytest.mark.parametrize("entry", ["a", "", None])
def test_more_tags_than_one_list_may_have_are_refused(entry: str | None) -> None:
    for fill in ([], [{}] * STRUCTURE_LIMIT):
        fits = {"x": fill, "tags": [entry] * NAMES_LIMIT}
        assert len(read_tags(json.dumps(fits).encode())) == (NAMES_LIMIT if entry else 0)
        with pytest.raises(ValueError, match=f"more than {NAMES_LIMIT} tags"):
            read_tags(json.dumps(fits | {"tags": [entry] * (NAMES_LIMIT + 1)}).encode())
