"""CleanupThread: the thread that runs cleanup policies, in one process of the host at a time."""

import time
from collections.abc import Callable, Coroutine
from typing import Any

from cache.retention.role_thread import RoleThread
from cache.runtime.locks import ProcessRole
from gateway.registry.cleaner import REST

LOOK_SECONDS = 10.0
"""Seconds between two looks for policies that are due."""

RunStep = Callable[[Coroutine[Any, Any, bool]], bool]
"""Runs a coroutine on the event loop of the cleaner, and waits for its end."""


class CleanupThread(RoleThread):
    """Looks at intervals for policies that are due, and runs them with rests between their batches."""

    def __init__(
        self,
        clean: Callable[[], Coroutine[Any, Any, bool]],
        run: RunStep,
        role: ProcessRole,
        interval: float = LOOK_SECONDS,
    ) -> None:
        """`clean`: one step of a cleaner; it tells whether there may be more to do."""
        super().__init__("cleanup", role, interval)
        self._clean = clean
        self._run_on_loop = run

    def step(self) -> float:
        """Do a part of what is due; return the seconds until the next step."""
        began = time.monotonic()
        if not self._run_on_loop(self._clean()):
            return self._interval
        return (time.monotonic() - began) * REST / (1 - REST)
