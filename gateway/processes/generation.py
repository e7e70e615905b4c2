"""Generation: the workers that were forked with the same settings, and how far they are from their end."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gateway.processes.worker import GRACE_SECONDS, HURRY, RETIRE, STOP

LAST_SECONDS = 5.0
"""Time beyond the grace, for closing databases and files."""


@dataclass(frozen=True, slots=True)
class WorkerSlotStart:
    """The pool's part of a worker's start: the number of its place among all processes of the server, which the
    replacement of a dead worker takes over, and the descriptor for its report."""

    place: int
    report: int


@dataclass(frozen=True, slots=True)
class GenerationPlan:
    """What the workers of a generation do.

    `work` is called in the process of each, and returns its exit status. In the process that forks, `serving` is called
    when the first of them serves, `failed` with the reason if none of them does. It raises an error where nobody else
    serves either.
    """

    work: Callable[[WorkerSlotStart], int]
    serving: Callable[[], None]
    failed: Callable[[str], None]


@dataclass(slots=True)
class Slot:
    """The slot of one worker; `pid` and `report` are those of its current worker, if there is one."""

    place: int
    pid: int | None = None
    report: int = -1
    received: bytes = b""
    ready_at: float | None = None
    deaths: int = 0
    used_before: bool = False
    due: float = 0.0


class Generation:
    """Workers with the same plan. `number`: of those alive at the same time, no two have the same."""

    def __init__(self, number: int, count: int, plan: GenerationPlan) -> None:
        self.number = number
        self.plan = plan
        self.slots = [Slot(number * count + each) for each in range(count)]
        self.ever_ready = False
        self.early_deaths = 0
        self.deadline: float | None = None
        """When those that are left are killed; None while they may take as long as they need."""
        self._hurried = False

    def working(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.pid is not None]

    def pids(self) -> list[int]:
        return [slot.pid for slot in self.slots if slot.pid is not None]

    def retire(self) -> None:
        """Have them accept no more connections, and end when they have served those they have."""
        self.signal(RETIRE)

    def end(self) -> None:
        """Have them end within the grace of a stop; no effect on those that were told so before."""
        if self.deadline is None:
            self.deadline = time.monotonic() + GRACE_SECONDS + LAST_SECONDS
            self.signal(STOP)

    def hurry(self) -> None:
        """Have them end at once; no effect if they were told so before."""
        if not self._hurried:
            self._hurried = True
            self.deadline = time.monotonic() + LAST_SECONDS
            self.signal(HURRY)

    def signal(self, number: signal.Signals | int) -> None:
        for pid in self.pids():
            os.kill(pid, number)


def free_number(alive: Iterator[Generation], most: int) -> int | None:
    """Find a number below `most` that no generation has; None if each is taken."""
    taken = {generation.number for generation in alive}
    return next((number for number in range(most) if number not in taken), None)
