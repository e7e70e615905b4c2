"""Keys of an issuer as a process knows them: what is fetched when, and what goes on while it cannot be."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from cache.runtime.tasks import Tasks
from gateway.oidc.errors import IdTokenRefused, IssuerUnusable
from gateway.oidc.key_set import FRESH, KEPT, PAUSE, IssuerKeys
from gateway.oidc.keys import KeySet, parse_key_set
from tests.parts.issuer import SigningKeyOfTests

SETS = {
    id: parse_key_set(json.dumps({"keys": [SigningKeyOfTests(id).document]}).encode()) for id in ("first", "second")
}


class Bench:
    """An issuer whose answer a test sets, and a clock that it moves."""

    def __init__(self, tasks: Tasks) -> None:
        self.now = 1000.0
        self.fetched = 0
        self.answer: KeySet | None = SETS["first"]
        self.gate = asyncio.Event()
        self.gate.set()
        self.renewed = asyncio.Event()
        self.keys = IssuerKeys("ci", self._fetch, tasks, lambda: self.now, patience=0.2)

    async def _fetch(self) -> KeySet:
        self.fetched += 1
        await self.gate.wait()
        if self.fetched > 1:
            self.renewed.set()
        if self.answer is None:
            raise IssuerUnusable("it is down")
        return self.answer


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    tasks = Tasks()
    yield Bench(tasks)
    await tasks.close()


async def test_keys_are_fetched_once_for_all_that_need_them(bench: Bench) -> None:
    bench.gate.clear()
    waiting = [asyncio.ensure_future(bench.keys.find("first")) for _ in range(5)]
    await asyncio.sleep(0)
    bench.gate.set()
    assert {key.id for key in await asyncio.gather(*waiting)} == {"first"}
    assert (await bench.keys.find("first")).id == "first"
    assert bench.fetched == 1


async def test_an_unknown_key_is_looked_for_but_not_too_often(bench: Bench) -> None:
    await bench.keys.find("first")
    for _ in range(5):
        with pytest.raises(IdTokenRefused, match="does not have"):
            await bench.keys.find("second")
    assert bench.fetched == 1
    bench.answer = SETS["second"]
    bench.now += PAUSE
    assert (await bench.keys.find("second")).id == "second"
    assert bench.fetched == 2
    with pytest.raises(IdTokenRefused):  # the issuer has taken it back
        await bench.keys.find("first")


async def test_a_key_that_is_not_fresh_is_used_and_looked_for_beside(bench: Bench) -> None:
    await bench.keys.find("first")
    bench.now += FRESH + 1
    bench.answer = SETS["second"]
    assert (await bench.keys.find("first")).id == "first"
    async with asyncio.timeout(5):
        await bench.renewed.wait()
    await asyncio.sleep(0)
    assert (await bench.keys.find("second")).id == "second"


async def test_known_keys_go_on_for_a_day_while_the_issuer_is_down(bench: Bench) -> None:
    await bench.keys.find("first")
    bench.answer = None
    bench.now += KEPT
    assert (await bench.keys.find("first")).id == "first"
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    bench.now += PAUSE + 1
    with pytest.raises(IssuerUnusable, match="it is down"):
        await bench.keys.find("first")
    with pytest.raises(IssuerUnusable, match="cannot be fetched"):
        await bench.keys.find("first")
    bench.answer = SETS["first"]
    bench.now += PAUSE
    assert (await bench.keys.find("first")).id == "first"


async def test_nobody_waits_for_an_issuer_that_stalls(bench: Bench) -> None:
    bench.gate.clear()
    for _ in range(3):
        with pytest.raises(IssuerUnusable, match="in time"):
            await bench.keys.find("first")
    assert bench.fetched == 1
    bench.gate.set()
    assert (await bench.keys.find("first")).id == "first"
