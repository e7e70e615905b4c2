"""Logins with a password: joined when they come at the same time, delayed after failures, never when remembered."""

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cache.oci.errors import TooManyRequests
from gateway.auth import passwords as module
from gateway.auth.login_delays import FREE_FAILURES, LoginDelays
from gateway.auth.password_logins import RETRY_AFTER, PasswordLogins
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


class Held:
    """Logins of peers, one verification at a time, each of which waits until it is released."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **limits: Any) -> None:
        self.verified: list[str] = []
        self.release = threading.Event()
        monkeypatch.setattr(module, "matches", self._match)
        self.logins = PasswordLogins(Passwords(1), LoginDelays(), lambda: NOW, **limits)

    def _match(self, stored: str, password: str) -> bool:
        self.release.wait(30)
        self.verified.append(password)
        return password == "right"

    async def begin(self, name: str, password: str, peer: str, user: User | None = None) -> "asyncio.Future[bool]":
        """Begin a login, as far as it comes without a verification."""
        begun = asyncio.ensure_future(self.logins.log_in(user, name, password, None, peer))
        for _ in range(3):
            await asyncio.sleep(0)
        return begun

    async def flood(self, count: int, peer: str = "192.0.2.1") -> "list[asyncio.Future[bool]]":
        return [await self.begin(f"invented{number}", f"guess{number}", peer) for number in range(count)]


def refusals(logins: "list[asyncio.Future[bool]]") -> int:
    return sum(login.done() and isinstance(login.exception(), TooManyRequests) for login in logins)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    made = Held(monkeypatch, queue_length=8)
    yield made
    made.release.set()
    made.logins.close()


async def test_a_peer_with_many_logins_waits_behind_its_own(held: Held) -> None:
    flood = await held.flood(9)
    alice = await held.begin("alice", "right", "192.0.2.2", ALICE)
    assert refusals(flood) == 1
    held.release.set()
    assert await alice
    assert held.verified.index("right") <= 2
    await asyncio.gather(*flood, return_exceptions=True)


async def test_the_surplus_of_whoever_has_most_is_refused(held: Held) -> None:
    others = [await held.begin("bob", f"b{number}", f"192.0.2.{number}") for number in range(2, 5)]
    flood = await held.flood(50)
    assert (refusals(flood), refusals(others)) == (50 - 6, 0)
    assert refusals([await held.begin("invented", "more", "192.0.2.1")]) == 1
    held.release.set()
    assert await asyncio.gather(*others) == [False] * 3
    await asyncio.gather(*flood, return_exceptions=True)


async def test_the_networks_of_one_site_are_one_group(held: Held) -> None:
    flood = [await held.begin("mallory", f"m{number}", f"2001:db8:0:{number:x}::1") for number in range(9)]
    alice = await held.begin("alice", "right", "2001:db8:1::1", ALICE)
    assert refusals(flood) == 1
    held.release.set()
    assert await alice
    assert held.verified.index("right") <= 2
    await asyncio.gather(*flood, return_exceptions=True)


async def test_a_login_that_finds_no_room_is_no_failure(held: Held) -> None:
    flood = await held.flood(9)
    tries = [await held.begin("alice", f"wrong{number}", "192.0.2.1", ALICE) for number in range(3 * FREE_FAILURES)]
    assert refusals(tries) == len(tries)
    refused = tries[0].exception()
    assert isinstance(refused, TooManyRequests)
    assert "at the same time" in str(refused.detail)
    held.release.set()
    await asyncio.gather(*flood)
    assert await held.logins.log_in(ALICE, "alice", "right", None)


async def test_a_login_waits_no_longer_than_clients_do(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch, longest_wait=0.05)
    try:
        first, second = await held.flood(2)
        with pytest.raises(TooManyRequests, match="waited too long") as refused:
            await asyncio.wait_for(second, 30)
        assert refused.value.headers["Retry-After"] == str(RETRY_AFTER)
        held.release.set()
        assert not await first
        assert held.verified == ["guess0"]
    finally:
        held.release.set()
        held.logins.close()


async def test_a_login_of_many_peers_is_verified_once(held: Held) -> None:
    flood = await held.flood(3)
    fleet = [await held.begin("alice", "right", f"192.0.2.{number}", ALICE) for number in range(2, 100)]
    held.release.set()
    assert await asyncio.gather(*fleet) == [True] * len(fleet)
    assert held.verified.count("right") == 1
    await asyncio.gather(*flood, return_exceptions=True)


async def test_logins_that_wait_end_with_the_server(held: Held) -> None:
    flood = await held.flood(3)
    held.logins.close()
    held.release.set()
    ended = await asyncio.gather(*flood, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ended)
