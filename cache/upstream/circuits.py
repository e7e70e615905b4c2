"""The circuits of one upstream: one for each host that it uses, one for each image that fails alone, one for its word.

Tasks and threads share them. Where a host cannot be reached, every failure speaks for the host. Where it is reached
and fails all the same, only what was asked for may be broken: then that image has a circuit of its own, and the host's
opens only when different images meet the same. So no image, whoever asks for it how often, takes the others away.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from cache.upstream import circuit_breaker as state
from cache.upstream.circuit_breaker import CLOSED, Circuit, Gate
from cache.upstream.errors import Unavailable
from cache.values import Origin

log = structlog.get_logger()

_LIMIT = 1000
_REASONS = 20
_WORD = "\0word"

_Key = tuple[Origin, str]


class Passage:
    """One request on its way. What is told first counts; `release` without an outcome before it says that there is
    none."""

    def __init__(self, circuits: "Circuits", keys: list[_Key], probes: list[_Key]) -> None:
        self._circuits, self._keys, self._probes = circuits, keys, probes
        self._told = False

    def answered(self) -> None:
        self._tell(lambda: self._circuits.note_answer(self._keys))

    def failed(self, reason: str, *, host: bool) -> None:
        """`host`: it could not be reached at all."""
        self._tell(lambda: self._circuits.note_failure(self._keys, self._probes, reason, host))

    def release(self) -> None:
        self._tell(lambda: self._circuits.note_nothing(self._probes))

    def _tell(self, note: Callable[[], None]) -> None:
        if not self._told:
            self._told = True
            note()


class Circuits:
    def __init__(self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._clock, self._wall = clock, wall
        self._circuits: dict[_Key, Circuit] = {}
        self._lock = threading.Lock()

    def enter(self, origin: Origin, image: str) -> Passage:
        """Raises Unavailable at once where the host, the image or the host's word has failed too often."""
        keys: list[_Key] = [(origin, ""), (origin, image)] if image else [(origin, "")]
        with self._lock:
            now = self._clock()
            word = self._circuits.get((origin, _WORD), CLOSED)
            gates = {key: state.gate(self._circuits.get(key, CLOSED), now) for key in keys}
            shut = [self._circuits[key] for key in keys if gates[key] is Gate.REFUSE]
            shut += [word] if state.gate(word, now) is Gate.REFUSE else []
            if not shut:
                probes = [key for key in keys if gates[key] is Gate.PROBE]
                for key in probes:
                    self._circuits[key] = state.probed(self._circuits[key], now)
                return Passage(self, keys, probes)
        raise self._refusal(origin, shut[0], now)

    def is_open(self, origin: Origin, image: str = "") -> bool:
        """Whether nothing of the host, or of the image there, is asked at present, or only a probe."""
        with self._lock:
            word = self._circuits.get((origin, _WORD), CLOSED)
            waits = [self._circuits.get((origin, key), CLOSED).wait for key in ("", image)]
            return any(waits) or state.gate(word, self._clock()) is Gate.REFUSE

    def believe(self, origin: Origin) -> None:
        """Content of the host had its digest."""
        with self._lock:
            self._circuits.pop((origin, _WORD), None)

    def doubt(self, origin: Origin, reason: str) -> None:
        """Content of the host was wrong. The same thing wrong again says nothing more about all the others.

        There is no probe: once the wait is over all may pass, and the next wrong answer makes the next wait longer.
        """
        with self._lock:
            now = self._clock()
            word = self._circuits.get((origin, _WORD), CLOSED)
            if reason in word.row:
                return
            over = state.gate(word, now) is Gate.PROBE
            after = state.failed(word, now, reason, of=reason, probe=over)
            self._circuits[origin, _WORD] = replace(after, row=(*word.row, reason)[-_REASONS:])
            if after.retry_at != word.retry_at:
                log.warning("circuit_opened", upstream=origin.host, image="", reason=reason)

    def note_answer(self, keys: list[_Key]) -> None:
        with self._lock:
            for key in keys:
                before = self._circuits.pop(key, CLOSED)
                if before.wait:
                    log.info("circuit_closed", upstream=key[0].host, image=key[1])

    def note_failure(self, keys: list[_Key], probes: list[_Key], reason: str, host: bool) -> None:
        with self._lock:
            now = self._clock()
            for origin, image in keys[:1] if host else keys:
                known = self._circuits.get((origin, image), CLOSED)
                of = "" if host or image else (keys[-1][1] or "\0")
                after = state.failed(known, now, reason, of, probe=(origin, image) in probes)
                self._circuits[origin, image] = after
                if after.wait and not known.wait:
                    log.warning("circuit_opened", upstream=origin.host, image=image, reason=reason)
            for key in probes:
                if host and key not in keys[:1]:
                    self._circuits[key] = state.given_up(self._circuits.get(key, CLOSED), now)
            if len(self._circuits) > _LIMIT:  # those that closed are gone already: the oldest are forgotten
                for key in list(self._circuits)[: _LIMIT // 2]:
                    del self._circuits[key]

    def note_nothing(self, probes: list[_Key]) -> None:
        with self._lock:
            for key in probes:
                if key in self._circuits:
                    self._circuits[key] = state.given_up(self._circuits[key], self._clock())

    def _refusal(self, origin: Origin, shut: Circuit, now: float) -> Unavailable:
        since = datetime.fromtimestamp(self._wall() - (now - shut.since), UTC)
        wait = int(max(0.0, shut.retry_at - now)) + 1
        return Unavailable(
            f"{origin.host} fails since {since:%H:%M:%S} UTC ({shut.reason}); it is asked again within {wait} s", wait
        )
