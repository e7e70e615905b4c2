"""SteadyClock: trusted once it has gone right for an hour."""

from gateway.audit.steady_clock import HOLD_SECONDS, TOLERANCE_SECONDS, SteadyClock


class Times:
    """A clock that can be set, and the time that passes."""

    def __init__(self) -> None:
        self.clock, self.passed = 1e9, 0.0
        self.steady = SteadyClock(lambda: self.clock, lambda: self.passed)

    def pass_by(self, seconds: float) -> bool:
        self.clock, self.passed = self.clock + seconds, self.passed + seconds
        return self.steady.is_trusted()


def test_the_clock_is_trusted_after_an_hour() -> None:
    times = Times()
    assert [times.pass_by(seconds) for seconds in (0, HOLD_SECONDS - 1, 1, 1)] == [False, False, True, True]


def test_a_clock_that_was_set_is_trusted_after_another_hour() -> None:
    for jump in (-2 * TOLERANCE_SECONDS, 2 * TOLERANCE_SECONDS):
        times = Times()
        assert times.pass_by(HOLD_SECONDS)
        times.clock += jump
        assert [times.pass_by(seconds) for seconds in (1, HOLD_SECONDS - 1, 1)] == [False, False, True]


def test_a_clock_that_is_corrected_a_little_stays_trusted() -> None:
    times = Times()
    assert times.pass_by(HOLD_SECONDS)
    times.clock += TOLERANCE_SECONDS / 2
    assert times.pass_by(1)
