"""Crew: keeps so many workers alive, by fork; it has no event loop and no threads, which is what makes fork safe."""

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import structlog

from gateway.processes.worker import GRACE_SECONDS, HURRY, READY, STOP

log = structlog.get_logger()

SETTLED_SECONDS = 1.0
"""A worker that has served for so long did not die of its start."""

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 30.0
ATTEMPTS = 3
"""After so many deaths before any worker was ready there is no hope."""

LAST_SECONDS = 5.0
"""Beyond the grace, for closing what is open."""

_STOPS = (signal.SIGTERM, signal.SIGINT)
FORK_PAUSE_SECONDS = 1.0
_HEARD = (*_STOPS, signal.SIGCHLD)


class NoWorkerReady(Exception):
    """Not one worker came to serve; the text says why."""


def pause_after(deaths: int) -> float:
    """Seconds to wait, after so many deaths in a row right after a start. The first one is no habit yet."""
    return 0.0 if deaths <= 1 else min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(deaths - 2, 20))


@dataclass(frozen=True, slots=True)
class Begin:
    """What a new worker must know: its place, which others had before, and where it reports."""

    place: int
    report: int


@dataclass(slots=True)
class _Place:
    """One of the places at which a worker works; `pid` and `report` are those of who does now, if anybody."""

    number: int
    pid: int | None = None
    report: int = -1
    heard: bytes = b""
    ready_at: float | None = None
    deaths: int = 0
    filled_before: bool = False
    due: float = 0.0


