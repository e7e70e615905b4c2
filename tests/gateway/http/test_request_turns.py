"""RequestTurns: how many requests a turn of the event loop begins, and whose turn it is."""

import asyncio
from ipaddress import ip_address
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from cache.runtime.fair_queue import Requester
from cache.runtime.on_behalf import current_requester
from gateway.http.request_turns import LONG_TURN, RequestTurns


class Crowd:
    """Requests that come in one turn of the event loop; `begun`: the address and path of each, as they begin."""

    def __init__(self, most: int, seconds: float = 0.0) -> None:
        """`seconds`: how long each request takes of the turn in which it begins."""
        self.begun: list[tuple[str, str]] = []
        self.requesters: list[Requester] = []
        self.expected = 0
        self.seconds = seconds
        self.now = 0.0
        self.turns = RequestTurns(self._app, lambda path: path.split("/")[1], most, lambda: self.now)
        self.held, self.all_begun = asyncio.Event(), asyncio.Event()

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.begun.append((scope["client"][0], scope["path"]))
        self.requesters.append(current_requester())
        self.now += self.seconds
        if len(self.begun) == self.expected:
            self.all_begun.set()
        await self.held.wait()

    def come(self, address: str, path: str = "/v2/x", count: int = 1) -> list["asyncio.Task[None]"]:
        nothing: Any = None
        self.expected += count
        scope = {"type": "http", "path": path, "client": (address, 1)}
        return [asyncio.create_task(self.turns(scope, nothing, nothing)) for _ in range(count)]

    async def end(self, tasks: list["asyncio.Task[None]"]) -> None:
        self.held.set()
        await asyncio.gather(*tasks)


async def test_a_client_with_many_requests_leaves_the_next_turn_to_another() -> None:
    crowd = Crowd(most=2)
    tasks = crowd.come("10.0.0.1", count=200) + crowd.come("10.0.0.2")
    await crowd.end(tasks)
    assert crowd.begun.index(("10.0.0.2", "/v2/x")) <= 3
    assert len(crowd.begun) == 201


async def test_a_client_that_changes_its_address_within_a_network_is_one() -> None:
    crowd = Crowd(most=2)
    tasks = [crowd.come(str(ip_address("2001:db8::") + number))[0] for number in range(200)]
    await crowd.end(tasks + crowd.come("2001:db8:1::1"))
    assert crowd.begun.index(("2001:db8:1::1", "/v2/x")) <= 3
    assert len(set(crowd.requesters)) == 2


async def test_a_flood_of_one_kind_leaves_the_next_turn_to_another_kind() -> None:
    crowd = Crowd(most=2)
    await crowd.end(crowd.come("127.0.0.1", "/jwt/auth", 200) + crowd.come("127.0.0.1", "/-/ready"))
    assert crowd.begun.index(("127.0.0.1", "/-/ready")) <= 3


async def test_requests_that_wait_themselves_hold_up_nobody() -> None:
    crowd = Crowd(most=2)
    tasks = crowd.come("10.0.0.1", count=50)
    async with asyncio.timeout(10):
        await crowd.all_begun.wait()
    await crowd.end(tasks)


async def test_a_request_that_ends_while_it_waits_takes_no_turn() -> None:
    crowd = Crowd(most=1)
    tasks = crowd.come("10.0.0.1", count=3)
    await asyncio.sleep(0)
    tasks[1].cancel()
    crowd.held.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(crowd.begun) == 2


@pytest.mark.parametrize(("seconds", "most"), [(0.0, [16] * 6), (LONG_TURN, [16, 8, 4, 2, 1, 1])])
async def test_after_a_long_turn_the_next_one_begins_half_as_many(
    monkeypatch: pytest.MonkeyPatch, seconds: float, most: list[int]
) -> None:
    turns: list[int] = []
    crowd = Crowd(16, seconds)
    end = RequestTurns._end_turn

    def note_turn(these: RequestTurns) -> None:
        turns.append(these._begun)
        end(these)

    monkeypatch.setattr(RequestTurns, "_end_turn", note_turn)
    await crowd.end(crowd.come("10.0.0.1", count=100))
    assert turns[:6] == most
    assert len(crowd.begun) == 100
