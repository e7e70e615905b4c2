"""When nothing may be deleted because of the clock, decided without a database."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.registry.clock_guard import HOLD, ClockGuard

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)


@pytest.mark.parametrize("seen_at", [None, NOW - MINUTE, NOW - DAY, NOW + MINUTE])
def test_a_clock_that_goes_on_lets_collect(seen_at: datetime | None) -> None:
    guard = ClockGuard()
    assert guard.decide(NOW, 10.0, seen_at) is None
    assert guard.decide(NOW + 5 * SECOND, 15.0, NOW) is None


@pytest.mark.parametrize("jump", [400 * DAY, -400 * DAY, 6 * MINUTE, -6 * MINUTE])
def test_a_clock_that_jumps_holds_until_it_has_gone_right_for_an_hour(jump: timedelta) -> None:
    guard = ClockGuard()
    assert guard.decide(NOW, 10.0, None) is None
    assert "the clock jumped from 2025-03-04 05:06" in (guard.decide(NOW + jump, 15.0, None) or "")
    held = HOLD.total_seconds()
    almost = guard.decide(NOW + jump + HOLD - 10 * SECOND, 5.0 + held, None)
    until = NOW + jump + HOLD
    assert almost == f"the clock was set recently: collection goes on at {until:%Y-%m-%d %H:%M} UTC"
    assert guard.decide(NOW + jump + HOLD, 15.0 + held, None) is None


def test_a_clock_behind_another_process_holds() -> None:
    assert "the clock is behind" in (ClockGuard().decide(NOW, 10.0, NOW + 10 * MINUTE) or "")


def test_a_clock_that_was_ahead_stops_nothing_once_nobody_goes_by_it() -> None:
    """It was put right, and what it has noted last stays in the database."""
    guard, ahead, hold = ClockGuard(), NOW + 400 * DAY, HOLD.total_seconds()
    for seconds in (0, 600, hold - 1):
        assert "the clock is behind" in (guard.decide(NOW + seconds * SECOND, seconds, ahead) or "")
    held = guard.decide(NOW + HOLD, hold, ahead)
    assert held is not None and "was set recently" in held
    assert guard.decide(NOW + 2 * HOLD, 2 * hold, ahead) is None


def test_another_process_that_goes_by_a_later_clock_holds_for_as_long_as_it_does() -> None:
    guard = ClockGuard()
    for minutes in range(0, 300, 10):
        now = NOW + minutes * MINUTE
        assert "the clock is behind" in (guard.decide(now, minutes * 60.0, now + DAY) or "")


def test_a_clock_far_ahead_of_the_last_collector_holds_a_new_one() -> None:
    guard = ClockGuard()
    assert "nothing was collected since 2025-03-02" in (guard.decide(NOW, 10.0, NOW - 2 * DAY) or "")
    assert guard.decide(NOW + HOLD, 10.0 + HOLD.total_seconds(), NOW - 2 * DAY) is None
