"""Useless HEADs: when no more are sent to a registry, and when one is tried again."""

import pytest

from cache.upstream.useless_heads import (
    DOUBTS_KEPT,
    REMEMBERED,
    UNTRIED,
    USELESS_AFTER,
    HeadKind,
    HeadRecord,
    UselessHeads,
    after_useless,
    is_useless,
)

NOW = 1000.0
KNOWN = HeadRecord(USELESS_AFTER, NOW + REMEMBERED)


@pytest.mark.parametrize(
    ("record", "now", "useless"),
    [
        (UNTRIED, NOW, False),
        (HeadRecord(USELESS_AFTER - 1), NOW, False),
        (KNOWN, NOW, True),
        (KNOWN, NOW + REMEMBERED - 1, True),
        (KNOWN, NOW + REMEMBERED, False),
        (KNOWN, NOW - 1, False),  # a clock that was set back
    ],
)
def test_heads_are_useless_for_a_while(record: HeadRecord, now: float, useless: bool) -> None:
    assert is_useless(record, now) is useless


def test_heads_are_useless_after_some_in_a_row_and_after_each_further_one() -> None:
    record = UNTRIED
    for _ in range(USELESS_AFTER - 1):
        record = after_useless(record, NOW)
        assert not is_useless(record, NOW)
    record = after_useless(record, NOW)
    assert record == KNOWN
    later = NOW + 10 * REMEMBERED
    assert after_useless(record, later) == HeadRecord(USELESS_AFTER, later + REMEMBERED)


def test_a_useful_head_begins_the_count_anew_for_its_kind_alone() -> None:
    heads = UselessHeads(lambda: NOW)
    for kind in HeadKind:
        for _ in range(USELESS_AFTER):
            heads.note_useless(kind)
        assert heads.are_useless(kind)
    heads.note_useful(HeadKind.BLOB)
    assert [heads.are_useless(kind) for kind in (HeadKind.BLOB, HeadKind.MANIFEST)] == [False, True]
    heads.note_useless(HeadKind.BLOB)
    assert not heads.are_useless(HeadKind.BLOB)


def test_a_head_that_a_get_confirms_is_not_useless() -> None:
    heads = UselessHeads(lambda: NOW)
    for number in range(10):
        heads.doubt(number)
        heads.settle(number, found=False)
        heads.settle(number, found=True)
    assert not heads.are_useless(HeadKind.MANIFEST)
    for number in range(USELESS_AFTER):
        heads.doubt(number)
        heads.settle(number, found=True)
    assert heads.are_useless(HeadKind.MANIFEST)


def test_heads_whose_get_never_comes_take_bounded_memory() -> None:
    heads = UselessHeads(lambda: NOW)
    for number in range(10 * DOUBTS_KEPT):
        heads.doubt(number)
    for number in range(9 * DOUBTS_KEPT):
        heads.settle(number, found=True)
    assert not heads.are_useless(HeadKind.MANIFEST)
