"""NotifierThread: the thread that lets a notifier work, in one process of the host at a time."""

import time
from collections.abc import Callable, Coroutine
from typing import Any

from cache.retention.role_thread import RoleThread
from cache.runtime.locks import ProcessRole

LOOK_SECONDS = 1.0
"""Seconds between two looks for events and deliveries that are due."""
TRIM_SECONDS = 3600.0

Run = Callable[[Coroutine[Any, Any, Any]], Any]
"""Runs a coroutine on the event loop of the notifier, and waits for its end."""


class NotifierThread(RoleThread):
    """Looks at intervals for what webhooks are to be told of; what is sent meanwhile goes on beside it."""

    def __init__(
        self,
        step: Callable[[], Coroutine[Any, Any, bool]],
        trim: Callable[[], Coroutine[Any, Any, None]],
        run: Run,
        role: ProcessRole,
        interval: float = LOOK_SECONDS,
    ) -> None:
        """`step`, `trim`: those of a notifier."""
        super().__init__("webhooks", role, interval)
        self._step = step
        self._trim = trim
        self._run_on_loop = run
        self._trim_at = 0.0

    def step(self) -> float:
        """Do a part of what is due; return the seconds until the next step."""
        if time.monotonic() >= self._trim_at:
            self._trim_at = time.monotonic() + TRIM_SECONDS
            self._run_on_loop(self._trim())
        return 0.0 if self._run_on_loop(self._step()) else self._interval
