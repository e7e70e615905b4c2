"""Lines for a log file that may be a pipe which nobody reads, or a full disk: whoever writes them waits for neither.

A worker hands its lines to a thread. The first process has no threads, since it forks; it gives up a write that lasts.
Lines that were not written are counted, and the count is reported once lines can be written again.
"""

import os
import select
import signal
import stat
import threading
from collections.abc import Callable
from typing import Protocol, TextIO

QUEUE_CHARACTERS = 2 * 1024 * 1024
"""Maximum size of the lines that wait for the thread: more than a second of a busy server."""

CLOSE_SECONDS = 1.0
"""How long the last lines of a process are waited for."""

ROOM_SECONDS = 0.1
"""How long the first process waits for a file that takes nothing at the moment."""

WRITE_SECONDS = 5.0
"""How long a write may take that had room when it began, before another process took the room."""


class LineFile(Protocol):
    """A file to which whole lines are written."""

    def write(self, text: str, /) -> int: ...
    def flush(self) -> None: ...


class WholeLines:
    """A text file that several processes write to, in which no line is torn apart.

    A write to a file on a disk is never interleaved with another, one to a pipe only up to PIPE_BUF bytes: for a pipe,
    and whatever else there may be, longer texts are cut between lines.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        """Write text that consists of whole lines. Blocks; raises OSError."""
        try:
            descriptor = self._file.fileno()
        except OSError:  # a file object without a descriptor
            self._file.write(text)
            return len(text)
        self._file.flush()
        waiting = text.encode(errors="backslashreplace")
        while waiting:
            end = len(waiting)
            if end > select.PIPE_BUF and not stat.S_ISREG(os.fstat(descriptor).st_mode):
                end = waiting.rfind(b"\n", 0, select.PIPE_BUF) + 1 or waiting.find(b"\n") + 1 or end
            waiting = waiting[os.write(descriptor, waiting[:end]) :]
        return len(text)

    def flush(self) -> None:
        self._file.flush()


class QueuedLines:
    """Lines that a thread writes; those that do not fit into the queue, or cannot be written, are dropped."""

    def __init__(self, file: LineFile, report: Callable[[int], None]) -> None:
        """`report` is called in the thread with the number of lines that were dropped before; it may write a line."""
        self._file = file
        self._report = report
        self._changed = threading.Condition()
        self._waiting: list[str] = []
        self._size = 0
        self._dropped = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, text: str) -> int:
        """Hand over text; never waits for the file."""
        with self._changed:
            if self._size + len(text) > QUEUE_CHARACTERS:
                self._dropped += text.count("\n")
            else:
                self._waiting.append(text)
                self._size += len(text)
                self._changed.notify()
        return len(text)

    def flush(self) -> None:
        """Lines are written as soon as the file takes them."""

    def close(self) -> None:
        """Wait until all lines are written, but no longer than CLOSE_SECONDS."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while text := self._next():
            try:
                self._file.write(text)
            except OSError:
                with self._changed:
                    self._dropped += text.count("\n")
                continue
            with self._changed:
                dropped, self._dropped = self._dropped, 0
            if dropped:
                self._report(dropped)

    def _next(self) -> str:
        """Wait for lines; an empty text when all are written and no more will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            text, self._waiting, self._size = "".join(self._waiting), [], 0
        return text


class BriefLines:
    """Lines of a process without threads: those that cannot be written at once, or nearly so, are dropped.

    For the main thread, and a file with a descriptor. It uses SIGALRM.
    """

    def __init__(self, file: TextIO, report: Callable[[int], None]) -> None:
        """`report` is called with the number of lines that were dropped before; it may write a line."""
        self._lines = WholeLines(file)
        self._room = select.poll()
        self._room.register(file.fileno(), select.POLLOUT)
        self._report = report
        self._dropped = 0

    def write(self, text: str) -> int:
        """Write text within a few seconds, or drop it."""
        if self._room.poll(ROOM_SECONDS * 1000) and self._written(text):
            dropped, self._dropped = self._dropped, 0
            if dropped:
                self._report(dropped)
        else:
            self._dropped += text.count("\n")
        return len(text)

    def flush(self) -> None:
        """Lines are written at once."""

    def _written(self, text: str) -> bool:
        before = signal.signal(signal.SIGALRM, _give_up)
        try:
            signal.setitimer(signal.ITIMER_REAL, WRITE_SECONDS)
            self._lines.write(text)
        except OSError:
            return False
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        return True


def _give_up(*_: object) -> None:
    raise TimeoutError
