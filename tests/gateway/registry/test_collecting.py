"""The thread that collects: what it tells, and when it looks again."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from cache.runtime.locks import ProcessRole
from cache.sqlite import DatabaseUnusable
from gateway.registry import collecting
from gateway.registry.collecting import FAILED_SECONDS, REMIND_SECONDS, CollectorThread
from gateway.registry.collector import Collected, CollectionStopped


def steps(*outcomes: Collected | Exception) -> Callable[[], Coroutine[Any, Any, Collected]]:
    """Steps that return, or raise, one outcome after the other."""
    remaining = iter(outcomes)

    async def step() -> Collected:
        outcome = next(remaining)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return step


def run(coroutine: Coroutine[Any, Any, Collected]) -> Collected:
    return asyncio.run(coroutine)


def test_it_goes_on_while_more_is_due_and_waits_longer_after_a_failure(tmp_path: Path) -> None:
    done: list[Collected] = []
    stops: list[bool] = []
    outcomes = (
        Collected(blobs=1, has_more=True),
        Collected(),
        CollectionStopped("the clock jumped"),
        CollectionStopped("the clock jumped"),
        Collected(),
        DatabaseUnusable("it does not respond"),
        Collected(),
    )
    thread = CollectorThread(steps(*outcomes), run, ProcessRole(tmp_path / "lock"), 5.0, done.append, stops.append)
    assert [thread.step() for _ in outcomes] == [0.0, 5.0, 5.0, 5.0, 5.0, FAILED_SECONDS, 5.0]
    assert [collected.blobs for collected in done] == [1, 0, 0, 0]
    assert stops == [True, True, False]


def test_a_stop_is_told_at_once_and_again_every_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(collecting.time, "monotonic", lambda: now[0])
    stop = CollectionStopped("much was deleted", asks=True)
    outcomes = (stop, stop, CollectionStopped("the clock jumped"), stop, stop, stop)
    thread = CollectorThread(steps(*outcomes), run, ProcessRole(tmp_path / "lock"), 5.0, lambda _: None, lambda _: None)
    told = []
    for elapsed in (0, 1, 1, 1, REMIND_SECONDS - 1, 1):
        now[0] += elapsed
        with capture_logs() as lines:
            thread.step()
        told.append([(line["event"], line["reason"], line["asks"]) for line in lines])
    much, jump = ("collection_stopped", "much was deleted", True), ("collection_stopped", "the clock jumped", False)
    assert told == [[much], [], [jump], [much], [], [much]]
