"""When nothing may be collected, decided without a database."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.registry.collection_guard import FEW, HOLD, CollectionGuard, Window, jitter_of

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)


@pytest.mark.parametrize("seen_at", [None, NOW - MINUTE, NOW - DAY, NOW + MINUTE])
def test_a_clock_that_goes_on_lets_collect(seen_at: datetime | None) -> None:
    guard = CollectionGuard()
    assert guard.decide(NOW, 10.0, seen_at) is None
    assert guard.decide(NOW + 5 * SECOND, 15.0, NOW) is None


@pytest.mark.parametrize("jump", [400 * DAY, -400 * DAY, 6 * MINUTE, -6 * MINUTE])
def test_a_clock_that_jumps_holds_until_it_has_gone_right_for_an_hour(jump: timedelta) -> None:
    guard = CollectionGuard()
    assert guard.decide(NOW, 10.0, None) is None
    assert "the clock jumped from 2025-03-04 05:06" in (guard.decide(NOW + jump, 15.0, None) or "")
    held = HOLD.total_seconds()
    almost = guard.decide(NOW + jump + HOLD - 10 * SECOND, 5.0 + held, None)
    until = NOW + jump + HOLD
    assert almost == f"the clock was set recently: collection goes on at {until:%Y-%m-%d %H:%M} UTC"
    assert guard.decide(NOW + jump + HOLD, 15.0 + held, None) is None


def test_a_clock_behind_another_process_holds() -> None:
    assert "the clock is behind" in (CollectionGuard().decide(NOW, 10.0, NOW + 10 * MINUTE) or "")


def test_a_clock_that_was_ahead_stops_nothing_once_nobody_goes_by_it() -> None:
    """It was put right, and what it has noted last stays in the database."""
    guard, ahead, hold = CollectionGuard(), NOW + 400 * DAY, HOLD.total_seconds()
    for seconds in (0, 600, hold - 1):
        assert "the clock is behind" in (guard.decide(NOW + seconds * SECOND, seconds, ahead) or "")
    held = guard.decide(NOW + HOLD, hold, ahead)
    assert held is not None and "was set recently" in held
    assert guard.decide(NOW + 2 * HOLD, 2 * hold, ahead) is None


def test_another_process_that_goes_by_a_later_clock_holds_for_as_long_as_it_does() -> None:
    guard = CollectionGuard()
    for minutes in range(0, 300, 10):
        now = NOW + minutes * MINUTE
        assert "the clock is behind" in (guard.decide(now, minutes * 60.0, now + DAY) or "")


def test_a_clock_far_ahead_of_the_last_collector_holds_a_new_one() -> None:
    guard = CollectionGuard()
    assert "nothing was collected since 2025-03-02" in (guard.decide(NOW, 10.0, NOW - 2 * DAY) or "")
    assert guard.decide(NOW + HOLD, 10.0 + HOLD.total_seconds(), NOW - 2 * DAY) is None


@pytest.mark.parametrize(
    ("objects", "deleted", "used_up"),
    [
        (0, 0, False),
        (10, 10, False),
        (10, FEW - 1, False),
        (10, FEW, True),
        (10_000, 4_999, False),
        (10_000, 5_000, True),
    ],
)
def test_half_of_everything_is_deleted_without_a_question_if_that_is_not_much(
    objects: int, deleted: int, used_up: bool
) -> None:
    assert Window(NOW, objects, deleted).is_used_up is used_up


@pytest.mark.parametrize(
    ("began_at", "over"),
    [(None, True), (NOW, False), (NOW - DAY + SECOND, False), (NOW - DAY, True), (NOW + DAY, True)],
)
def test_deletions_are_counted_for_a_day(began_at: datetime | None, over: bool) -> None:
    assert Window(began_at, 0, 0).is_over(NOW) is over


@pytest.mark.parametrize(("delay", "most"), [(DAY, MINUTE), (20 * SECOND, 2 * SECOND), (timedelta(0), timedelta(0))])
def test_jitter_is_at_most_a_tenth_of_the_delay_and_a_minute(delay: timedelta, most: timedelta) -> None:
    found = {jitter_of(f"{number:064x}", delay) for number in range(100)}
    assert timedelta(0) <= min(found)
    assert max(found) <= most
    assert len(found) > 10 or delay == timedelta(0)
