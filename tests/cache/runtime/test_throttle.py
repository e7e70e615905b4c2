"""LogThrottle: one log line per cause and interval."""

from cache.runtime.throttle import CAUSES_KEPT, INTERVAL_SECONDS, LogThrottle


def test_a_cause_is_due_once_per_interval_and_beside_other_causes() -> None:
    now = 0.0
    throttle = LogThrottle(lambda: now)
    assert throttle.due("disk")
    assert not throttle.due("disk")
    assert throttle.due("index")
    now = INTERVAL_SECONDS - 1
    assert not throttle.due("disk")
    now = INTERVAL_SECONDS
    assert throttle.due("disk")


def test_invented_causes_fill_no_memory() -> None:
    throttle = LogThrottle(lambda: 0.0)
    assert all(throttle.due(str(number)) for number in range(CAUSES_KEPT + 1))
    assert throttle.due("0")
    assert not throttle.due(str(CAUSES_KEPT))
