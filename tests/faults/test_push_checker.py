"""Tests of the checker of pushes: every rule finds its violation, and accepts what has a cause."""

from dataclasses import replace

import pytest

from .ledger import Deed, Done
from .push_checker import PushEvidence, judge_pushes
from .push_ledger import Change, Key, Look, Step, Thing, permitted
from .pushers import statuses_of_deletion

ONE, OTHER = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
TAG = Key("pusher/mix", Thing.TAG, "latest")
PUT = Change(TAG, ONE, 10, 11, acknowledged=True)
DELETE = Change(TAG, None, 20, 21, acknowledged=True)
UNKNOWN = replace(PUT, value=OTHER, begun=30, until=50, acknowledged=False)
STEP = Step("PUT", "pusher/mix", 10, 11, 201, frozenset({201}), since=10)


def found(
    *steps: Step,
    changes: tuple[Change, ...] = (),
    look: Look | None = None,
    looks: tuple[Look, ...] = (),
    done: Done | None = None,
) -> list[str]:
    """Names of the rules that find a violation."""
    looks, deeds = (look,) if look else looks, [done] if done else []
    against = judge_pushes(PushEvidence({TAG: changes}, looks, steps, deeds))
    return [rule for rule, sentences in against.items() if sentences]


def look_at(value: str | None, moment: float) -> Look:
    return Look(TAG, value, moment, moment + 1)


@pytest.mark.parametrize(
    ("step", "rule"),
    [
        (replace(STEP, right=False), "wrong_pushed_bytes"),
        (replace(STEP, status=404), "strange_push_statuses"),
        (replace(STEP, status=500), "strange_push_statuses"),
        (replace(STEP, status=503), "strange_push_statuses"),
        (replace(STEP, status=507), "strange_push_statuses"),
        (replace(STEP, hung=True), "endless_pushes"),
        (replace(STEP, waited=26), "endless_pushes"),
        (replace(STEP, status=0), "pushes_broken_without_cause"),
        (replace(STEP, lost=1), "lost_bytes_of_uploads"),
    ],
)
def test_a_request_that_may_never_end_like_this_is_found(step: Step, rule: str) -> None:
    assert found(step) == [rule]


def test_a_good_response_is_good() -> None:
    assert found(STEP, replace(STEP, status=503, retry_after="1"), replace(STEP, status=0, left=True)) == []


def test_a_broken_push_is_explained_by_a_death_nearby() -> None:
    broken = replace(STEP, status=0)
    assert found(broken, done=Done(Deed.KILL, 9, 10)) == []
    assert found(broken, done=Done(Deed.KILL, 1, 2)) == ["pushes_broken_without_cause"]


def test_an_upload_ends_with_a_disk_that_was_full_since_it_began() -> None:
    full, earlier = Done(Deed.FULL, 5, 6), Done(Deed.FULL, 2, 3)
    for status in (404, 507):
        step = replace(STEP, status=status, since=4)
        assert found(step, done=full) == []
        assert found(step, done=earlier) == ["strange_push_statuses"]
    assert found(replace(STEP, status=507), done=Done(Deed.FAILPOINT, 5, 15, "upload.write=error:ENOSPC@9")) == []


def test_an_upload_begins_anew_after_a_disk_that_was_full_since_it_began() -> None:
    step = replace(STEP, lost=1, since=4)
    assert found(step, done=Done(Deed.FULL, 5, 6)) == []
    assert found(step, done=Done(Deed.FULL, 2, 3)) == ["lost_bytes_of_uploads"]
    assert found(step, done=Done(Deed.KILL, 5, 6)) == ["lost_bytes_of_uploads"]


def test_an_acknowledged_push_is_lost_if_it_is_not_seen() -> None:
    assert found(changes=(PUT,), look=look_at(ONE, 12)) == []
    assert found(changes=(PUT,), look=look_at(None, 12)) == ["lost_pushes"]
    assert found(changes=(PUT,), look=look_at(OTHER, 12)) == ["lost_pushes"]
    assert found(changes=(PUT, replace(PUT, value=OTHER, begun=13, until=14)), look=look_at(ONE, 15)) == ["lost_pushes"]


def test_an_acknowledged_delete_is_undone_if_the_push_is_seen() -> None:
    assert found(changes=(PUT, DELETE), look=look_at(None, 22)) == []
    assert found(changes=(PUT, DELETE), look=look_at(ONE, 22)) == ["undone_deletes"]
    assert found(look=look_at(ONE, 22)) == ["undone_deletes"]


def test_an_unanswered_change_may_have_been_made_or_not() -> None:
    for value in (ONE, OTHER):
        assert found(changes=(PUT, UNKNOWN), look=look_at(value, 60)) == []
    assert permitted([PUT, UNKNOWN], 60, 61) == {ONE, OTHER}
    assert permitted([UNKNOWN], 60, 61) == {OTHER, None}


