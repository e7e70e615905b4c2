"""WebhookTurns: who is sent something next, where not all can be at the same time."""

from collections import Counter

from gateway.db.webhook_deliveries import DueWebhook
from gateway.notifications.turns import WebhookTurns


def owned(owner: str, *ids: int) -> list[DueWebhook]:
    return [DueWebhook(id, owner) for id in ids]


def test_an_owner_of_many_webhooks_leaves_others_their_turns() -> None:
    turns, due = WebhookTurns(), [*owned("many", *range(100)), *owned("one", 100), *owned("two", 101)]
    first = turns.choose(due, Counter(), 4, 3)
    assert [webhook.owner for webhook in first] == ["many", "one", "two", "many"]
    assert [webhook.owner for webhook in turns.choose(due, Counter(many=3), 4, 3)] == ["one", "two"]


def test_whoever_had_a_turn_last_comes_last_however_long_what_is_due_has_waited() -> None:
    turns, due = WebhookTurns(), [*owned("many", *range(3)), *owned("one", 100)]
    told = [turns.choose(due, Counter(), 1, 1)[0].id for _ in range(6)]
    assert told == [0, 100, 1, 100, 2, 100]


def test_there_is_no_more_than_is_due_and_may_be() -> None:
    assert turns_of(owned("one", 1, 2), 9, 9) == [1, 2]
    assert turns_of(owned("one", 1, 2), 9, 1) == [1]
    assert turns_of([], 9, 9) == []


def turns_of(due: list[DueWebhook], free: int, share: int) -> list[int]:
    return [webhook.id for webhook in WebhookTurns().choose(due, Counter(), free, share)]
