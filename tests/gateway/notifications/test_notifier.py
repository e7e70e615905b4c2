"""Notifier: what is due is sent, what fails is sent again later, and no receiver holds up another."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from cache.runtime.fair_queue import Requester
from cache.runtime.on_behalf import current_requester
from gateway.db import webhook_deliveries, webhook_events, webhooks
from gateway.db.engine import Database
from gateway.db.webhook_deliveries import KEPT, LEASE, Delivery
from gateway.db.windows import ListWindow
from gateway.namespaces.node import NodeKey
from gateway.notifications import notifier as notifier_module
from gateway.notifications.notices import PulledNotices
from gateway.notifications.notifier import Notifier
from gateway.notifications.sender import AttemptOutcome
from gateway.webhooks.cause import Cause
from gateway.webhooks.envelope import Envelopes
from gateway.webhooks.event import RegistryEvent, Trigger
from gateway.webhooks.schedule import ATTEMPTS, delay_after
from gateway.webhooks.webhook import DISABLING, TOLERATED, Webhook
from tests.gateway.audit.samples import pull
from tests.gateway.db.identity_rows import add_group, add_project
from tests.parts.processes import wait_until

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
ALL = frozenset(Trigger)


@dataclass
class Sender:
    """Notes what it is given. `outcomes`: by the number of a webhook; what is not there is a success. `holds`: webhooks
    whose receivers never respond. `takes`: the time of an attempt, by the clock of `rig`."""

    sent: list[tuple[int, str]] = field(default_factory=list)
    outcomes: dict[int, AttemptOutcome] = field(default_factory=dict)
    holds: set[int] = field(default_factory=set)
    takes: timedelta = timedelta(0)
    on_behalf: list[Requester] = field(default_factory=list)
    rig: "Rig | None" = None

    async def send(self, webhook: Webhook, delivery: Delivery) -> AttemptOutcome:
        self.sent.append((webhook.id, delivery.uid))
        self.on_behalf.append(current_requester())
        if self.rig is not None:
            self.rig.now += self.takes
        if webhook.id in self.holds:
            await asyncio.Event().wait()
        return self.outcomes.get(webhook.id, AttemptOutcome(200))


class Rig:
    def __init__(self, database: Database) -> None:
        self.database, self.sender, self.now = database, Sender(), NOW
        self.notifier = self.another()

    def another(self) -> Notifier:
        """A notifier of another process."""
        envelopes = Envelopes("http://registry.example", "rg")
        return Notifier(self.database, self.sender, envelopes, lambda: self.now, lambda: 1.0)

    async def hook(self, node: NodeKey | None = None, triggers: frozenset[Trigger] = ALL) -> int:
        number = len(await self.database.query(webhooks.list_all))
        new = Webhook(0, f"uid-{number}", node, "https://hooks.example.com/", triggers, NOW)
        return (await self.database.transact(partial(webhooks.create, webhook=new))).id

    async def happen(self, *paths: str, trigger: Trigger = Trigger.DELETE) -> None:
        events = [RegistryEvent(0, NOW, trigger, path) for path in paths]
        await self.database.transact(partial(webhook_events.add, events=events))

    async def step(self, notifier: Notifier | None = None) -> None:
        """Do a step, and wait for what it has begun, unless a receiver holds it."""
        notifier = notifier or self.notifier
        await notifier.step()
        await asyncio.to_thread(wait_until, lambda: not set(notifier._busy) - self.sender.holds)

    async def deliveries(self, webhook_id: int) -> list[Delivery]:
        async with self.database.read() as connection:
            part = await webhook_deliveries.list_part(connection, webhook_id, ListWindow(1000))
        return list(part.rows)

    async def webhook(self, id: int) -> Webhook:
        found = await self.database.query(partial(webhooks.find, id=id))
        assert found is not None
        return found


@pytest.fixture
async def rig(database: Database) -> AsyncIterator[Rig]:
    rig = Rig(database)
    yield rig
    await rig.notifier.close()


async def test_an_event_is_told_to_whoever_wants_it_once(rig: Rig) -> None:
    async with rig.database.write() as connection:
        group, project = await add_group(connection), await add_project(connection)
        other = await add_group(connection, "teams")
    everywhere, of_group, of_other = await rig.hook(), await rig.hook(group), await rig.hook(other)
    of_project, pulls = await rig.hook(project.key), await rig.hook(None, frozenset({Trigger.PULL}))
    await rig.happen("team/app", "teams/x")
    async with rig.database.write() as connection:
        await connection.exec_driver_sql(f"UPDATE webhook_events SET project_id = {project.id} WHERE path = 'team/app'")
    await rig.step()
    await rig.step()
    told = [webhook for webhook, _ in rig.sender.sent]
    assert sorted(told) == sorted([everywhere, everywhere, of_group, of_other, of_project]) and pulls not in told
    assert len({uid for _, uid in rig.sender.sent}) == 5
    assert not await rig.database.query(webhook_events.is_any)


async def test_a_cache_fill_is_told_to_the_server_alone_and_many_share_an_envelope(rig: Rig) -> None:
    async with rig.database.write() as connection:
        group = await add_group(connection, "docker.io")
    everywhere = await rig.hook()
    await rig.hook(group)
    await rig.happen(*(f"docker.io/library/{n}" for n in range(150)), trigger=Trigger.FILL)
    await rig.step()
    assert [webhook for webhook, _ in rig.sender.sent] == [everywhere] * 2


async def test_a_failure_is_tried_again_later_with_the_same_id_and_dead_in_the_end(rig: Rig) -> None:
    hook = await rig.hook()
    rig.sender.outcomes[hook] = AttemptOutcome(500, "it responded with 500")
    await rig.happen("team/app")
    for attempts in range(1, ATTEMPTS + 1):
        await rig.step()
        [delivery] = await rig.deliveries(hook)
        assert (delivery.attempts, delivery.response_status, delivery.problem) == (
            attempts,
            500,
            "it responded with 500",
        )
        delay = delay_after(attempts, 1.0)
        if delay is not None:
            assert delivery.next_at == rig.now + delay and delivery.status == "pending"
            await rig.step()
            assert len(rig.sender.sent) == attempts, "not before it is due"
        async with rig.database.write() as connection:
            await connection.exec_driver_sql("UPDATE webhooks SET disabled_until = NULL")
        rig.now += timedelta(hours=2)
    assert delivery.status == "dead" and len({uid for _, uid in rig.sender.sent}) == 1
    await rig.step()
    assert len(rig.sender.sent) == ATTEMPTS
    await rig.database.transact(partial(webhook_deliveries.redeliver, delivery=delivery, now=rig.now))
    rig.sender.outcomes.clear()
    await rig.step()
    assert [(d.status, d.attempts) for d in await rig.deliveries(hook)] == [("delivered", 1)]


async def test_a_receiver_that_does_not_respond_holds_up_no_other_one(rig: Rig) -> None:
    slow, others = await rig.hook(), [await rig.hook() for _ in range(5)]
    rig.sender.holds.add(slow)
    for number in range(3):
        await rig.happen(f"team/app{number}")
        await rig.step()
    await asyncio.to_thread(wait_until, lambda: len(rig.sender.sent) == 16)
    told = [webhook for webhook, _ in rig.sender.sent]
    assert told.count(slow) == 1 and all(told.count(other) == 3 for other in others)


async def test_receivers_that_do_not_respond_take_so_many_places_and_others_have_their_turn_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier_module, "TASKS", 2)
    first, second, third = [await rig.hook() for _ in range(3)]
    rig.sender.holds |= {first}
    await rig.happen("team/app")
    for _ in range(3):
        await rig.step()
    await asyncio.to_thread(wait_until, lambda: len(rig.sender.sent) == 3)
    assert {webhook for webhook, _ in rig.sender.sent} == {first, second, third}


async def test_whoever_has_many_slow_receivers_and_much_for_them_leaves_others_their_turns(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier_module, "TASKS", 2)
    monkeypatch.setattr(notifier_module, "TASKS_OF_OWNER", 1)
    async with rig.database.write() as connection:
        many, other = await add_group(connection, "many"), await add_group(connection, "other")
    rig.sender.holds |= {await rig.hook(many) for _ in range(4)}
    await rig.happen(*(f"many/app{number}" for number in range(5)))
    await rig.step()
    waits = await rig.hook(other)
    await rig.happen("other/app")
    await rig.step()
    told = [webhook for webhook, _ in rig.sender.sent]
    assert len(told) == 2 and told[1] == waits
    assert [requester.group for requester in rig.sender.on_behalf] == ["many", "other"], "names are looked up in turns"


async def test_a_turn_ends_after_some_time_however_much_is_due(rig: Rig) -> None:
    rig.sender.rig, rig.sender.takes = rig, notifier_module.TURN / 2
    await rig.hook()
    await rig.happen(*(f"team/app{number}" for number in range(9)))
    await rig.step()
    assert len(rig.sender.sent) == 2


async def test_an_envelope_takes_no_more_beyond_so_many_bytes(rig: Rig) -> None:
    hook = await rig.hook()
    long = Cause(user_agent="\N{WHITE SMILING FACE}" * 255, host="h" * 255, actor="a" * 255)
    events = [RegistryEvent(0, NOW, Trigger.PULL, f"team/app{number}", cause=long) for number in range(60)]
    await rig.database.transact(partial(webhook_events.add, events=events))
    await rig.step()
    payloads = [delivery.payload for delivery in await rig.deliveries(hook)]
    assert sum(payload.count('"timestamp"') for payload in payloads) == 60
    assert max(map(len, payloads)) < 2 * notifier_module.ENVELOPE_BYTES and len(payloads) == 4


async def test_what_was_being_sent_by_a_process_that_was_killed_is_sent_again_after_its_lease(rig: Rig) -> None:
    hook = await rig.hook()
    rig.sender.holds.add(hook)
    await rig.happen("team/app")
    await rig.step()
    await asyncio.to_thread(wait_until, lambda: bool(rig.sender.sent))
    await rig.notifier.close()
    rig.sender.holds.clear()
    other = rig.another()
    await rig.step(other)
    assert len(rig.sender.sent) == 1, "the lease is another's"
    rig.now += LEASE
    await rig.step(other)
    [(_, first), (_, second)] = rig.sender.sent
    assert first == second and [d.status for d in await rig.deliveries(hook)] == ["delivered"]
    await other.close()


async def test_two_processes_that_look_at_once_tell_of_each_event_once(rig: Rig) -> None:
    await rig.hook()
    others = [rig.another() for _ in range(3)]
    await rig.happen(*(f"team/app{number}" for number in range(50)))
    await asyncio.gather(*(rig.step(other) for other in others))
    for other in others:
        for _ in range(4):
            await rig.step(other)
        await other.close()
    assert len({uid for _, uid in rig.sender.sent}) == 50 == len(rig.sender.sent)


async def test_failures_in_a_row_pause_a_webhook_and_a_success_ends_that(rig: Rig) -> None:
    hook = await rig.hook()
    rig.sender.outcomes[hook] = AttemptOutcome(None, "it did not respond in time")
    await rig.happen(*(f"team/app{number}" for number in range(TOLERATED)))
    for _ in range(TOLERATED + 2):
        await rig.step()
    paused = await rig.webhook(hook)
    assert paused.failures == TOLERATED and paused.disabled_until == rig.now + timedelta(minutes=1)
    assert len(rig.sender.sent) == TOLERATED
    await rig.happen("team/late")
    await rig.step()
    assert len(rig.sender.sent) == TOLERATED, "it waits for the end of the pause"
    rig.sender.outcomes.clear()
    rig.now += timedelta(hours=1)
    await rig.step()
    assert (await rig.webhook(hook)).failures == 0
    assert {d.status for d in await rig.deliveries(hook)} == {"delivered"}


async def test_a_webhook_that_fails_for_ever_is_disabled_and_told_no_more(rig: Rig) -> None:
    hook = await rig.hook()
    async with rig.database.write() as connection:
        await connection.exec_driver_sql(f"UPDATE webhooks SET failures = {DISABLING - 1}")
    rig.sender.outcomes[hook] = AttemptOutcome(410, "it responded with 410")
    await rig.happen("team/app", "team/app2")
    await rig.step()
    assert (await rig.webhook(hook)).is_disabled
    assert [(d.status, d.problem) for d in await rig.deliveries(hook)] == [
        ("dead", "the webhook was disabled"),
        ("dead", "the webhook was disabled"),
    ]
    await rig.happen("team/app3")
    await rig.step()
    assert len(rig.sender.sent) == 1 and len(await rig.deliveries(hook)) == 2


async def test_too_many_deliveries_that_wait_in_a_project_are_dead_the_oldest_first(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_deliveries, "MOST_WAITING", 5)
    async with rig.database.write() as connection:
        group, other = await add_group(connection), await add_group(connection, "other")
    hooks, elsewhere = [await rig.hook(group) for _ in range(2)], await rig.hook(other)
    async with rig.database.write() as connection:
        later = (NOW + timedelta(days=1)).isoformat(sep=" ")
        await connection.exec_driver_sql(f"UPDATE webhooks SET failures = 5, disabled_until = '{later}'")
    await rig.happen("other/app", *(f"team/app{number}" for number in range(4)))
    await rig.step()
    together = [delivery for hook in hooks for delivery in await rig.deliveries(hook)]
    ended = [delivery.status for delivery in sorted(together, key=lambda delivery: delivery.id)]
    assert ended == ["dead"] * 3 + ["pending"] * 5
    assert [delivery.status for delivery in await rig.deliveries(elsewhere)] == ["pending"]


async def test_deliveries_are_kept_for_some_days_after_their_end(rig: Rig) -> None:
    hook = await rig.hook()
    await rig.happen("team/app")
    await rig.step()
    rig.now += KEPT
    await rig.notifier.trim()
    assert len(await rig.deliveries(hook)) == 1
    rig.now += timedelta(seconds=1)
    await rig.notifier.trim()
    assert await rig.deliveries(hook) == []


async def test_a_webhook_goes_with_its_project_and_its_group(rig: Rig) -> None:
    async with rig.database.write() as connection:
        group, project = await add_group(connection), await add_project(connection)
    await rig.hook(group)
    await rig.hook(project.key)
    await rig.happen("team/app")
    async with rig.database.write() as connection:
        await connection.exec_driver_sql("DELETE FROM projects")
        await connection.exec_driver_sql("DELETE FROM groups")
    assert await rig.database.query(webhooks.list_all) == []
    await rig.step()
    assert rig.sender.sent == []


async def test_pulls_wait_in_memory_up_to_a_number_and_are_written_only_if_they_are_wanted(rig: Rig) -> None:
    notices = PulledNotices(rig.database, max_pending=3)
    notices.note(pull(NOW.timestamp(), "team/unwanted"))
    await notices.flush()
    await rig.hook()
    await notices.flush()
    for number in range(5):
        notices.note(pull(NOW.timestamp(), f"team/app{number}"))
    await notices.flush()
    events = await rig.database.transact(partial(webhook_events.take, limit=10))
    assert [event.path for event in events] == ["team/app2", "team/app3", "team/app4"]
    assert events[0].trigger is Trigger.PULL and events[0].tag == "latest"


async def test_those_alone_are_looked_at_that_may_be_told(rig: Rig) -> None:
    async with rig.database.write() as connection:
        group, project = await add_group(connection), await add_project(connection)
        other = await add_group(connection, "others")
    everywhere, of_group, of_project = await rig.hook(), await rig.hook(group), await rig.hook(project.key)
    await rig.hook(other)
    told = partial(webhooks.list_told, projects=[project.id], groups=[group.id])
    assert [webhook.id for webhook in await rig.database.query(told)] == [everywhere, of_group, of_project]


async def test_no_more_than_so_many_deliveries_are_kept_that_have_ended(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_deliveries, "MOST_ENDED", 2)
    webhook = await rig.hook()
    for number in range(5):
        await rig.happen(f"team/app{number}")
        await rig.step()
    paths = [delivery.payload.partition('"repository":"')[2][:9] for delivery in await rig.deliveries(webhook)]
    assert paths == ["team/app2", "team/app3", "team/app4"]


async def test_webhooks_of_one_project_together_keep_so_many_deliveries_that_have_ended(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_deliveries, "MOST_ENDED_TOGETHER", 3)
    hooks = [await rig.hook() for _ in range(2)]
    for number in range(3):
        await rig.happen(f"team/app{number}")
        await rig.step()
    await rig.happen("team/last")
    await rig.notifier._fan_out()
    assert sum([len(await rig.deliveries(hook)) for hook in hooks]) == 3 + 2, "and those that wait"
