"""The thread that collects: what it tells, and when it looks again."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from cache.runtime.locks import ProcessRole
from cache.sqlite import DatabaseUnusable
from gateway.registry.collecting import FAILED_SECONDS, CollectorThread
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
