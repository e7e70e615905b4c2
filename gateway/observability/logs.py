"""Log lines: an event name plus fields, to stderr."""

import asyncio
import json
import logging
import os
import select
import stat
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Literal, TextIO, cast

import structlog

from gateway.observability.access_line import AccessLine

LogForm = Literal["console", "json"]

BATCH_SECONDS = 0.1


class WholeLines:
    """A text file that several processes write to, in which no line is torn apart.

    A write to a file on a disk is never interleaved with another, one to a pipe only up to PIPE_BUF bytes: for a pipe,
    and whatever else there may be, longer texts are cut between lines.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        """Write text that consists of whole lines."""
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


def configure(form: LogForm, worker: int | None = None) -> None:
    """Configure structlog for this process. `worker`: a process id that every line contains."""

    def add_worker(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return event if worker is None else {**event, "worker": worker}

    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            exception_formatter=structlog.dev.plain_traceback,  # others print variables, and with them secrets
        )
    )
    structlog.configure(
        processors=[
            add_worker,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([structlog.processors.format_exc_info] if form == "json" else []),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, WholeLines(sys.stderr))),
        cache_logger_on_first_use=False,
    )


class AccessLines:
    """Writes access lines in batches, from a thread: a line rendered and written in each request took an eighth of the
    time of a cached manifest."""

    def __init__(self, form: LogForm, file: TextIO = sys.stderr) -> None:
        self._form = form
        self._file = WholeLines(file)
        self._waiting: list[tuple[float, AccessLine]] = []
        self._thread = ThreadPoolExecutor(1, "access-log")

    def write(self, line: AccessLine) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_later(BATCH_SECONDS, self._hand_over)
        self._waiting.append((time.time(), line))

    def close(self) -> None:
        """Write the waiting lines, and return when they are written."""
        self._hand_over()
        self._thread.shutdown()

    def _hand_over(self) -> None:
        batch, self._waiting = self._waiting, []
        if batch:
            self._thread.submit(self._write, batch)

    def _write(self, batch: Sequence[tuple[float, AccessLine]]) -> None:
        self._file.write("".join(f"{self._render(when, line)}\n" for when, line in batch))
        self._file.flush()

    def _render(self, when: float, line: AccessLine) -> str:
        stamp = datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fields = line._asdict()
        if self._form == "json":
            return json.dumps({"event": "request", "level": "info", "timestamp": stamp, **fields})
        words = " ".join(f"{name}={_quoted(value)}" for name, value in sorted(fields.items()))
        return f"{stamp} [info     ] request {words}"


def _quoted(value: object) -> str:
    """Quote a value that a person or a script might take for more than one word."""
    text = str(value)
    return text if text.isprintable() and not any(character in text for character in " '\"=") else repr(value)
