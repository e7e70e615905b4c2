"""Logins with a password: joined when they come at the same time, delayed after failures, never when remembered."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from cache.oci.errors import TooManyRequests
from gateway.auth.login_delays import FREE_FAILURES, LoginDelays
from gateway.auth.password_logins import PasswordLogins
from gateway.auth.passwords import Passwords, hash_password
from gateway.namespaces.user import User

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ALICE = User(1, "alice", None, False, False, False, hash_password("right"), NOW, NOW)


class Bench:
    """Logins at a time that a test moves."""

    def __init__(self) -> None:
        self.now = NOW
        self.passwords = Passwords(2)
        self.logins = PasswordLogins(self.passwords, LoginDelays(), lambda: self.now)

    async def log_in(self, password: str, user: User | None = ALICE) -> bool:
        return await self.logins.log_in(user, "alice", password, None)

    async def fail(self, user: User | None = ALICE) -> None:
        for number in range(FREE_FAILURES):
            assert not await self.log_in(f"wrong{number}", user)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.logins.close()


@pytest.mark.parametrize("user", [ALICE, None])
async def test_failures_delay_the_account_whether_it_exists_or_not(bench: Bench, user: User | None) -> None:
    await bench.fail(user)
    with pytest.raises(TooManyRequests, match="try again after 1 s") as refused:
        await bench.log_in("right", user)
    assert refused.value.headers["Retry-After"] == "1"
    bench.now += timedelta(seconds=1)
    assert await bench.log_in("right", user) is (user is ALICE)


async def test_a_remembered_success_is_never_delayed(bench: Bench) -> None:
    assert await bench.log_in("right")
    await bench.fail()
    with pytest.raises(TooManyRequests):
        await bench.log_in("another")
    assert await bench.log_in("right")


async def test_requests_of_one_client_at_once_are_one_attempt(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        await asyncio.gather(*(bench.log_in("right") for _ in range(3 * FREE_FAILURES))) == [True] * 3 * FREE_FAILURES
    )


async def test_passwords_tried_at_once_are_as_many_attempts(bench: Bench) -> None:
    tried = (bench.log_in(f"wrong{number}") for number in range(3 * FREE_FAILURES))
    ended = await asyncio.gather(*tried, return_exceptions=True)
    assert ended.count(False) == FREE_FAILURES
    assert sum(isinstance(end, TooManyRequests) for end in ended) == 2 * FREE_FAILURES


async def test_a_client_that_leaves_does_not_take_the_verification_from_the_others(bench: Bench) -> None:
    first, second = (asyncio.ensure_future(bench.log_in("right")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second
    assert first.cancelled()


async def test_a_login_that_finds_no_room_is_no_failure() -> None:
    passwords = Passwords(1, queue_limit=1)
    logins = PasswordLogins(passwords, LoginDelays(), lambda: NOW)
    try:
        other = asyncio.ensure_future(logins.log_in(None, "mallory", "guess", None))
        await asyncio.sleep(0)
        for _ in range(3 * FREE_FAILURES):
            with pytest.raises(TooManyRequests, match="at the same time"):
                await logins.log_in(ALICE, "alice", "right", None)
        assert not await other
        assert await logins.log_in(ALICE, "alice", "right", None)
    finally:
        logins.close()
