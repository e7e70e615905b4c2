"""WorkerPool: keeps a number of workers alive, by fork; it has no event loop and no threads, so that fork is safe."""

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import structlog

from gateway.processes.generation import Generation, GenerationPlan, Slot, WorkerSlotStart, free_number
from gateway.processes.worker import GRACE_SECONDS, HURRY, IGNORED, READY, RETIRE, STOP

log = structlog.get_logger()

SETTLED_SECONDS = 1.0
"""A worker that has served for this long did not fail at its start."""

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 30.0
ATTEMPTS = 3
"""After this many deaths before any worker was ready, the pool gives up."""

KEPT_GENERATIONS = 2
"""How many generations of workers before the current one may serve for as long as they need."""

GENERATIONS = KEPT_GENERATIONS + 2
"""How many generations are alive at most: beside the current one and these, one that starts or ends."""

_TERMINAL_SIGNALS = (signal.SIGINT, signal.SIGQUIT)
"""Signals that a terminal sends to all processes; only the parent acts on them."""

_STOP_SIGNALS = (signal.SIGTERM, *_TERMINAL_SIGNALS)
FORK_PAUSE_SECONDS = 1.0
_HANDLED_SIGNALS = (*_STOP_SIGNALS, signal.SIGCHLD, signal.SIGHUP)


def pause_after(deaths: int) -> float:
    """Compute the seconds to wait after this many deaths in a row at the start; the first is replaced at once."""
    return 0.0 if deaths <= 1 else min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(deaths - 2, 20))