def test_an_unanswered_change_may_come_late_but_not_forever() -> None:
    after = replace(PUT, begun=40, until=41)
    assert permitted([UNKNOWN, after], 45, 46) == {ONE, OTHER}
    assert permitted([UNKNOWN, replace(after, begun=51, until=52)], 53, 54) == {ONE}


def test_a_look_during_a_change_may_show_either() -> None:
    assert permitted([PUT, DELETE], 20, 20.5) == {ONE, None}
    assert permitted([PUT, DELETE], 12, 13) == {ONE}


BLOB, MANIFEST = Key("pusher/mix", Thing.BLOB, ONE), Key("pusher/mix", Thing.MANIFEST, OTHER)
PUSHED = Change(BLOB, ONE, 10, 11, acknowledged=True)
TAGGED = (Change(MANIFEST, OTHER, 12, 13, acknowledged=True), Change(TAG, OTHER, 12, 13, acknowledged=True))


@pytest.mark.parametrize(
    ("changes", "moment", "delay", "is_lost"),
    [
        ((PUSHED,), 100, None, True),
        ((PUSHED,), 100, 20, False),
        ((PUSHED,), 25, 20, True),
        ((PUSHED, *TAGGED), 100, 20, True),
        ((PUSHED, *TAGGED, replace(DELETE, begun=90, until=91)), 100, 20, False),
        ((PUSHED, *TAGGED, replace(UNKNOWN, key=TAG, value=ONE)), 100, 20, False),
        ((PUSHED, replace(PUSHED, begun=95, until=96)), 100, 20, True),
        ((PUSHED, replace(PUSHED, begun=105, until=106)), 100, 20, False),
    ],
    ids=[
        "kept for ever",
        "unused",
        "young",
        "tagged",
        "untagged",
        "tag moved, perhaps",
        "pushed again",
        "pushed later",
    ],
)
def test_only_what_nothing_has_needed_for_the_delay_may_be_gone(
    changes: tuple[Change, ...], moment: float, delay: float | None, is_lost: bool
) -> None:
    by_key: dict[Key, list[Change]] = {}
    for change in changes:
        by_key.setdefault(change.key, []).append(change)
    look = Look(BLOB, None, moment, moment + 1)
    evidence = PushEvidence(by_key, [look], [], [], {MANIFEST: (BLOB,)}, delay)
    assert bool(judge_pushes(evidence)["lost_pushes"]) is is_lost


MOVE = Change(TAG, OTHER, 20, 30, acknowledged=True)


def test_looks_go_forward_while_a_tag_moves() -> None:
    before, after = (look_at(ONE, 22), look_at(OTHER, 24)), (look_at(OTHER, 22), look_at(ONE, 24))
    assert found(changes=(PUT, MOVE), looks=before) == []
    assert found(changes=(PUT, MOVE), looks=after) == ["unordered_looks"]
    overlapping = (Look(TAG, OTHER, 22, 26), Look(TAG, ONE, 24, 27))
    assert found(changes=(PUT, MOVE), looks=overlapping) == []


def test_what_was_never_acknowledged_and_seen_once_stays() -> None:
    assert found(changes=(PUT, UNKNOWN), looks=(look_at(ONE, 32), look_at(OTHER, 34), look_at(OTHER, 36))) == []
    assert found(changes=(PUT, UNKNOWN), looks=(look_at(OTHER, 32), look_at(ONE, 34))) == ["unordered_looks"]


def test_a_tag_that_was_seen_is_not_absent_before_its_push_is_acknowledged() -> None:
    slow = replace(PUT, begun=10, until=20)
    assert found(changes=(slow,), looks=(look_at(None, 11), look_at(ONE, 13))) == []
    assert found(changes=(slow,), looks=(look_at(ONE, 11), look_at(None, 13))) == ["unordered_looks"]


def test_a_value_that_two_changes_explain_tells_nothing_of_their_order() -> None:
    again = replace(PUT, begun=20, until=40)
    assert found(changes=(PUT, MOVE, again), looks=(look_at(ONE, 22), look_at(OTHER, 24), look_at(ONE, 26))) == []


@pytest.mark.parametrize(
    ("certain", "kept", "others", "statuses"),
    [
        ({None}, True, False, {404}),
        ({None}, False, False, {404}),
        ({None}, True, True, {202, 404}),  # the push of another, which no note tells of before its end
        ({"a"}, True, False, {202}),
        ({"a"}, False, False, {202, 404}),
        ({"a"}, True, True, {202, 404}),
        ({"a", None}, True, False, {202, 404}),
    ],
)
def test_a_deletion_may_find_what_another_pushes_meanwhile(
    certain: set[str | None], kept: bool, others: bool, statuses: set[int]
) -> None:
    assert statuses_of_deletion(certain, is_kept=kept, others_write=others) == statuses
