"""Hunt for workers that receive a push: one after another is killed, mostly while an upload is open in it."""

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from tests.parts.gateway import Gateway
from tests.parts.processes import PartFailed

from .ledger import Deed, Done, Ledger
from .workers import receivers, workers

BETWEEN = (1.5, 6.0)
SOUGHT_FOR = 1.0
"""Seconds after which any worker is killed, which may be in one of the short steps of a push."""

LOOKS_EVERY = 0.01


class Hunt:
    """Thread that kills receivers from `start` to `stop`, chosen by `seed`. `kill` ends a worker; False if it had ended
    already."""

    def __init__(self, gateway: Gateway, ledger: Ledger, seed: int, kill: Callable[[int], bool]) -> None:
        self._gateway, self._ledger, self._kill = gateway, ledger, kill
        self._chance, self._ending = random.Random(f"hunt {seed}"), threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._guarded, daemon=True)
        self.kills = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stops the hunt; raises any error of the rig itself."""
        self._ending.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _guarded(self) -> None:
        try:
            self._hunt()
        except BaseException as failure:
            self._failure = failure

    def _hunt(self) -> None:
        while not self._ending.wait(self._chance.uniform(*BETWEEN)):
            found = self._seek()
            begun = time.monotonic()
            if found and self._kill(self._chance.choice(found)):
                self._ledger.did(Done(Deed.KILL, begun, time.monotonic()))
                self.kills += 1

    def _seek(self) -> list[int]:
        """Workers that receive; any worker where none does for a while, and none while the server restarts."""
        deadline = time.monotonic() + SOUGHT_FOR
        with suppress(PartFailed):
            while not (found := receivers(self._gateway)) and time.monotonic() < deadline:
                self._ending.wait(LOOKS_EVERY)
            return found or workers(self._gateway)
        return []
