"""AuditLog: the events of one process, which wait in memory until they are written together."""

import threading
import time
from collections import deque
from collections.abc import Callable

import structlog

from cache.runtime.throttle import LogThrottle
from cache.sqlite import DatabaseUnusable
from gateway.audit.event import AuditEvent
from gateway.audit.file import AuditFile, AuditQuery, EventPosition, WrittenEvent, read_events

log = structlog.get_logger()

MAX_PENDING = 50_000
"""Events that wait in memory at most, in some 30 MB."""
TRIM_SECONDS = 60.0
"""Seconds between two looks for old events while no new ones come."""

Counted = Callable[[int, int], None]
"""Called with how many events were written and dropped."""
Listener = Callable[[AuditEvent], None]


class AuditLog:
    """Takes events from any thread. Whoever notes something is raised nothing."""

    def __init__(
        self, file: AuditFile | None, counted: Counted = lambda written, dropped: None, max_pending: int = MAX_PENDING
    ) -> None:
        """`file`: None where no log is kept. `max_pending`: events that wait at most."""
        self._file = file
        self._counted = counted
        self._pending: deque[AuditEvent] = deque(maxlen=max_pending)
        self._dropped = 0
        self._lock = threading.Lock()
        self._warnings = LogThrottle()
        self._trim_at = 0.0
        self._listener: Listener | None = None

    @property
    def is_kept(self) -> bool:
        """Whether anybody is told of events at all."""
        return self._file is not None or self._listener is not None

    def listen(self, listener: "Listener") -> None:
        """Let somebody else be told of each event, too, at once and in the same thread; it raises nothing."""
        self._listener = listener

    def read(
        self, query: AuditQuery, after: EventPosition | None, limit: int, *, latest_first: bool, offset: int = 0
    ) -> list[WrittenEvent]:
        """Read events that are written, as `read_events` does; none where no log is kept. Blocks. Raises
        DatabaseUnusable."""
        if self._file is None:
            return []
        return read_events(self._file.path, query, after, limit, latest_first=latest_first, offset=offset)

    def note(self, event: AuditEvent) -> None:
        """Note an event; where too many wait, the oldest of them is dropped."""
        if self._listener is not None:
            self._listener(event)
        if self._file is None:
            return
        with self._lock:
            self._dropped += len(self._pending) == self._pending.maxlen
            self._pending.append(event)

    @property
    def is_due(self) -> bool:
        """Whether `flush` would do anything."""
        return self._file is not None and (bool(self._pending) or time.monotonic() >= self._trim_at)

    def flush(self) -> None:
        """Write what was noted, and delete some of what is old. Blocks. What cannot be written waits for the next
        time."""
        if self._file is None or not self.is_due:
            return
        now = time.monotonic()
        with self._lock:
            batch = list(self._pending)
            self._pending.clear()
        try:
            appended = self._file.append(batch)
        except (DatabaseUnusable, OSError) as error:
            self._put_back(batch)
            if self._warnings.due(type(error).__name__):
                log.warning("audit_events_not_written", reason=str(error), waiting=len(self._pending))
            return
        finally:
            self._trim_at = now + TRIM_SECONDS
        if appended.has_more:
            self._trim_at = now
        if appended.set_aside:
            log.error("audit_log_set_aside", reason=appended.set_aside)
        self._count(len(batch))

    def _put_back(self, batch: list[AuditEvent]) -> None:
        """Let events wait again before those that came meanwhile, as far as there is room."""
        with self._lock:
            room = (self._pending.maxlen or 0) - len(self._pending)
            kept = batch[max(0, len(batch) - room) :] if room else []
            self._dropped += len(batch) - len(kept)
            self._pending.extendleft(reversed(kept))
        self._count(0)

    def _count(self, written: int) -> None:
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        if written or dropped:
            self._counted(written, dropped)


NO_AUDIT = AuditLog(None)
"""A log that keeps nothing."""
