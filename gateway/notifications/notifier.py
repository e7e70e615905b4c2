"""Notifier: takes events out of the outbox, makes deliveries of them, and sends these; one process of a host at a time.

Each webhook that something is due for has a task, which sends its deliveries one after the other: a receiver that is
slow holds up itself. `gateway.webhooks` has the theory.
"""

import random
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol

import structlog

from cache.runtime.fair_queue import Requester
from cache.runtime.on_behalf import on_behalf_of
from cache.runtime.tasks import Tasks
from gateway.db import paths, webhook_deliveries, webhook_events, webhooks
from gateway.db.connection import Connection
from gateway.db.engine import Database, DatabaseUnusable
from gateway.db.webhook_deliveries import Delivery, NewDelivery
from gateway.namespaces.node import NodeKind, prefixes_of
from gateway.notifications.sender import AttemptOutcome
from gateway.notifications.turns import WebhookTurns
from gateway.webhooks.envelope import Envelopes
from gateway.webhooks.event import RegistryEvent, Trigger
from gateway.webhooks.schedule import delay_after
from gateway.webhooks.webhook import Webhook

log = structlog.get_logger()

EVENTS_AT_ONCE = 200
"""Events that one transaction takes out of the outbox."""
IN_ENVELOPE = 100
"""Pulls and cache fills in one envelope at most; pushes and deletions have an envelope each."""
ENVELOPE_BYTES = 32 * 1024
"""Bytes of an envelope beyond which it takes no more events: clients choose much of what stands in one."""
TASKS = 64
"""Webhooks that are sent something at the same time; each sends one delivery after the other."""
TASKS_OF_OWNER = TASKS // 2
DELIVERIES_AT_ONCE = 20
TURN = timedelta(seconds=10)
"""So many deliveries of one webhook, begun within such a time, before others have their turn."""


class Sending(Protocol):
    """Sends a delivery once. Raises nothing but cancellation."""

    async def send(self, webhook: Webhook, delivery: Delivery) -> AttemptOutcome: ...


