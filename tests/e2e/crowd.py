"""Crowd of many concurrent clients."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def at_once(count: int, work: Callable[[int], T]) -> list[T]:
    """Runs `work(number)` in `count` threads that start together; returns the results, raises what any of them
    raised."""
    gate = threading.Barrier(count)

    def begin(number: int) -> T:
        gate.wait(60)
        return work(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(begin, range(count)))
