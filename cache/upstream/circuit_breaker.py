"""When an upstream that fails is left alone, and when it is asked again; pure.

A circuit is closed until so many outages came in a row. Then it is open: nobody asks for a while, in which everybody is
refused at once. After that one request goes out as a probe, whose success closes the circuit and whose failure opens it
for twice as long. Times are those of a steady clock, in seconds.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum

import structlog

from cache.upstream.errors import Unavailable
from cache.values import Origin

TRIP_AFTER = 3
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0

PROBE_WITHIN = 30.0
"""A probe of which nothing is heard for so long is taken for lost, and another goes out."""


class Admission(Enum):
    PASS = "pass"
    PROBE = "probe"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class CircuitState:
    """`row` holds who met each outage since the last success; `wait` is 0 while the circuit is closed."""

    row: tuple[str, ...] = ()
    since: float = 0.0
    wait: float = 0.0
    retry_at: float = 0.0
    reason: str = ""


CLOSED = CircuitState()


def admission(circuit: CircuitState, now: float) -> Admission:
    if not circuit.wait:
        return Admission.PASS
    return Admission.PROBE if now >= circuit.retry_at else Admission.REFUSE


def probed(circuit: CircuitState, now: float) -> CircuitState:
    """A probe goes out: nobody else does before its outcome is known."""
    return replace(circuit, retry_at=now + PROBE_WITHIN)


def given_up(circuit: CircuitState, now: float) -> CircuitState:
    """The probe ended without an outcome, since whoever sent it left: the next one may go at once."""
    return replace(circuit, retry_at=now)


def failed(circuit: CircuitState, now: float, reason: str, of: str = "", *, probe: bool = False) -> CircuitState:
    """An outage. One that has `of` counts once for each, so that no single thing, which may be all that is broken,
    speaks for the whole; without it every outage counts."""
    if circuit.wait:
        # What was sent before the circuit opened tells nothing new.
        return _opened(circuit, now, reason, min(circuit.wait * 2, LONGEST_WAIT)) if probe else circuit
    if of and of in circuit.row:
        return replace(circuit, reason=reason)
    row = (*circuit.row, of)
    since = circuit.since if circuit.row else now
    counted = replace(circuit, row=row, since=since, reason=reason)
    return _opened(counted, now, reason, FIRST_WAIT) if len(row) >= TRIP_AFTER else counted


def _opened(circuit: CircuitState, now: float, reason: str, wait: float) -> CircuitState:
    return replace(circuit, wait=wait, retry_at=now + wait, reason=reason)


log = structlog.get_logger()

_LIMIT = 1000
_REASONS = 20
_WORD = "\0word"

_Key = tuple[Origin, str]


class GuardedRequest:
    """One request on its way. What is told first counts; `release` without an outcome before it says that there is
    none."""

    def __init__(self, circuits: "CircuitBreakers", keys: list[_Key], probes: list[_Key]) -> None:
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


class CircuitBreakers:
    def __init__(self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._clock, self._wall = clock, wall
        self._circuits: dict[_Key, CircuitState] = {}
        self._lock = threading.Lock()

    def enter(self, origin: Origin, image: str) -> GuardedRequest:
        """Raises Unavailable at once where the host, the image or the host's word has failed too often."""
        keys: list[_Key] = [(origin, ""), (origin, image)] if image else [(origin, "")]
        with self._lock:
            now = self._clock()
            word = self._circuits.get((origin, _WORD), CLOSED)
            gates = {key: admission(self._circuits.get(key, CLOSED), now) for key in keys}
            shut = [self._circuits[key] for key in keys if gates[key] is Admission.REFUSE]
            shut += [word] if admission(word, now) is Admission.REFUSE else []
            if not shut:
                probes = [key for key in keys if gates[key] is Admission.PROBE]
                for key in probes:
                    self._circuits[key] = probed(self._circuits[key], now)
                return GuardedRequest(self, keys, probes)
        raise self._refusal(origin, shut[0], now)

    def is_open(self, origin: Origin, image: str = "") -> bool:
        """Whether nothing of the host, or of the image there, is asked at present, or only a probe."""
        with self._lock:
            word = self._circuits.get((origin, _WORD), CLOSED)
            waits = [self._circuits.get((origin, key), CLOSED).wait for key in ("", image)]
            return any(waits) or admission(word, self._clock()) is Admission.REFUSE

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
            over = admission(word, now) is Admission.PROBE
            after = failed(word, now, reason, of=reason, probe=over)
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
                after = failed(known, now, reason, of, probe=(origin, image) in probes)
                self._circuits[origin, image] = after
                if after.wait and not known.wait:
                    log.warning("circuit_opened", upstream=origin.host, image=image, reason=reason)
            for key in probes:
                if host and key not in keys[:1]:
                    self._circuits[key] = given_up(self._circuits.get(key, CLOSED), now)
            if len(self._circuits) > _LIMIT:  # those that closed are gone already: the oldest are forgotten
                for key in list(self._circuits)[: _LIMIT // 2]:
                    del self._circuits[key]

    def note_nothing(self, probes: list[_Key]) -> None:
        with self._lock:
            for key in probes:
                if key in self._circuits:
                    self._circuits[key] = given_up(self._circuits[key], self._clock())

    def _refusal(self, origin: Origin, shut: CircuitState, now: float) -> Unavailable:
        since = datetime.fromtimestamp(self._wall() - (now - shut.since), UTC)
        wait = int(max(0.0, shut.retry_at - now)) + 1
        return Unavailable(
            f"{origin.host} fails since {since:%H:%M:%S} UTC ({shut.reason}); it is asked again within {wait} s", wait
        )
