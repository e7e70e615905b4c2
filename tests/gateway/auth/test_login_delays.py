"""Delays of password logins after failures."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.auth import login_delays
from gateway.auth.login_delays import (
    FORGOTTEN_AFTER,
    FREE_FAILURES,
    FREE_FAILURES_EVERYWHERE,
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


@pytest.mark.parametrize("unlike", ["10.0.0.2", "2001:db8:1:2::1"])
def test_a_stranger_elsewhere_keeps_nobody_out_however_long_it_tries(unlike: str) -> None:
    delays, now = LoginDelays(), NOW
    for _ in range(3 * FREE_FAILURES_EVERYWHERE):
        now += delays.begin("alice", "10.0.0.1", now) or timedelta(0)
    delays.begin("alice", "10.0.0.1", now)
    assert delays.find_wait("alice", "10.0.0.1", now) == LONGEST_DELAY
    assert delays.begin("alice", unlike, now) is None


def test_a_few_addresses_do_not_add_up_over_hours() -> None:
    """Each rests until its own failures are forgotten."""
    delays, now = LoginDelays(), NOW
    for number in range(FREE_FAILURES_EVERYWHERE):
        for _ in range(FREE_FAILURES):
            assert delays.begin("alice", f"10.0.0.{number % 5}", now) is None
        now += FORGOTTEN_AFTER / 4
    assert delays.begin("alice", "10.0.1.1", now) is None


def test_many_addresses_together_delay_an_account_but_where_it_logged_in_before() -> None:
    delays = LoginDelays()
    assert delays.begin("alice", "10.0.0.1", NOW) is None
    delays.succeed("alice", "10.0.0.1")
    for number in range(FREE_FAILURES_EVERYWHERE):
        assert delays.begin("alice", f"192.0.2.{number // FREE_FAILURES}", NOW) is None
    assert delays.begin("alice", "10.0.0.2", NOW) == SECOND
    assert delays.begin("bob", "10.0.0.2", NOW) is None
    for _ in range(FREE_FAILURES):
        assert delays.begin("alice", "10.0.0.1", NOW) is None
    assert delays.begin("alice", "10.0.0.1", NOW) == SECOND


@pytest.mark.parametrize("address", [None, "127.0.0.1", "::1"])
def test_where_the_address_tells_nobody_apart_failures_delay_the_account(address: str | None) -> None:
    delays = LoginDelays()
    for _ in range(FREE_FAILURES):
        assert delays.begin("alice", address, NOW) is None
    assert delays.begin("alice", address, NOW) == SECOND


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
