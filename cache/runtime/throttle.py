"""Seldom: what happens to every blob alike is told once a minute, and not once for each."""

import threading
import time
from collections.abc import Callable

EVERY = 60.0


class Seldom:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[str, float] = {}
        self._lock = threading.Lock()

    def __call__(self, cause: str) -> bool:
        """Whether it is to be told now. Causes are few: kinds of errors, never names."""
        now = self._clock()
        with self._lock:
            if now - self._told.get(cause, -EVERY) < EVERY:
                return False
            self._told[cause] = now
            return True
