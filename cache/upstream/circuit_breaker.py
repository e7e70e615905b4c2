"""Circuit breaker: decides when no requests are sent to a failing upstream, and when one probes it.

What a client can choose (name, digest, reference, query, range) says nothing about a host. So each request has one of
these outcomes, and each circuit counts only some of them:

- UNREACHED: no connection was made. At the upstream's own address it counts for the host, whatever the image: three in
  a row open the host's circuit. At the target of a redirect it counts for the image.
- FAILING: the host responded with 500, 502, 503 or 504, or not in time. It counts for the image. It opens the host's
  circuit where at least five images, and half of those requested within a minute, failed.
- BROKEN: a connection that ended without a response. It counts for the image.
- ALIVE: a response that proves that the registry works, which closes both circuits.
- NEUTRAL: any other response, such as 429 or a 404 that no registry wrote. It changes no circuit.

An open circuit refuses requests for a while. After that the host's circuit is probed by a GET of /v2/, which no client
has chosen; if it responds, one real request is sent, and its outcome ALIVE closes the circuit. A host that could be
reached is probed at once, and of the real requests those for images that have not failed need not wait: a client that
knows what fails shuts nobody else out. An image's circuit is probed by a request for that image, in the same manner
first for a path that has not failed; while it is open, requests for the image neither count for the host nor probe it.
Wrong bytes count for the image alone, in a circuit without a probe.

Decisions are pure functions; times are seconds of a monotonic clock.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum
from typing import TypeVar

import structlog

from cache.upstream.errors import CircuitOpen
from cache.values import Origin

TRIP_AFTER = 3
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0

WINDOW = 60.0
"""Seconds for which a request, and the failure of one, count for the host."""

FAILED_IMAGES = 5
"""Number of images that must have failed before a host that can be reached counts as failing."""

PROBE_WITHIN = 30.0
"""Seconds after which a probe without an outcome is considered lost, and another one is sent."""


class Admission(Enum):
    """Decision of a circuit breaker about a request: send it, send it as a probe, or refuse it."""

    PASS = "pass"
    PROBE = "probe"
    REFUSE = "refuse"


class RequestOutcome(Enum):
    """Outcome of one request; the module's docstring says what each one counts for."""

    ALIVE = "alive"
    NEUTRAL = "neutral"
    BROKEN = "broken"
    FAILING = "failing"
    UNREACHED = "unreached"


def outcome_of(status: int, *, speaks_for_registry: bool) -> RequestOutcome:
    """Outcome of a response. `speaks_for_registry`: whether an error is the registry's own statement."""
    if status in (500, 502, 503, 504):
        return RequestOutcome.FAILING
    return RequestOutcome.ALIVE if 200 <= status < 400 or speaks_for_registry else RequestOutcome.NEUTRAL


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
    """State after a probe that showed nothing, because its sender left or the response was NEUTRAL: the next probe may
    be sent at once."""
    return replace(circuit, retry_at=now)


def failed(circuit: CircuitState, now: float, reason: str, of: str = "", *, probe: bool = False) -> CircuitState:
    """State after an outage. Outages with the same `of` count once; without `of` every outage counts."""
    if circuit.wait:
        # An outage of a request that was sent before the circuit opened is nothing new.
        return opened(circuit, now, reason, min(circuit.wait * 2, LONGEST_WAIT)) if probe else circuit
    if of and of in circuit.row:
        return replace(circuit, reason=reason)
    row = (*circuit.row, of)
    since = circuit.since if circuit.row else now
    counted = replace(circuit, row=row, since=since, reason=reason)
    return opened(counted, now, reason, FIRST_WAIT) if len(row) >= TRIP_AFTER else counted


def opened(circuit: CircuitState, now: float, reason: str, wait: float) -> CircuitState:
    return replace(circuit, wait=wait, retry_at=now + wait, reason=reason)


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """The latest request for an image at a host, and its latest failure; None if there was none since it was ALIVE."""

    requested: float
    failed: float | None = None

    def has_failed(self, now: float) -> bool:
        return self.failed is not None and now - self.failed < WINDOW


