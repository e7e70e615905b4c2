"""Weather of faults: chooses which responses of the upstream are spoilt, and how; equal seeds and orders of requests
give equal choices."""

import random
import threading
import time
from collections.abc import Callable

from tests.parts.holds import Hold
from tests.parts.lies import (
    Lie,
    chunked,
    delayed,
    flipped,
    html,
    long,
    refused,
    reset,
    short,
    stalled,
    surplus,
    trickled,
    unfinished,
    until_close,
    whole,
)
from tests.parts.records import Record

from .proxy import HONEST

OFFSETS = (0, 1, 1_000, 32_768, 500_000, 7_000_000, -2, -1)
LONGEST_STALL = 8.0

Draw = Callable[[random.Random], Lie]

BODIES: tuple[Draw, ...] = (
    lambda chance: reset(chance.choice(OFFSETS)),
    lambda chance: reset(chance.choice(OFFSETS)),
    lambda chance: short(chance.choice(OFFSETS)),
    lambda chance: flipped(chance.choice((0, -1))),
    lambda chance: long(b"!" * chance.choice((1, 5_000))),
    lambda chance: surplus(),
    lambda chance: unfinished(chance.choice(OFFSETS)),
    lambda chance: until_close(chance.choice(OFFSETS)),
    lambda chance: chunked(),
    lambda chance: whole(),
    lambda chance: stalled(chance.choice((-1, 0, 1_000, 500_000))),
    lambda chance: trickled(64_000, 0.02),
    lambda chance: html(),
)
ANSWERS: tuple[Draw, ...] = (
    lambda chance: refused(500),
    lambda chance: refused(503, retry_after=1),
    lambda chance: refused(429, "TOOMANYREQUESTS", retry_after=1),
    lambda chance: delayed(chance.uniform(0.2, 3)),
    lambda chance: reset(0),
    lambda chance: stalled(-1),
)


class Weather:
    """Spoils a share of the responses while it is `bad`. `look`, called from time to time, releases holds."""

    def __init__(self, seed: int, share: float) -> None:
        self._chance = random.Random(seed)
        self._share = share
        self._lock = threading.Lock()
        self._holds: list[tuple[float, Hold]] = []
        self.bad = True

    def over(self, draws: tuple[Draw, ...], methods: tuple[str, ...] = ("GET", "HEAD")) -> Callable[[Record], Lie]:
        """Makes the weather function of a proxy; it draws from `draws`, and spoils the responses to `methods`."""

        def choose(record: Record) -> Lie:
            with self._lock:
                if not self.bad or record.method not in methods or self._chance.random() >= self._share:
                    return HONEST
                lie = self._chance.choice(draws)(self._chance)
                if lie.hold is not None:
                    self._holds.append((time.monotonic() + self._chance.uniform(0.5, LONGEST_STALL), lie.hold))
                return lie

        return choose

    def look(self) -> None:
        """Releases the holds that have lasted long enough."""
        now = time.monotonic()
        with self._lock:
            due = [hold for at, hold in self._holds if at <= now or not self.bad]
            self._holds = [(at, hold) for at, hold in self._holds if hold not in due]
        for hold in due:
            hold.release()

    def clear(self) -> None:
        """Ends all lies, and releases every hold."""
        self.bad = False
        self.look()