class WorkerPool:
    """A fixed number of workers that serve; one that dies is replaced.

    On SIGHUP others are forked by another plan. When the first of them serves, those before retire: they accept no more
    connections, and end when they have served those they have.
    """

    def __init__(
        self,
        count: int,
        plan: GenerationPlan,
        *,
        changed: Callable[[Sequence[int]], None],
        replaced: Callable[[], None],
        died: Callable[[int], None],
        reload: Callable[[], GenerationPlan | None],
        stopping: Callable[[], None],
    ) -> None:
        """All are called in this process: `changed` with the pids of the workers that serve after each start and end,
        `died` with the place of a dead worker, `replaced` when another starts there, `reload` for the plan of the next
        workers, None for none, `stopping` when no more connections are to be accepted."""
        self._count = count
        self._changed = changed
        self._replaced = replaced
        self._died = died
        self._reload = reload
        self._stopping = stopping
        self._current: Generation | None = None
        self._next: Generation | None = Generation(0, count, plan)
        self._older: list[Generation] = []
        self._reload_wanted = False
        self._stop_begun = False

    def run(self) -> None:
        """Run until SIGTERM, SIGINT or SIGQUIT has arrived and every worker has ended. Raises as a failed plan does."""
        try:
            with _signals() as (wakeups, close):
                self._close_wakeups = close
                while not self._stop_begun or self._working():
                    if not self._stop_begun:
                        self._begin_reload()
                        self._start_due_workers()
                    readable = _wait([wakeups, *(slot.report for slot in self._working())], self._timeout())
                    self._read_reports(readable)
                    arrived = os.read(wakeups, 4096) if wakeups in readable else b""
                    self._reap()
                    self._obey(arrived)
        finally:
            for generation in self._alive():
                generation.signal(signal.SIGKILL)
            for slot in self._working():
                if slot.pid is not None:
                    os.waitpid(slot.pid, 0)

    def _alive(self) -> Iterator[Generation]:
        yield from self._older
        yield from (each for each in (self._current, self._next) if each is not None)

    def _filled(self) -> list[Generation]:
        """The generations whose dead workers are replaced."""
        return [each for each in (self._current, self._next) if each is not None and not self._stop_begun]

    def _working(self) -> list[Slot]:
        return [slot for generation in self._alive() for slot in generation.working()]

    def _obey(self, arrived: bytes) -> None:
        """Do what signals demand, and kill workers that have not ended in time."""
        if any(number in _STOP_SIGNALS for number in arrived):
            self._stop()
            return
        if signal.SIGHUP in arrived:
            self._reload_wanted = True
            if free_number(self._alive(), GENERATIONS) is None:
                log.info("reload_waits", reason="workers of earlier settings are still ending")
        for generation in self._alive():
            if generation.deadline is not None and time.monotonic() > generation.deadline:
                generation.signal(signal.SIGKILL)

    def _timeout(self) -> float | None:
        """Compute the seconds until there is something to do; None: until something happens."""
        now = time.monotonic()
        times = [slot.due for generation in self._filled() for slot in generation.slots if slot.pid is None]
        times += [max(each.deadline, now + 0.1) for each in self._alive() if each.deadline is not None]
        return max(0.0, min(times) - now) if times else None

    def _begin_reload(self) -> None:
        """Plan the next generation if one is wanted, once the last one serves and there is a place for it."""
        if not self._reload_wanted or self._next is not None:
            return
        number = free_number(self._alive(), GENERATIONS)
        if number is None:
            return
        self._reload_wanted = False
        if (plan := self._reload()) is not None:
            self._next = Generation(number, self._count, plan)

    def _take_over(self, generation: Generation) -> None:
        """Let a generation serve in place of the one before."""
        before, self._current, self._next = self._current, generation, None
        if before is not None:
            self._retire(before)
        generation.plan.serving()
        self._report_pids()

    def _retire(self, generation: Generation) -> None:
        """Let a generation complete what it serves; of too many of them, let the oldest end."""
        generation.retire()
        self._older.append(generation)
        unlimited = [each for each in self._older if each.deadline is None]
        if len(unlimited) > KEPT_GENERATIONS:
            log.warning(
                "old_workers_end",
                pids=unlimited[0].pids(),
                reason=f"they still serve after {len(unlimited)} reloads",
                grace=f"{GRACE_SECONDS:.0f} s",
            )
            unlimited[0].end()

    def _start_due_workers(self) -> None:
        due = [
            (generation, slot)
            for generation in self._filled()
            for slot in generation.slots
            if slot.pid is None and slot.due <= time.monotonic()
        ]
        for generation, slot in due:
            self._start(generation, slot)
        if due:
            self._report_pids()

    def _start(self, generation: Generation, slot: Slot) -> None:
        """Fork a worker; if the machine has no process or descriptor left, try again soon while the others serve."""
        try:
            reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            self._postpone(slot, error)
            return
        start = WorkerSlotStart(slot.place, writing)
        sys.stdout.flush()
        sys.stderr.flush()
        # A signal between the fork and the worker's own handlers must not be lost to ours.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [*_HANDLED_SIGNALS, HURRY, RETIRE])
        try:
            pid = os.fork()
            if pid == 0:
                foreign = [reading, *(other.report for other in self._working())]
                self._become_worker(generation.plan, start, foreign, before)
        except OSError as error:
            os.close(reading)
            self._postpone(slot, error)
            return
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(writing)
        slot.pid, slot.report, slot.received, slot.ready_at = pid, reading, b"", None
        if slot.used_before:
            self._replaced()
        slot.used_before = True

    def _postpone(self, slot: Slot, error: OSError) -> None:
        slot.due = time.monotonic() + FORK_PAUSE_SECONDS
        log.error("worker_not_started", reason=error.strerror, remedy="raise the limits of processes and descriptors")

    def _become_worker(
        self, plan: GenerationPlan, start: WorkerSlotStart, foreign: Sequence[int], mask: set[int]
    ) -> None:
        """Run the worker and exit: the frames below belong to the parent."""
        status = 1
        try:
            self._close_wakeups()
            for descriptor in foreign:
                os.close(descriptor)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for foreign_signal in (*_TERMINAL_SIGNALS, *IGNORED):
                signal.signal(foreign_signal, signal.SIG_IGN)
            for own_signal in (STOP, HURRY, RETIRE):
                signal.signal(own_signal, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            status = plan.work(start)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)

    def _read_reports(self, readable: set[int]) -> None:
        for generation in list(self._alive()):
            for slot in generation.working():
                if slot.report in readable:
                    self._read_report(generation, slot)

    def _read_report(self, generation: Generation, slot: Slot) -> None:
        with suppress(BlockingIOError):
            slot.received += os.read(slot.report, 4096)
        if slot.ready_at is None and slot.received.startswith(READY):
            slot.ready_at = time.monotonic()
            generation.ever_ready = True
            if generation is self._next:
                self._take_over(generation)

    def _reap(self) -> None:
        ended = False
        for generation in list(self._alive()):
            for slot in generation.working():
                pid, status = os.waitpid(slot.pid or 0, os.WNOHANG)
                if not pid:
                    continue
                ended = True
                self._read_report(generation, slot)
                os.close(slot.report)
                slot.pid, slot.report = None, -1
                self._died(slot.place)
                if generation in self._filled():
                    self._plan_replacement(generation, slot, pid, _ending(status))
        self._older = [generation for generation in self._older if generation.working()]
        if ended and not self._stop_begun:
            self._report_pids()

    def _plan_replacement(self, generation: Generation, slot: Slot, pid: int, ended: str) -> None:
        """Decide when the slot of a dead worker is filled again. Raises as `_give_up` does."""
        now = time.monotonic()
        reason = slot.received.removeprefix(READY).decode(errors="replace").strip()
        if not generation.ever_ready:
            generation.early_deaths += 1
            if not reason and generation.early_deaths >= ATTEMPTS:
                reason = f"no worker became ready; the last one ended by {ended}: see the log above"
            if reason:
                self._give_up(generation, reason)
                return
        settled = slot.ready_at is not None and now - slot.ready_at >= SETTLED_SECONDS
        slot.deaths = 0 if settled else slot.deaths + 1
        pause = pause_after(slot.deaths)
        slot.due = now + pause
        fields = {"pid": pid, "ended_by": ended} | ({"reason": reason} if reason else {})
        if pause:
            log.error("worker_dies_at_start", **fields, times_in_a_row=slot.deaths, next_start_in=f"{pause:.1f} s")
        else:
            log.warning("worker_died", **fields, next_start_in="0 s")

    def _give_up(self, generation: Generation, reason: str) -> None:
        """End a generation of which no worker serves; the one before continues. Raises what the plan raises then."""
        generation.plan.failed(reason)
        self._next = None
        self._older.append(generation)
        generation.end()

    def _stop(self) -> None:
        """Stop the workers, gracefully at the first call, at once at the second."""
        if self._stop_begun:
            for generation in self._alive():
                generation.hurry()
            return
        self._stop_begun = True
        self._stopping()
        for generation in self._alive():
            generation.end()

    def _report_pids(self) -> None:
        serving = self._current or self._next
        self._changed(serving.pids() if serving else [])


@contextmanager
def _signals() -> Iterator[tuple[int, Callable[[], None]]]:
    """Open a descriptor from which the numbers of signals can be read, and a function that closes it in a child."""
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def close() -> None:
        signal.set_wakeup_fd(-1)
        os.close(reading)
        os.close(writing)

    before = {number: signal.signal(number, lambda *_: None) for number in _HANDLED_SIGNALS}
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    # One may have waited since before the settings were read.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    try:
        yield reading, close
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        close()
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(descriptors: Sequence[int], seconds: float | None) -> set[int]:
    """Wait for descriptors that can be read or are closed at the other end; None waits without limit."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(None if seconds is None else seconds * 1000 + 1)}


def _ending(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"signal {-code}" if code < 0 else f"exit status {code}"