def failing_since(images: Mapping[str, ImageRecord], now: float) -> float | None:
    """Time of the first failure at a host that fails at least FAILED_IMAGES images and half of those requested; None
    if the host does not count as failing."""
    requested = sum(1 for record in images.values() if now - record.requested < WINDOW)
    failures = [record.failed for record in images.values() if record.failed is not None]
    recent = [failure for failure in failures if now - failure < WINDOW]
    return min(recent) if len(recent) >= FAILED_IMAGES and 2 * len(recent) >= requested else None


log = structlog.get_logger()

V = TypeVar("V")

_LIMIT = 1000
_REASONS = 20

_ImageKey = tuple[Origin, str]


@dataclass(slots=True)
class _Image:
    """`failed`: the latest paths that failed. Others may be sent from `fresh_at` on, while the circuit is open."""

    state: CircuitState = CLOSED
    failed: tuple[str, ...] = ()
    fresh_at: float = 0.0

    def state_for(self, path: str) -> CircuitState:
        """The state as a request for a path meets it."""
        if not self.state.wait or path in self.failed:
            return self.state
        return replace(self.state, retry_at=self.fresh_at)


@dataclass(slots=True)
class _Host:
    """`failed_until`: before it, no image that has failed is sent while the circuit is open; `failed_wait`: the last
    such wait."""

    state: CircuitState = CLOSED
    images: dict[str, ImageRecord] = field(default_factory=dict)
    failed_until: float = 0.0
    failed_wait: float = 0.0

    def state_for(self, image: str, now: float) -> CircuitState:
        """The state as requests for an image meet it."""
        record = self.images.get(image)
        if not self.state.wait or record is None or not record.has_failed(now):
            return self.state
        return replace(self.state, retry_at=max(self.state.retry_at, self.failed_until))

    def hold_failed(self, now: float) -> None:
        """Let images that have failed wait, each time twice as long, while others may be sent at once."""
        self.failed_wait = min(max(2 * self.failed_wait, FIRST_WAIT), LONGEST_WAIT)
        self.failed_until = now + self.failed_wait

    def close(self) -> None:
        self.state = CLOSED
        self.images.clear()
        self.failed_until = self.failed_wait = 0.0

    def note(self, image: str, record: ImageRecord) -> None:
        self.images.pop(image, None)
        self.images[image] = record
        if len(self.images) > _LIMIT:
            del self.images[next(iter(self.images))]


class GuardedRequest:
    """One request in progress. The first outcome counts; `release` without an outcome records that there is none.

    `redirected`: whether it goes to the target of a redirect. `of_host`: whether its outcome may count for the host.
    `probes_host`: whether the host is to be probed by a request of our own before this one is sent. `probes_image`:
    whether this one probes the image.
    """

    def __init__(
        self,
        circuits: "CircuitBreakers",
        origin: Origin,
        image: str,
        *,
        redirected: bool,
        probes_host: bool,
        probes_image: bool,
        path: str,
    ) -> None:
        self.origin, self.image, self.path, self.redirected = origin, image, path, redirected
        self.probes_host, self.probes_image = probes_host, probes_image
        self.of_host = not redirected and not probes_image
        self._circuits = circuits
        self._reported = False

    def ended(self, outcome: RequestOutcome, reason: str = "") -> None:
        self._report(lambda: self._circuits.note(self, outcome, reason))

    def probe_failed(self, reason: str) -> None:
        """Record that the host did not respond to its probe, so that this request is not sent."""
        self._report(lambda: self._circuits.note_failed_probe(self, reason))

    def release(self) -> None:
        self.ended(RequestOutcome.NEUTRAL)

    def _report(self, note: Callable[[], None]) -> None:
        if not self._reported:
            self._reported = True
            note()


