"""Delays of password logins after failures."""

from datetime import UTC, datetime, timedelta

from gateway.auth import login_delays
from gateway.auth.login_delays import (
    FORGOTTEN_AFTER,
    FREE_FAILURES,
    FREE_FAILURES_OF_ADDRESS,
    KEPT,
    LONGEST_DELAY,
    LoginDelays,
    delay_after,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def test_a_delay_doubles_with_each_failure_up_to_the_longest() -> None:
    assert [delay_after(count, 5) for count in (0, 4, 5, 6, 7)] == [
        0 * SECOND,
        0 * SECOND,
        SECOND,
        2 * SECOND,
        4 * SECOND,
    ]
    assert delay_after(1000, 5) == LONGEST_DELAY


def test_failures_delay_their_account_alone_and_attempts_at_once_count_before_they_fail() -> None:
    delays = LoginDelays()
    assert [delays.begin("Alice", None, NOW) for _ in range(FREE_FAILURES)] == [None] * FREE_FAILURES
    assert delays.begin("alice", None, NOW) == SECOND
    assert delays.begin("bob", None, NOW) is None
    assert delays.begin("alice", None, NOW + SECOND) is None
    assert delays.begin("alice", None, NOW + SECOND) == 2 * SECOND


def test_a_success_ends_the_delays_of_an_account() -> None:
    delays = LoginDelays()
    for _ in range(FREE_FAILURES - 1):
        delays.begin("alice", "10.0.0.1", NOW)
    for _ in range(100):
        assert delays.begin("alice", "10.0.0.1", NOW) is None
        delays.succeed("alice", "10.0.0.1")


def test_failures_of_an_address_delay_every_account_there() -> None:
    delays = LoginDelays()
    for number in range(FREE_FAILURES_OF_ADDRESS):
        assert delays.begin(f"user{number}", "10.0.0.1", NOW) is None
    assert delays.begin("alice", "10.0.0.1", NOW) == SECOND
    assert delays.begin("alice", "10.0.0.2", NOW) is None
    assert delays.begin("alice", None, NOW) is None


def test_failures_are_forgotten() -> None:
    delays = LoginDelays()
    for _ in range(FREE_FAILURES):
        delays.begin("alice", None, NOW)
    assert delays.begin("alice", None, NOW + FORGOTTEN_AFTER) is None
    assert delays.begin("alice", None, NOW + FORGOTTEN_AFTER) is None


def test_memory_is_bounded_whatever_names_are_tried() -> None:
    delays = LoginDelays()
    for number in range(KEPT + 10):
        delays.begin(f"{number}", None, NOW)
    assert len(delays._failures) == KEPT
    assert len(login_delays._key("account", "x" * 8000)) == 16


def test_the_addresses_of_one_ipv6_network_are_one_client() -> None:
    delays = LoginDelays()
    for number in range(FREE_FAILURES_OF_ADDRESS):
        assert delays.begin(f"user{number}", f"2001:db8:1:1::{number + 1:x}", NOW) is None
    assert delays.begin("alice", "2001:db8:1:1::ffff", NOW) == SECOND
    assert delays.begin("alice", "2001:db8:1:2::1", NOW) is None


def test_a_clock_that_is_put_back_delays_nobody() -> None:
    delays = LoginDelays()
    for _ in range(FREE_FAILURES):
        delays.begin("alice", None, NOW)
    assert delays.begin("alice", None, NOW) == SECOND
    assert delays.begin("alice", None, NOW - timedelta(days=1)) is None
