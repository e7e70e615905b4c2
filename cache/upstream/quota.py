"""Quota: the ledger as the requests of one source use it: whether one may be sent, and what its response changes."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import structlog

from cache.upstream import allowance
from cache.upstream.allowance import Allowance, RequestKind, SavingMode, StatedLimit
from cache.upstream.errors import RateLimited
from cache.upstream.image_limits import ImageLimits
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
        self._name, self._whom = name or source.origin.netloc, whom
        self._pulling = 0
        self._lists = _ListPause()
        self._images = ImageLimits()

    def pause(self, kind: RequestKind, image: str = "") -> float:
        """Seconds until such a request may be sent, for an image if one is named; a moment if requests in progress
        already use the rest of the limit."""
        known, now = self._ledger.find(self._source), self._ledger.clock()
        if seconds := self._images.pause(image, now):
            return seconds
        if known.everything and self._images.may_try(image, now):
            return 0.0
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
    def request(self, kind: RequestKind, image: str = "") -> Iterator["CountedRequest"]:
        """Count a request for an image within the block. Raises RateLimited if it must not be sent."""
        now = self._ledger.clock()
        if kind is RequestKind.LIST and (seconds := self._lists.pause(image, now)):
            reason = f"{self._name} says that {self._whom} requested too many lists, so none are requested for a while"
            raise RateLimited(reason, math.ceil(seconds))
        known = self._ledger.find(self._source)
        if seconds := self._images.pause(image, now):
            limited = replace(known, until=now + seconds, everything=True)
            raise RateLimited(allowance.in_words(limited, self._name, self._whom, now), math.ceil(seconds))
        if not (known.everything and self._images.may_try(image, now)):
            self._admit(known, kind, now)
        self._pulling += kind is RequestKind.PULL
        try:
            yield CountedRequest(self._ledger, self._source, kind, now, image, self._lists, self._images)
        finally:
            self._pulling -= kind is RequestKind.PULL

    def _admit(self, known: Allowance, kind: RequestKind, now: float) -> None:
        """Raise RateLimited if a request must not be sent, as the first one after a pause or at all."""
        if allowance.needs_probe(known, kind, self.free_checks, now) and now >= known.until:
            known = self._claim_probe(kind, now)
        self._refuse(known, kind, now)

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
    """Until when this process requests no lists, since one was refused with 429, and the images whose it was."""

    until: float = 0.0
    images: ImageLimits = field(default_factory=ImageLimits)

    def pause(self, image: str, now: float) -> float:
        """Seconds until a list of an image may be requested."""
        if self.images.may_try(image, now):
            return 0.0
        return max(self.images.pause(image, now), self.until - now, 0.0)

    def note_limited(self, image: str, seconds: float, now: float) -> None:
        self.until = now + seconds
        self.images.note_limited(image, self.until, now)

    def note_served(self, image: str, sent: float) -> None:
        if self.images.note_served(image, sent):
            self.until = 0.0


class CountedRequest:
    """One request and its outcome."""

    def __init__(
        self,
        ledger: Ledger,
        source: Source,
        kind: RequestKind,
        sent: float,
        image: str,
        lists: _ListPause,
        images: ImageLimits,
    ) -> None:
        self._ledger, self._source, self._kind, self._sent = ledger, source, kind, sent
        self._image, self._lists, self._images = image, lists, images

    def responded(self, stated: StatedLimit | None, *, served: bool = False) -> None:
        """Record a response other than 429. `served`: whether it was a success."""
        if served:
            self._images.note_served(self._image, self._sent)
        if served and self._kind is RequestKind.LIST:
            self._lists.note_served(self._image, self._sent)
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
            seconds = allowance.FIRST_PAUSE if retry is None else min(max(retry, 1), allowance.RETRY_CAP)
            self._lists.note_limited(self._image, seconds, now)
            return
        known = self._ledger.change(
            self._source, lambda known: allowance.after_refusal(known, self._kind, stated, retry, self._sent, now)
        )
        if known.everything:
            self._images.note_limited(self._image, known.until, now)
        pause = round(known.until - now)
        log.warning(
            "upstream_limits",
            source=str(self._source),
            seconds=pause,
            everything=known.everything,
            reason="the upstream says that it received too many requests",
            remedy="what is cached is served meanwhile; with an account of its own a group has a limit of its own",
        )
