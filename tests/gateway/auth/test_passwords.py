"""Passwords: hashes, remembered successes, unknown users, and the bound of verifications at a time."""

import asyncio
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gateway.auth import passwords as module
from gateway.auth.passwords import Passwords, hash_password, matches
from gateway.namespaces.user import User

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HASH = hash_password("right")
ALICE = User(1, "alice", None, False, False, False, HASH, NOW, NOW)


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    opened = Passwords(2)
    yield opened
    opened.close()


def test_a_hash_is_argon2id_and_matches_its_password_alone() -> None:
    assert HASH.startswith("$argon2id$")
    assert matches(HASH, "right")
    assert not matches(HASH, "wrong")
    assert not matches("no hash", "right")
    assert matches(hash_password("pä\udcffss"), "pä\udcffss")


async def test_a_success_is_remembered_until_the_password_changes(passwords: Passwords) -> None:
    assert not passwords.remembers(ALICE, "right")
    assert await passwords.begin(ALICE, "right")
    assert passwords.remembers(ALICE, "right")
    assert not passwords.remembers(ALICE, "wrong")
    assert not passwords.remembers(replace(ALICE, id=2), "right")
    assert not passwords.remembers(replace(ALICE, password_hash=hash_password("right")), "right")
    assert not passwords.remembers(replace(ALICE, password_hash=None), "right")


async def test_verifications_give_way_to_the_event_loop(passwords: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def note_priority(_hash: str, _password: str) -> bool:
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return False

    monkeypatch.setattr(module, "matches", note_priority)
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    await passwords.begin(ALICE, "wrong")
    assert seen == [module.NICENESS]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own


async def test_a_failure_is_not_remembered(passwords: Passwords) -> None:
    assert not await passwords.begin(ALICE, "wrong")
    assert not passwords.remembers(ALICE, "wrong")


@pytest.mark.parametrize("user", [None, replace(ALICE, password_hash=None)])
async def test_nobody_has_a_password_and_costs_a_verification_all_the_same(
    passwords: Passwords, user: User | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified: list[str] = []

    def note(stored: str, password: str) -> bool:
        verified.append(stored)
        return True

    monkeypatch.setattr(module, "matches", note)
    assert not await passwords.begin(user, "right")
    assert len(verified) == 1
    assert verified[0].startswith(HASH[: HASH.index("p=")])
    assert not passwords.remembers(user, "right")


async def test_no_more_verifications_run_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    passwords, release, running = Passwords(2), threading.Event(), []
    lock = threading.Lock()
    most = 0

    def wait(stored: str, password: str) -> bool:
        nonlocal most
        with lock:
            running.append(password)
            most = max(most, len(running))
        release.wait(30)
        with lock:
            running.pop()
        return True

    monkeypatch.setattr(module, "matches", wait)
    try:
        begun = [passwords.begin(ALICE, "right") for _ in range(4)]
        release.set()
        assert await asyncio.gather(*begun) == [True] * 4
        assert most <= 2
        assert await passwords.begin(ALICE, "right")
    finally:
        passwords.close()
