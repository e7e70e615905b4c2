"""RoleThread: a thread that repeats one piece of work in one process of the host at a time."""

import threading
from abc import ABC, abstractmethod

import structlog

from cache.runtime.locks import ProcessRole
from cache.sqlite import DatabaseUnusable

log = structlog.get_logger()


class RoleThread(ABC):
    """Repeats `step` while this process has the role; other processes try to take it over until it ends.

    `interval`: seconds between two attempts without the role, and after a failure. Failures are logged as
    `<name>_failed` and never end the thread.
    """

    def __init__(self, name: str, role: ProcessRole, interval: float) -> None:
        self.stopped = threading.Event()
        self._name = name
        self._role = role
        self._interval = interval
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop the thread, wait for the end of its step, and leave the role."""
        self.stopped.set()
        self._thread.join()
        self._role.leave()

    @abstractmethod
    def step(self) -> float:
        """Do the work once; return the seconds until the next step. A long step ends early once `stopped` is set."""

    def _run(self) -> None:
        delay = 0.0
        while not self.stopped.wait(delay):
            delay = self._interval
            try:
                if self._role.take():
                    delay = self.step()
            except (DatabaseUnusable, OSError) as error:
                log.warning(f"{self._name}_failed", reason=str(error))
            except Exception:  # a thread's last resort: the work would silently never be done again
                log.exception(f"{self._name}_failed")