class Notifier:
    """Tells webhooks of events. For one event loop."""

    def __init__(
        self,
        database: Database,
        sender: Sending,
        envelopes: Envelopes,
        clock: Callable[[], datetime],
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`chance`: a random number from 0 to 1, which spreads attempts over time."""
        self._database = database
        self._sender = sender
        self._envelopes = envelopes
        self._clock = clock
        self._chance = chance
        self._tasks = Tasks()
        self._turns = WebhookTurns()
        self._busy: dict[int, str] = {}

    async def step(self) -> bool:
        """Make deliveries of some events, and begin to send what is due; return whether there may be more events.
        Raises DatabaseUnusable."""
        has_more = await self._fan_out()
        now, free = self._clock(), TASKS - len(self._busy)
        if free > 0:
            due = await self._database.query(partial(webhook_deliveries.due_webhooks, now=now, but=sorted(self._busy)))
            for webhook in self._turns.choose(due, Counter(self._busy.values()), free, TASKS_OF_OWNER):
                self._busy[webhook.id] = webhook.owner
                with on_behalf_of(Requester(webhook.owner, "webhooks")):
                    self._tasks.start(self._serve(webhook.id), "webhook")
        return has_more

    async def trim(self) -> None:
        """Delete deliveries that ended long ago. Raises DatabaseUnusable."""
        while await self._database.transact(partial(webhook_deliveries.trim, now=self._clock()), durable=False):
            pass

    async def close(self) -> None:
        """End what is being sent; it is sent again by whoever has its lease next."""
        await self._tasks.close()

    async def _fan_out(self) -> bool:
        if not await self._database.query(webhook_events.is_any):
            return False
        now = self._clock()

        async def fan_out(connection: Connection) -> tuple[int, int]:
            events = await webhook_events.take(connection, EVENTS_AT_ONCE)
            # Of those alone that may be told: everybody may have many, and this keeps others waiting.
            above = await self._group_paths(connection, events)
            projects = {event.project_id for event in events if event.project_id is not None}
            known = await webhooks.list_told(connection, projects, above)
            made = [new for webhook in known for new in self._deliveries(webhook, events, above)]
            await webhook_deliveries.add(connection, made, now)
            told = {new.webhook_id for new in made}
            for webhook_id in sorted(told):
                await webhook_deliveries.forget_beyond(connection, webhook_id)
            dropped = 0
            for node in dict.fromkeys(webhook.node for webhook in known if webhook.id in told):
                dropped += await webhook_deliveries.drop_beyond(connection, node, now)
                await webhook_deliveries.forget_beyond_together(connection, node)
            return len(events), dropped

        taken, dropped = await self._database.transact(fan_out)
        if dropped:
            log.warning("webhook_deliveries_dropped", dropped=dropped)
        return taken == EVENTS_AT_ONCE

    async def _group_paths(self, connection: Connection, events: Iterable[RegistryEvent]) -> Mapping[int, str]:
        """The paths of the groups above the repositories of some events, by their ids."""
        told = (event.path for event in events if event.trigger is not Trigger.FILL)
        above = {path for one in told for path in prefixes_of(one)}
        found = await paths.find_all(connection, sorted(above))
        return {entry.key.id: entry.path for entry in found if entry.key.kind is NodeKind.GROUP}

    def _deliveries(
        self, webhook: Webhook, events: Sequence[RegistryEvent], above: Mapping[int, str]
    ) -> list[NewDelivery]:
        """What a webhook is sent of some events, in their order."""
        wanted = [event for event in events if _wants(webhook, event, above)]
        return [
            NewDelivery(webhook.id, new_delivery_id(), together[0].trigger, payload)
            for together in _joined(wanted)
            for payload in self._envelopes.write_all(together, ENVELOPE_BYTES)
        ]

    async def _serve(self, webhook_id: int) -> None:
        """Send some of what is due for a webhook."""
        ends = self._clock() + TURN
        try:
            for _ in range(DELIVERIES_AT_ONCE):
                if not await self._send_next(webhook_id) or self._clock() >= ends:
                    return
        except DatabaseUnusable as error:  # sent again once the lease has ended
            log.warning("webhook_delivery_not_noted", webhook=webhook_id, reason=str(error))
        finally:
            self._busy.pop(webhook_id, None)

    async def _send_next(self, webhook_id: int) -> bool:
        """Send the next delivery of a webhook; return whether it may go on at once."""
        now = self._clock()

        async def claim(connection: Connection) -> tuple[Webhook, Delivery] | None:
            webhook = await webhooks.find(connection, webhook_id)
            if webhook is None or webhook.is_disabled:
                return None
            delivery = await webhook_deliveries.claim(connection, webhook_id, now)
            return None if delivery is None else (webhook, delivery)

        claimed = await self._database.transact(claim, durable=False)
        if claimed is None:
            return False
        webhook, delivery = claimed
        outcome = await self._sender.send(webhook, delivery)
        note: Any = partial(self._note, webhook_id=webhook.id, delivery=delivery, outcome=outcome)
        await self._database.transact(note, durable=False)
        if not outcome.is_success:
            fields = {"webhook": webhook.id, "host": webhook.host, "attempt": delivery.attempts + 1}
            log.warning("webhook_delivery_failed", **fields, reason=outcome.problem)
        return outcome.is_success

    async def _note(self, connection: Connection, webhook_id: int, delivery: Delivery, outcome: AttemptOutcome) -> None:
        """Note an attempt, and how the webhook stands since."""
        now = self._clock()
        delay = None if outcome.is_success else delay_after(delivery.attempts + 1, self._chance())
        await webhook_deliveries.note_attempt(
            connection,
            delivery,
            now,
            next_at=None if delay is None else now + delay,
            delivered=outcome.is_success,
            response_status=outcome.status,
            problem=outcome.problem,
        )
        webhook = await webhooks.find(connection, webhook_id)
        if webhook is None:
            return
        changed = webhook.succeeded() if outcome.is_success else webhook.failed(now)
        if changed != webhook:
            await webhooks.note_standing(connection, changed)
        if changed.is_disabled and not webhook.is_disabled:
            log.error("webhook_disabled", webhook=webhook.id, host=webhook.host, failures=changed.failures)
            await webhook_deliveries.end_of_webhook(connection, webhook_id, now, "the webhook was disabled")


def new_delivery_id() -> str:
    """An id by which a receiver knows a delivery that it was sent before (Standard Webhooks, "webhook-id")."""
    return f"msg_{secrets.token_hex(16)}"


def _joined(events: Iterable[RegistryEvent]) -> list[list[RegistryEvent]]:
    """Events in their order, those together that one envelope may hold: pulls, or cache fills, that follow each
    other."""
    joined: list[list[RegistryEvent]] = []
    for event in events:
        last = joined[-1] if joined else []
        joins = event.trigger in (Trigger.PULL, Trigger.FILL) and last and last[0].trigger is event.trigger
        if joins and len(last) < IN_ENVELOPE:
            last.append(event)
        else:
            joined.append([event])
    return joined


def _wants(webhook: Webhook, event: RegistryEvent, above: Mapping[int, str]) -> bool:
    """Whether a webhook is told of an event. `above`: the paths of groups by their ids."""
    if event.trigger not in webhook.triggers:
        return False
    if webhook.node is None:
        return True
    if event.trigger is Trigger.FILL:
        return False  # all share what the cache holds
    if webhook.node.kind is NodeKind.PROJECT:
        return event.project_id == webhook.node.id
    path = above.get(webhook.node.id)
    return path is not None and event.path.startswith(f"{path}/")
