"""WebhookTurns: which webhooks that something is due for are sent it next, where not all can be at the same time.

Whoever may make one group may make many webhooks, whose receivers take their time. So those who own webhooks take
turns, whatever waits for theirs and since when, and then the webhooks of each owner do.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import count

from cachetools import LRUCache

from gateway.db.webhook_deliveries import DueWebhook

KEPT = 20_000
"""Owners, and webhooks, whose last turns are remembered; others come first."""


class WebhookTurns:
    """Chooses webhooks, and remembers when they and their owners had a turn last. For one event loop."""

    def __init__(self, kept: int = KEPT) -> None:
        self._number = count(1)
        self._owners: LRUCache[str, int] = LRUCache(kept)
        self._webhooks: LRUCache[int, int] = LRUCache(kept)

    def choose(self, due: Iterable[DueWebhook], busy: Counter[str], free: int, share: int) -> Sequence[DueWebhook]:
        """Choose at most `free` webhooks, which have their turn with that. `due`: whichever waits for longest first.

        `busy`: how many webhooks of each owner are being sent something; `share`: how many of one owner may be.
        """
        waiting: defaultdict[str, list[DueWebhook]] = defaultdict(list)
        for webhook in due:
            waiting[webhook.owner].append(webhook)
        for own in waiting.values():
            own.sort(key=lambda webhook: self._webhooks.get(webhook.id, 0))
            own.reverse()  # the next one is at the end
        chosen: list[DueWebhook] = []
        taken = Counter(busy)
        while len(chosen) < free:
            owner = min(
                (owner for owner, own in waiting.items() if own and taken[owner] < share),
                key=lambda owner: self._owners.get(owner, 0),
                default=None,
            )
            if owner is None:
                break
            webhook = waiting[owner].pop()
            taken[owner] += 1
            self._owners[owner] = self._webhooks[webhook.id] = next(self._number)
            chosen.append(webhook)
        return chosen
