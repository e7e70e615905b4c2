"""Quota: the ledger as the requests of one source use it: whether one may be sent, and what its response changes."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from cache.upstream import allowance
from cache.upstream.allowance import Allowance, RequestKind, SavingMode, StatedLimit
from cache.upstream.errors import RateLimited
from cache.upstream.ledger import Ledger
from cache.values import Source

log = structlog.get_logger()

_AT_LAST = 0.05
"""Seconds to wait while requests in progress already use the rest of a limit."""


class Quota:
    """Ledger for one source. `name` and `whom` are for messages. `free_checks`: HEAD requests for manifests are known
    not to count."""

    def __init__(
        self, ledger: Ledger, source: Source, name: str = "", whom: str = "this gateway", free_checks: bool = False
    ) -> None:
        self.free_checks = free_checks
        self._ledger, self._source = ledger, source
        self._name, self._whom = name or source.origin.host, whom
        self._pulling = 0
        self._lists = _ListPause()

    def pause(self, kind: RequestKind) -> float:
        """Seconds until such a request may be sent; a moment if requests in progress already use the rest of the
        limit."""
        known, now = self._ledger.find(self._source), self._ledger.clock()
        seconds = allowance.pause(known, kind, self.free_checks, now)
        left = allowance.left_now(known, now)
        if not seconds and kind is RequestKind.PULL and left is not None and self._pulling >= max(math.floor(left), 1):
            return _AT_LAST
        return seconds

    def saving_mode(self) -> SavingMode:
        return allowance.saving_mode(self._ledger.find(self._source), self._ledger.clock())

    def reason(self) -> str:
        """Reason why nothing is sent at present, for a person."""
        return allowance.in_words(self._ledger.find(self._source), self._name, self._whom, self._ledger.clock())

    def saving_refusal(self) -> RateLimited:
        """Reason why a revalidation is not sent although it could be."""
        known = self._ledger.find(self._source)
        left = f"{known.remaining} of {known.limit} are left, for images that are not cached"
        return RateLimited(f"{self._name}'s pull limit for {self._whom} is nearly used up: {left}")

    def check(self, kind: RequestKind) -> None:
        """Raise RateLimited if such a request must not be sent."""
        self._refuse(self._ledger.find(self._source), kind, self._ledger.clock())

    @contextmanager
    def request(self, kind: RequestKind) -> Iterator["CountedRequest"]:
        """Count a request within the block. Raises RateLimited if it must not be sent."""
        now = self._ledger.clock()
        if kind is RequestKind.LIST and now < self._lists.until:
            reason = f"{self._name} says that {self._whom} requested too many lists, so none are requested for a while"
            raise RateLimited(reason, math.ceil(self._lists.until - now))
        known = self._ledger.find(self._source)
        if allowance.needs_probe(known, kind, self.free_checks, now) and now >= known.until:
            known = self._claim_probe(kind, now)
        self._refuse(known, kind, now)
        self._pulling += kind is RequestKind.PULL
        try:
            yield CountedRequest(self._ledger, self._source, kind, now, self._lists)
        finally:
            self._pulling -= kind is RequestKind.PULL

    def _claim_probe(self, kind: RequestKind, now: float) -> Allowance:
        """Claim the first request after a pause, among all processes; for the others the pause continues."""
        before: list[Allowance] = []

        def claim(known: Allowance) -> Allowance:
            before.append(known)
            mine = allowance.needs_probe(known, kind, self.free_checks, now) and now >= known.until
            return allowance.after_probe_sent(known, now) if mine else known

        self._ledger.change(self._source, claim)
        return before[0]

    def _refuse(self, known: Allowance, kind: RequestKind, now: float) -> None:
        if seconds := allowance.pause(known, kind, self.free_checks, now):
            raise RateLimited(allowance.in_words(known, self._name, self._whom, now), math.ceil(seconds))


@dataclass(slots=True)
class _ListPause:
    """Until when this process requests no lists, since one was refused with 429."""

    until: float = 0.0


class CountedRequest:
    """One request and its outcome."""

    def __init__(self, ledger: Ledger, source: Source, kind: RequestKind, sent: float, lists: _ListPause) -> None:
        self._ledger, self._source, self._kind, self._sent, self._lists = ledger, source, kind, sent, lists

    def responded(self, stated: StatedLimit | None) -> None:
        known, now = self._ledger.find(self._source), self._ledger.clock()
        after = allowance.after_response(known, self._kind, stated, self._sent, now)
        if after == known:
            return
        at_once = (after.until, after.everything) != (known.until, known.everything)
        record = self._ledger.change if at_once else self._ledger.note
        record(self._source, lambda known: allowance.after_response(known, self._kind, stated, self._sent, now))

    def refused(self, stated: StatedLimit | None, retry: int | None) -> None:
        if self._kind is RequestKind.PART:
            return
        now = self._ledger.clock()
        if self._kind is RequestKind.LIST:
            self._lists.until = now + min(
                allowance.FIRST_PAUSE if retry is None else max(retry, 1), allowance.RETRY_CAP
            )
            return
        known = self._ledger.change(
            self._source, lambda known: allowance.after_refusal(known, self._kind, stated, retry, self._sent, now)
        )
        seconds = round(known.until - now)
        log.warning("upstream_limits", source=str(self._source), seconds=seconds, everything=known.everything)