class CircuitBreakers:
    """The circuit breakers of one egress, used by tasks and threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._clock, self._wall = clock, wall
        self._hosts: dict[Origin, _Host] = {}
        self._images: dict[_ImageKey, _Image] = {}
        self._contents: dict[_ImageKey, CircuitState] = {}
        self._lock = threading.Lock()

    def enter(self, origin: Origin, image: str = "", path: str = "", *, redirected: bool = False) -> GuardedRequest:
        """Begin a request for a path; without `image` its outcome counts for no image. `redirected`: the host is the
        target of a redirect, so the outcome counts for the image alone.

        Raises CircuitOpen at once while the circuit of the host, or of the image there, is open.
        """
        key = (origin, image)
        with self._lock:
            now = self._clock()
            own = self._images.get(key, _Image()).state_for(path)
            content = self._contents.get(key, CLOSED)
            host = _Host() if redirected else self._hosts.setdefault(origin, _Host())
            reached = host.state_for(image, now)
            shut = [state for state in (reached, own, content) if admission(state, now) is Admission.REFUSE]
            if not shut and own.wait and host.state.wait:
                shut = [own]
            if not shut:
                guarded = GuardedRequest(
                    self,
                    origin,
                    image,
                    redirected=redirected,
                    probes_host=host.state.wait > 0,
                    probes_image=own.wait > 0,
                    path=path,
                )
                self._note_sent(guarded, host, now)
                return guarded
        raise self._refusal(origin, shut[0], now)

    def is_open(self, origin: Origin, image: str = "") -> bool:
        """Whether requests to the host, or for the image there, are refused at present, except for a probe."""
        with self._lock:
            content = self._contents.get((origin, image), CLOSED)
            waits = (
                self._hosts.get(origin, _Host()).state.wait,
                self._images.get((origin, image), _Image()).state.wait,
            )
            return any(waits) or admission(content, self._clock()) is Admission.REFUSE

    def note(self, request: GuardedRequest, outcome: RequestOutcome, reason: str) -> None:
        """Record the outcome of a request for its image, and for the host where it may count for it."""
        with self._lock:
            now = self._clock()
            if request.of_host:
                self._note_host(request.origin, request.image, outcome, reason, now, probe=request.probes_host)
            if request.image:
                of_image = outcome is not RequestOutcome.UNREACHED or not request.of_host
                seen = outcome if of_image else RequestOutcome.NEUTRAL
                key = (request.origin, request.image)
                self._note_image(key, request.path, seen, reason, now, probe=request.probes_image)

    def note_alive(self, origin: Origin, image: str, *, redirected: bool) -> None:
        """Record that a response, whose body was read after its outcome was recorded, is the registry's own."""
        with self._lock:
            now = self._clock()
            if not redirected and not self._images.get((origin, image), _Image()).state.wait:
                self._note_host(origin, image, RequestOutcome.ALIVE, "", now)
            self._note_image((origin, image), "", RequestOutcome.ALIVE, "", now, probe=False)

    def note_failed_probe(self, request: GuardedRequest, reason: str) -> None:
        """Record that the host did not respond to its probe."""
        with self._lock:
            host = self._hosts.setdefault(request.origin, _Host())
            if host.state.wait:
                host.state = failed(host.state, self._clock(), reason, probe=True)

    def note_valid_content(self, origin: Origin, image: str) -> None:
        """Record that content of the image matched its digest."""
        with self._lock:
            self._contents.pop((origin, image), None)

    def note_invalid_content(self, origin: Origin, image: str, reason: str) -> None:
        """Record wrong content of the image. The same content wrong again does not count.

        This circuit has no probe: after the wait all requests pass, and the next wrong content makes the next wait
        longer.
        """
        with self._lock:
            now, key = self._clock(), (origin, image)
            content = self._contents.get(key, CLOSED)
            if reason in content.row:
                return
            over = admission(content, now) is Admission.PROBE
            after = failed(content, now, reason, of=reason, probe=over)
            self._contents[key] = replace(after, row=(*content.row, reason)[-_REASONS:])
            _bound(self._contents)
            if after.retry_at != content.retry_at:
                log.warning("circuit_opened", upstream=origin.netloc, image=image, reason=reason)

    def _note_sent(self, request: GuardedRequest, host: _Host, now: float) -> None:
        image, key = request.image, (request.origin, request.image)
        if request.probes_image:
            known = self._images[key]
            known.state, known.fresh_at = probed(known.state, now), now + PROBE_WITHIN
        if request.probes_host:
            host.state = probed(host.state, now)
        elif request.of_host and image:
            host.note(image, ImageRecord(now, host.images.get(image, ImageRecord(now)).failed))

    def _note_host(
        self, origin: Origin, image: str, outcome: RequestOutcome, reason: str, now: float, *, probe: bool = False
    ) -> None:
        host = self._hosts.setdefault(origin, _Host())
        before = host.state
        match outcome:
            case RequestOutcome.ALIVE:
                host.state = CLOSED
                if before.wait:
                    host.close()
                    log.info("circuit_closed", upstream=origin.netloc, image="")
                if image:
                    host.note(image, ImageRecord(now))
            case RequestOutcome.UNREACHED:
                host.state = failed(before, now, reason, probe=probe)
            case RequestOutcome.FAILING if probe and before.wait:
                # The host responded to its own probe: a client that chooses what fails must not shut others out.
                host.note(image, ImageRecord(now, now))
                host.hold_failed(now)
                host.state = replace(before, retry_at=now, reason=reason)
            case RequestOutcome.FAILING if image and not before.wait:
                host.note(image, ImageRecord(now, now))
                since = failing_since(host.images, now)
                if since is not None:
                    host.hold_failed(now)
                    suspected = opened(replace(before, since=since), now, reason, FIRST_WAIT / 2)
                    host.state = replace(suspected, retry_at=now)  # whether the host fails is asked at once
            case _ if probe:
                host.state = given_up(before, now)
        if host.state.wait and not before.wait:
            log.warning("circuit_opened", upstream=origin.netloc, image="", reason=reason)

    def _note_image(
        self, key: _ImageKey, path: str, outcome: RequestOutcome, reason: str, now: float, *, probe: bool
    ) -> None:
        known = self._images.get(key, _Image())
        before = known.state
        if outcome is RequestOutcome.ALIVE:
            self._images.pop(key, None)
            if before.wait:
                log.info("circuit_closed", upstream=key[0].netloc, image=key[1])
        elif outcome is not RequestOutcome.NEUTRAL:
            others = tuple(failed_path for failed_path in known.failed if failed_path != path)
            after = failed(before, now, reason, probe=probe)
            self._images[key] = _Image(after, (*others, path)[-_REASONS:], now)
            _bound(self._images)
            if after.wait and not before.wait:
                log.warning("circuit_opened", upstream=key[0].netloc, image=key[1], reason=reason)
        elif probe and before.wait:
            known.state, known.fresh_at = given_up(before, now), now

    def _refusal(self, origin: Origin, shut: CircuitState, now: float) -> CircuitOpen:
        since = datetime.fromtimestamp(self._wall() - (now - shut.since), UTC)
        wait = int(max(0.0, shut.retry_at - now)) + 1
        return CircuitOpen(
            f"{origin.netloc} has been failing since {since:%H:%M:%S} UTC ({shut.reason}); "
            f"next attempt within {wait} s",
            wait,
        )


def _bound(circuits: dict[_ImageKey, V]) -> None:
    """Drop the oldest circuits of images, of which a client can invent any number."""
    if len(circuits) > _LIMIT:
        for key in list(circuits)[: _LIMIT // 2]:
            del circuits[key]
