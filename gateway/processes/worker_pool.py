"""WorkerPool: keeps a number of workers alive, by fork; it has no event loop and no threads, so that fork is safe."""

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import structlog

from gateway.processes.errors import NoWorkerReady
from gateway.processes.worker import GRACE_SECONDS, HURRY, READY, STOP

log = structlog.get_logger()

SETTLED_SECONDS = 1.0
"""A worker that has served for this long did not fail at its start."""

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 30.0
ATTEMPTS = 3
"""After this many deaths before any worker was ready, the pool gives up."""

LAST_SECONDS = 5.0
"""Time beyond the grace, for closing databases and files."""

_TERMINAL_SIGNALS = (signal.SIGINT, signal.SIGQUIT)
"""Signals that a terminal sends to all processes; only the parent acts on them."""

_STOP_SIGNALS = (signal.SIGTERM, *_TERMINAL_SIGNALS)
FORK_PAUSE_SECONDS = 1.0
_HANDLED_SIGNALS = (*_STOP_SIGNALS, signal.SIGCHLD)


def pause_after(deaths: int) -> float:
    """Compute the seconds to wait after this many deaths in a row at the start; the first is replaced at once."""
    return 0.0 if deaths <= 1 else min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(deaths - 2, 20))


@dataclass(frozen=True, slots=True)
class WorkerSlotStart:
    """The pool's part of a worker's start: the number of the slot that it fills, and the descriptor for its report."""

    slot: int
    report: int


@dataclass(slots=True)
class _Slot:
    """The slot of one worker; `pid` and `report` are those of its current worker, if there is one."""

    number: int
    pid: int | None = None
    report: int = -1
    received: bytes = b""
    ready_at: float | None = None
    deaths: int = 0
    used_before: bool = False
    due: float = 0.0


