"""Log lines: an event name plus fields, to stderr."""

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Literal, TextIO, cast

import structlog

from gateway.observability.access_line import AccessLine
from gateway.observability.log_lines import BriefLines, LineFile, QueuedLines, WholeLines

LogForm = Literal["console", "json"]

BATCH_SECONDS = 0.1


def configure_supervisor(form: LogForm) -> None:
    """Configure structlog and sys.stderr for a process without threads, which no log file may stop."""
    lines = BriefLines(_standard_error(), _report_dropped)
    configure(form, lines)
    sys.stderr = cast(TextIO, lines)


def configure_worker(form: LogForm, worker: int) -> QueuedLines:
    """Configure structlog and sys.stderr for a process whose event loop no log file may stop.

    `worker`: a process id that every line contains. Returns the lines, which must be closed at the end.
    """
    lines = QueuedLines(WholeLines(_standard_error()), _report_dropped)
    configure(form, lines, worker)
    sys.stderr = cast(TextIO, lines)
    return lines


def print_briefly(text: str) -> None:
    """Print lines to stdout, or drop them if nobody takes them; for a process without threads."""
    if sys.stdout is not None:
        BriefLines(sys.stdout, lambda _: None).write(text)


def _standard_error() -> TextIO:
    return sys.__stderr__ or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")  # None: it was closed at the start


def _report_dropped(count: int) -> None:
    structlog.get_logger().warning("log_lines_dropped", count=count, reason="nobody took them, or the disk was full")


def configure(form: LogForm, file: LineFile | None = None, worker: int | None = None) -> None:
    """Configure structlog for this process. `file`: stderr by default. `worker`: as in `configure_worker`."""

    def add_worker(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return event if worker is None else {**event, "worker": worker}

    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(
            colors=(_standard_error() if file else sys.stderr).isatty(),
            exception_formatter=structlog.dev.plain_traceback,  # others print variables, and with them secrets
            sort_keys=False,
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
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, file or WholeLines(sys.stderr))),
        cache_logger_on_first_use=False,
    )


class AccessLines:
    """Writes access lines in batches, which a thread renders: a line rendered and written in each request took an
    eighth of the time of a cached manifest."""

    def __init__(self, form: LogForm, file: LineFile) -> None:
        """`file` must not wait for anything, or batches pile up."""
        self._form = form
        self._file = file
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
        level = "warning" if line.failed else "info"
        if self._form == "json":
            return json.dumps({"event": "request", "level": level, "timestamp": stamp, **fields})
        words = " ".join(f"{name}={_quoted(value)}" for name, value in fields.items())
        return f"{stamp} [{level:9}] request {words}"


def _quoted(value: object) -> str:
    """Quote a value that a person or a script might take for more than one word."""
    text = str(value)
    return text if text.isprintable() and not any(character in text for character in " '\"=") else repr(value)
