"""PulledNotices: pulls and cache fills of one process that webhooks are told of, which wait in memory for seconds."""

import threading
from collections import deque
from datetime import UTC, datetime
from functools import partial

import structlog

from cache.runtime.throttle import LogThrottle
from gateway.audit.event import AuditEvent, EventKind
from gateway.db import webhook_events, webhooks
from gateway.db.batches import BATCH
from gateway.db.engine import Database, DatabaseUnusable
from gateway.webhooks.cause import NO_CAUSE, current_cause
from gateway.webhooks.event import RegistryEvent, Trigger

log = structlog.get_logger()

MAX_PENDING = 10_000
"""Events that wait at most; beyond it the oldest are dropped, and no pull waits for any of them."""
_TRIGGERS = {EventKind.PULL: Trigger.PULL, EventKind.FILL: Trigger.FILL}


class PulledNotices:
    """Takes events of the audit log from any thread, and keeps those that a webhook wants. `note` raises nothing."""

    def __init__(self, database: Database, max_pending: int = MAX_PENDING) -> None:
        self._database = database
        self._pending: deque[RegistryEvent] = deque(maxlen=max_pending)
        self._wanted: frozenset[Trigger] = frozenset()
        self._dropped = 0
        self._lock = threading.Lock()
        self._warnings = LogThrottle()

    def note(self, event: AuditEvent) -> None:
        """Note an event, if any webhook is told of such ones."""
        trigger = _TRIGGERS.get(event.event)
        if trigger is None or trigger not in self._wanted:
            return
        at = datetime.fromtimestamp(event.at, UTC)
        cause = current_cause() if trigger is Trigger.PULL else NO_CAUSE
        noted = RegistryEvent(0, at, trigger, event.path, None, event.tag, event.digest, cause=cause)
        with self._lock:
            self._dropped += len(self._pending) == self._pending.maxlen
            self._pending.append(noted)

    async def flush(self) -> None:
        """Write what was noted to the outbox, and look what webhooks want now. What cannot be written waits."""
        with self._lock:
            batch, dropped, self._dropped = list(self._pending), self._dropped, 0
            self._pending.clear()
        if dropped and self._warnings.due("dropped"):
            log.warning("webhook_events_dropped", dropped=dropped, reason="too many pulls wait to be told of")
        written = 0
        try:
            while written < len(batch):
                part = batch[written : written + BATCH]
                await self._database.transact(partial(webhook_events.add, events=part), durable=False)
                written += len(part)
            self._wanted = await self._database.query(webhooks.wanted_triggers)
        except DatabaseUnusable as error:
            self._put_back(batch[written:])
            if self._warnings.due("unwritten"):
                log.warning("webhook_events_not_written", reason=str(error))

    def _put_back(self, batch: list[RegistryEvent]) -> None:
        with self._lock:
            room = (self._pending.maxlen or 0) - len(self._pending)
            self._dropped += max(0, len(batch) - room)
            self._pending.extendleft(reversed(batch[-room:] if room else []))
