"""Useless HEADs: when no more are sent to a registry, and when one is tried again."""

import pytest

from cache.oci.names import RepositoryName, Tag
from cache.upstream.useless_heads import (
    DOUBTS_KEPT,
    REDIRECTED_KEPT,
    REMEMBERED,
    UNTRIED,
    USELESS_AFTER,
    HeadKind,
    HeadRecord,
    UselessHeads,
    after_useless,
    is_useless,
)

APP, WEB = RepositoryName("acme/app"), RepositoryName("acme/web")
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
            heads.note_useless(kind, APP, own=True)
        assert heads.are_useless(kind, APP)
        assert heads.are_useless(kind, WEB)
    heads.note_useful(HeadKind.BLOB, APP, own=True)
    assert [heads.are_useless(kind, APP) for kind in (HeadKind.BLOB, HeadKind.MANIFEST)] == [False, True]
    heads.note_useless(HeadKind.BLOB, APP, own=True)
    assert not heads.are_useless(HeadKind.BLOB, APP)


def test_what_a_redirect_s_target_answers_counts_for_that_image_alone() -> None:
    heads = UselessHeads(lambda: NOW)
    for kind in HeadKind:
        for _ in range(USELESS_AFTER):
            heads.note_useless(kind, APP, own=False)
        assert [heads.are_useless(kind, image) for image in (APP, WEB)] == [True, False]
    heads.note_useful(HeadKind.BLOB, APP, own=False)
    assert not heads.are_useless(HeadKind.BLOB, APP)
    for number in range(USELESS_AFTER):
        heads.note_useless(HeadKind.BLOB, APP, own=True)
        heads.note_useful(HeadKind.BLOB, RepositoryName(f"acme/image{number}"), own=False)
    assert heads.are_useless(HeadKind.BLOB, WEB)


def test_images_of_redirects_take_bounded_memory() -> None:
    heads = UselessHeads(lambda: NOW)
    for number in range(REDIRECTED_KEPT + 1):
        for _ in range(USELESS_AFTER):
            heads.note_useless(HeadKind.BLOB, RepositoryName(f"acme/image{number}"), own=False)
    images = [RepositoryName(f"acme/image{number}") for number in (0, 1, REDIRECTED_KEPT)]
    assert [heads.are_useless(HeadKind.BLOB, image) for image in images] == [False, True, True]


def test_a_head_that_a_get_confirms_is_not_useless() -> None:
    heads = UselessHeads(lambda: NOW)
    tags = [Tag(str(number)) for number in range(10)]
    for tag in tags:
        heads.doubt(APP, tag, own=True)
        heads.settle(APP, tag, found=False)
        heads.settle(APP, tag, found=True)
    assert not heads.are_useless(HeadKind.MANIFEST, APP)
    for tag in tags[:USELESS_AFTER]:
        heads.doubt(APP, tag, own=True)
        heads.settle(APP, tag, found=True)
    assert heads.are_useless(HeadKind.MANIFEST, WEB)


def test_heads_whose_get_never_comes_take_bounded_memory() -> None:
    heads = UselessHeads(lambda: NOW)
    for number in range(10 * DOUBTS_KEPT):
        heads.doubt(APP, Tag(str(number)), own=True)
    for number in range(9 * DOUBTS_KEPT):
        heads.settle(APP, Tag(str(number)), found=True)
    assert not heads.are_useless(HeadKind.MANIFEST, APP)