class WorkerPool:
    """A fixed number of workers; one that dies is replaced."""

    def __init__(
        self,
        count: int,
        work: Callable[[WorkerSlotStart], int],
        *,
        changed: Callable[[Sequence[int]], None],
        ready: Callable[[], None],
        replaced: Callable[[], None],
        died: Callable[[int], None],
        stopping: Callable[[], None],
    ) -> None:
        """`work` is called in each worker's process, and returns its exit status. In this process, `changed` is called
        with the pids after each start and end, `ready` when the first worker serves, `died` with the slot of a dead
        worker, `replaced` when another starts there, `stopping` when no more connections are to be accepted."""
        self._slots = [_Slot(number) for number in range(count)]
        self._work = work
        self._changed = changed
        self._ready = ready
        self._replaced = replaced
        self._died = died
        self._stopping = stopping
        self._ever_ready = False
        self._early_deaths = 0
        self._deadline: float | None = None
        self._hurried = False

    def run(self) -> None:
        """Run until SIGTERM, SIGINT or SIGQUIT has arrived and every worker has ended. Raises NoWorkerReady."""
        try:
            with _signals() as (wakeups, close):
                self._close_wakeups = close
                while self._deadline is None or self._working():
                    if self._deadline is None:
                        self._start_due_workers()
                    reports = [slot.report for slot in self._working()]
                    readable = _wait([wakeups, *reports], self._timeout())
                    for slot in [slot for slot in self._working() if slot.report in readable]:
                        self._read_report(slot)
                    stops = (
                        [number for number in os.read(wakeups, 4096) if number in _STOP_SIGNALS]
                        if wakeups in readable
                        else []
                    )
                    self._reap()
                    if stops:
                        self._stop()
                    elif self._deadline is not None and time.monotonic() > self._deadline:
                        self._signal_all(signal.SIGKILL)
        finally:
            self._signal_all(signal.SIGKILL)
            for slot in self._working():
                if slot.pid is not None:
                    os.waitpid(slot.pid, 0)

    def _working(self) -> list[_Slot]:
        return [slot for slot in self._slots if slot.pid is not None]

    def _timeout(self) -> float | None:
        """Compute the seconds until there is something to do; None: until something happens."""
        if self._deadline is not None:
            times = [max(self._deadline, time.monotonic() + 0.1)]
        else:
            times = [slot.due for slot in self._slots if slot.pid is None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _start_due_workers(self) -> None:
        due = [slot for slot in self._slots if slot.pid is None and slot.due <= time.monotonic()]
        for slot in due:
            self._start(slot)
        if due:
            self._report_pids()

    def _start(self, slot: _Slot) -> None:
        """Fork a worker; if the machine has no process or descriptor left, try again soon while the others serve."""
        try:
            reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            self._postpone(slot, error)
            return
        start = WorkerSlotStart(slot.number, writing)
        sys.stdout.flush()
        sys.stderr.flush()
        # A signal between the fork and the worker's own handlers must not be lost to ours.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [*_HANDLED_SIGNALS, HURRY])
        try:
            pid = os.fork()
            if pid == 0:
                self._become_worker(start, [reading, *(other.report for other in self._working())], before)
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

    def _postpone(self, slot: _Slot, error: OSError) -> None:
        slot.due = time.monotonic() + FORK_PAUSE_SECONDS
        log.error("worker_not_started", reason=error.strerror, remedy="raise the limits of processes and descriptors")

    def _become_worker(self, start: WorkerSlotStart, foreign: Sequence[int], mask: set[int]) -> None:
        """Run the worker and exit: the frames below belong to the parent."""
        status = 1
        try:
            self._close_wakeups()
            for descriptor in foreign:
                os.close(descriptor)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for number in _TERMINAL_SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            signal.signal(STOP, signal.SIG_DFL)
            signal.signal(HURRY, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            status = self._work(start)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)

    def _read_report(self, slot: _Slot) -> None:
        with suppress(BlockingIOError):
            slot.received += os.read(slot.report, 4096)
        if slot.ready_at is None and slot.received.startswith(READY):
            slot.ready_at = time.monotonic()
            if not self._ever_ready:
                self._ever_ready = True
                self._ready()

    def _reap(self) -> None:
        for slot in self._working():
            pid, status = os.waitpid(slot.pid or 0, os.WNOHANG)
            if not pid:
                continue
            self._read_report(slot)
            os.close(slot.report)
            slot.pid, slot.report = None, -1
            self._died(slot.number)
            if self._deadline is None:
                self._plan_replacement(slot, pid, _ending(status))
        if self._deadline is None and any(slot.pid is None for slot in self._slots):
            self._report_pids()

    def _plan_replacement(self, slot: _Slot, pid: int, ended: str) -> None:
        """Decide when the slot of a dead worker is filled again. Raises NoWorkerReady."""
        now = time.monotonic()
        reason = slot.received.removeprefix(READY).decode(errors="replace").strip()
        if not self._ever_ready:
            self._early_deaths += 1
            if reason:
                raise NoWorkerReady(reason)
            if self._early_deaths >= ATTEMPTS:
                raise NoWorkerReady(f"no worker became ready; the last one ended by {ended}: see the log above")
        settled = slot.ready_at is not None and now - slot.ready_at >= SETTLED_SECONDS
        slot.deaths = 0 if settled else slot.deaths + 1
        pause = pause_after(slot.deaths)
        slot.due = now + pause
        fields = {"pid": pid, "ended_by": ended} | ({"reason": reason} if reason else {})
        if pause:
            log.error("worker_dies_at_start", **fields, times_in_a_row=slot.deaths, next_start_in=f"{pause:.1f} s")
        else:
            log.warning("worker_died", **fields, next_start_in="0 s")

    def _stop(self) -> None:
        """Stop the workers, gracefully at the first call, at once at the second."""
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + GRACE_SECONDS + LAST_SECONDS
            self._stopping()
            self._signal_all(STOP)
        elif not self._hurried:
            self._hurried = True
            self._deadline = now + LAST_SECONDS
            self._signal_all(HURRY)

    def _signal_all(self, number: signal.Signals) -> None:
        for slot in self._working():
            if slot.pid is not None:
                os.kill(slot.pid, number)

    def _report_pids(self) -> None:
        self._changed([slot.pid for slot in self._slots if slot.pid is not None])


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
    try:
        yield reading, close
    finally:
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
