"""Circuit breaker: decides when no requests are sent to a failing upstream, and when one probes it.

A circuit is closed until TRIP_AFTER outages occur in a row. Then it is open: requests fail at once for a while. After
that one request is sent as a probe, whose success closes the circuit and whose failure opens it for twice as long.
Decisions are pure functions; times are seconds of a monotonic clock.
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
"""Seconds after which a probe without an outcome is considered lost, and another one is sent."""


class Admission(Enum):
    """Decision of a circuit breaker about a request: send it, send it as a probe, or refuse it."""

    PASS = "pass"
    PROBE = "probe"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class CircuitState:
    """State of a circuit. `row` lists the subjects of the outages since the last success; `wait` is 0 while the circuit
    is closed."""

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
    """State after a probe was sent: no other request is sent before its outcome is known."""
    return replace(circuit, retry_at=now + PROBE_WITHIN)


def given_up(circuit: CircuitState, now: float) -> CircuitState:
    """State after a probe without an outcome, because its sender left: the next probe may be sent at once."""
    return replace(circuit, retry_at=now)


def failed(circuit: CircuitState, now: float, reason: str, of: str = "", *, probe: bool = False) -> CircuitState:
    """State after an outage. Outages with the same `of` count once, so that a single failing image does not open the
    circuit of the whole host; without `of` every outage counts."""
    if circuit.wait:
        # An outage of a request that was sent before the circuit opened is nothing new.
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
_CONTENT = "\0content"

_Key = tuple[Origin, str]


class GuardedRequest:
    """One request in progress. The first outcome counts; `release` without an outcome records that there is none."""

    def __init__(self, circuits: "CircuitBreakers", keys: list[_Key], probes: list[_Key]) -> None:
        self._circuits, self._keys, self._probes = circuits, keys, probes
        self._reported = False

    def responded(self) -> None:
        self._report(lambda: self._circuits.note_response(self._keys))

    def failed(self, reason: str, *, host: bool) -> None:
        """Record a failure. `host`: the host could not be reached at all."""
        self._report(lambda: self._circuits.note_failure(self._keys, self._probes, reason, host))

    def release(self) -> None:
        self._report(lambda: self._circuits.note_nothing(self._probes))

    def _report(self, note: Callable[[], None]) -> None:
        if not self._reported:
            self._reported = True
            note()


class CircuitBreakers:
    """The circuit breakers of one egress, used by tasks and threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._clock, self._wall = clock, wall
        self._circuits: dict[_Key, CircuitState] = {}
        self._lock = threading.Lock()

    def enter(self, origin: Origin, image: str) -> GuardedRequest:
        """Begin a request. Raises Unavailable at once while the circuit of the host, the image or the host's content is
        open."""
        keys: list[_Key] = [(origin, ""), (origin, image)] if image else [(origin, "")]
        with self._lock:
            now = self._clock()
            content = self._circuits.get((origin, _CONTENT), CLOSED)
            admissions = {key: admission(self._circuits.get(key, CLOSED), now) for key in keys}
            shut = [self._circuits[key] for key in keys if admissions[key] is Admission.REFUSE]
            shut += [content] if admission(content, now) is Admission.REFUSE else []
            if not shut:
                probes = [key for key in keys if admissions[key] is Admission.PROBE]
                for key in probes:
                    self._circuits[key] = probed(self._circuits[key], now)
                return GuardedRequest(self, keys, probes)
        raise self._refusal(origin, shut[0], now)

    def is_open(self, origin: Origin, image: str = "") -> bool:
        """Whether requests to the host, or for the image there, are refused at present, except for a probe."""
        with self._lock:
            content = self._circuits.get((origin, _CONTENT), CLOSED)
            waits = [self._circuits.get((origin, key), CLOSED).wait for key in ("", image)]
            return any(waits) or admission(content, self._clock()) is Admission.REFUSE

    def note_valid_content(self, origin: Origin) -> None:
        """Record that content of the host matched its digest."""
        with self._lock:
            self._circuits.pop((origin, _CONTENT), None)

    def note_invalid_content(self, origin: Origin, reason: str) -> None:
        """Record wrong content of the host. The same content wrong again does not count.

        This circuit has no probe: after the wait all requests pass, and the next wrong content makes the next wait
        longer.
        """
        with self._lock:
            now = self._clock()
            content = self._circuits.get((origin, _CONTENT), CLOSED)
            if reason in content.row:
                return
            over = admission(content, now) is Admission.PROBE
            after = failed(content, now, reason, of=reason, probe=over)
            self._circuits[origin, _CONTENT] = replace(after, row=(*content.row, reason)[-_REASONS:])
            if after.retry_at != content.retry_at:
                log.warning("circuit_opened", upstream=origin.host, image="", reason=reason)

    def note_response(self, keys: list[_Key]) -> None:
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
            if len(self._circuits) > _LIMIT:  # closed circuits are deleted already: the oldest open ones are dropped
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
            f"{origin.host} has been failing since {since:%H:%M:%S} UTC ({shut.reason}); next attempt within {wait} s",
            wait,
        )