class Crew:
    def __init__(
        self,
        count: int,
        work: Callable[[Begin], int],
        *,
        changed: Callable[[Sequence[int]], None],
        ready: Callable[[], None],
        replaced: Callable[[], None],
        died: Callable[[int], None],
        stopping: Callable[[], None],
    ) -> None:
        """`work` is called in each worker's process, its result is the exit status. Here, `changed` is told the pids
        after each start and end, `ready` is called when the first worker serves, `died` with the place of who is dead,
        `replaced` when another begins there, `stopping` when no more connections are wanted."""
        self._places = [_Place(number) for number in range(count)]
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
        """Until SIGTERM or SIGINT has come and every worker has ended. Raises NoWorkerReady."""
        try:
            with _signals() as (wakeups, close):
                self._close_wakeups = close
                while self._deadline is None or self._working():
                    if self._deadline is None:
                        self._start_who_is_due()
                    reports = [place.report for place in self._working()]
                    told = _wait([wakeups, *reports], self._patience())
                    for place in [place for place in self._working() if place.report in told]:
                        self._hear(place)
                    stops = [number for number in os.read(wakeups, 4096) if number in _STOPS] if wakeups in told else []
                    self._bury()
                    if stops:
                        self._stop()
                    elif self._deadline is not None and time.monotonic() > self._deadline:
                        self._tell(signal.SIGKILL)
        finally:
            self._tell(signal.SIGKILL)
            for place in self._working():
                if place.pid is not None:
                    os.waitpid(place.pid, 0)

    def _working(self) -> list[_Place]:
        return [place for place in self._places if place.pid is not None]

    def _patience(self) -> float | None:
        """Seconds until there is something to do; None: until something happens."""
        if self._deadline is not None:
            times = [max(self._deadline, time.monotonic() + 0.1)]
        else:
            times = [place.due for place in self._places if place.pid is None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _start_who_is_due(self) -> None:
        due = [place for place in self._places if place.pid is None and place.due <= time.monotonic()]
        for place in due:
            self._start(place)
        if due:
            self._tell_pids()

    def _start(self, place: _Place) -> None:
        """Where the machine gives no process or descriptor, it is tried again soon: the others serve on."""
        try:
            reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            self._postpone(place, error)
            return
        begin = Begin(place.number, writing)
        sys.stdout.flush()
        sys.stderr.flush()
        # A signal between the fork and the worker's own handlers must not be lost to ours.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [*_HEARD, HURRY])
        try:
            pid = os.fork()
            if pid == 0:
                self._become_worker(begin, [reading, *(other.report for other in self._working())], before)
        except OSError as error:
            os.close(reading)
            self._postpone(place, error)
            return
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(writing)
        place.pid, place.report, place.heard, place.ready_at = pid, reading, b"", None
        if place.filled_before:
            self._replaced()
        place.filled_before = True

    def _postpone(self, place: _Place, error: OSError) -> None:
        place.due = time.monotonic() + FORK_PAUSE_SECONDS
        log.error("worker_not_started", reason=error.strerror, remedy="raise the limits of processes and descriptors")

    def _become_worker(self, begin: Begin, foreign: Sequence[int], mask: set[int]) -> None:
        """Never returns: the frames below belong to the parent."""
        status = 1
        try:
            self._close_wakeups()
            for descriptor in foreign:
                os.close(descriptor)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent says what it means
            signal.signal(STOP, signal.SIG_DFL)
            signal.signal(HURRY, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            status = self._work(begin)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)

    def _hear(self, place: _Place) -> None:
        with suppress(BlockingIOError):
            place.heard += os.read(place.report, 4096)
        if place.ready_at is None and place.heard.startswith(READY):
            place.ready_at = time.monotonic()
            if not self._ever_ready:
                self._ever_ready = True
                self._ready()

    def _bury(self) -> None:
        for place in self._working():
            pid, status = os.waitpid(place.pid or 0, os.WNOHANG)
            if not pid:
                continue
            self._hear(place)
            os.close(place.report)
            place.pid, place.report = None, -1
            self._died(place.number)
            if self._deadline is None:
                self._judge(place, pid, _ending(status))
        if self._deadline is None and any(place.pid is None for place in self._places):
            self._tell_pids()

    def _judge(self, place: _Place, pid: int, ended: str) -> None:
        """What is to be done about a death."""
        now = time.monotonic()
        reason = place.heard.removeprefix(READY).decode(errors="replace").strip()
        if not self._ever_ready:
            self._early_deaths += 1
            if reason:
                raise NoWorkerReady(reason)
            if self._early_deaths >= ATTEMPTS:
                raise NoWorkerReady(f"no worker came to serve; the last one ended by {ended}: see the log above")
        settled = place.ready_at is not None and now - place.ready_at >= SETTLED_SECONDS
        place.deaths = 0 if settled else place.deaths + 1
        pause = pause_after(place.deaths)
        place.due = now + pause
        fields = {"pid": pid, "ended_by": ended} | ({"reason": reason} if reason else {})
        if pause:
            log.error("worker_dies_at_start", **fields, times_in_a_row=place.deaths, next_start_in=f"{pause:.1f} s")
        else:
            log.warning("worker_died", **fields, next_start_in="0 s")

    def _stop(self) -> None:
        """The first time gracefully, then at once."""
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + GRACE_SECONDS + LAST_SECONDS
            self._stopping()
            self._tell(STOP)
        elif not self._hurried:
            self._hurried = True
            self._deadline = now + LAST_SECONDS
            self._tell(HURRY)

    def _tell(self, number: signal.Signals) -> None:
        for place in self._working():
            if place.pid is not None:
                os.kill(place.pid, number)

    def _tell_pids(self) -> None:
        self._changed([place.pid for place in self._places if place.pid is not None])


@contextmanager
def _signals() -> Iterator[tuple[int, Callable[[], None]]]:
    """A descriptor from which the numbers of signals can be read, and what closes it in another process."""
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def close() -> None:
        signal.set_wakeup_fd(-1)
        os.close(reading)
        os.close(writing)

    before = {number: signal.signal(number, lambda *_: None) for number in _HEARD}
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield reading, close
    finally:
        close()
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(descriptors: Sequence[int], seconds: float | None) -> set[int]:
    """Those from which something can be read, or nothing ever will."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(None if seconds is None else seconds * 1000 + 1)}


def _ending(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"signal {-code}" if code < 0 else f"exit status {code}"
