"""CollectorThread: the thread that collects, in one process of the host at a time."""

import time
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from cache.oci.errors import StoreUnavailable
from cache.retention.role_thread import RoleThread
from cache.runtime.locks import ProcessRole
from cache.sqlite import DatabaseUnusable
from gateway.registry.collector import Collected, CollectionStopped

log = structlog.get_logger()

FAILED_SECONDS = 30.0
"""How long at least it waits after a failure, such as a database that does not respond."""

REMIND_SECONDS = 3600.0
"""How often it says that nothing is collected: disks fill meanwhile."""

Run = Callable[[Coroutine[Any, Any, Collected]], Collected]
"""Runs a coroutine on the event loop of the collector, and waits for its end."""


class CollectorThread(RoleThread):
    """Collects at intervals, and without a pause while more is due."""

    def __init__(
        self,
        collect: Callable[[], Coroutine[Any, Any, Collected]],
        run: Run,
        role: ProcessRole,
        interval: float,
        collected: Callable[[Collected], None],
        stopped: Callable[[bool], None],
    ) -> None:
        """`collect`: one step of a collector. `interval`: seconds. `collected` is called with what each step did, and
        `stopped` with whether nothing is collected, in the thread."""
        super().__init__("collection", role, interval)
        self._collect = collect
        self._run_on_loop = run
        self._collected = collected
        self._note_stop = stopped
        self._reason: str | None = None
        self._told_at = 0.0

    def step(self) -> float:
        """Collect a page; return the seconds until the next step."""
        try:
            done = self._run_on_loop(self._collect())
        except CollectionStopped as error:
            if str(error) != self._reason or time.monotonic() - self._told_at >= REMIND_SECONDS:
                log.warning("collection_stopped", reason=str(error), asks=error.asks)
                self._told_at = time.monotonic()
            self._reason = str(error)
            self._note_stop(True)
            return self._interval
        except (StoreUnavailable, DatabaseUnusable, OSError) as error:
            log.warning("collection_failed", reason=str(error))
            return max(self._interval, FAILED_SECONDS)
        if self._reason is not None:
            log.info("collection_goes_on")
            self._reason = None
            self._note_stop(False)
        self._collected(done)
        return 0.0 if done.has_more else self._interval
