"""When an upstream that fails is left alone, and when it is asked again; pure.

A circuit is closed until so many outages came in a row. Then it is open: nobody asks for a while, in which everybody is
refused at once. After that one request goes out as a probe, whose success closes the circuit and whose failure opens it
for twice as long. Times are those of a steady clock, in seconds.
"""

from dataclasses import dataclass, replace
from enum import Enum

TRIP_AFTER = 3
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0

PROBE_WITHIN = 30.0
"""A probe of which nothing is heard for so long is taken for lost, and another goes out."""


class Gate(Enum):
    PASS = "pass"
    PROBE = "probe"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Circuit:
    """`row` holds who met each outage since the last success; `wait` is 0 while the circuit is closed."""

    row: tuple[str, ...] = ()
    since: float = 0.0
    wait: float = 0.0
    retry_at: float = 0.0
    reason: str = ""


CLOSED = Circuit()


def gate(circuit: Circuit, now: float) -> Gate:
    if not circuit.wait:
        return Gate.PASS
    return Gate.PROBE if now >= circuit.retry_at else Gate.REFUSE


def probed(circuit: Circuit, now: float) -> Circuit:
    """A probe goes out: nobody else does before its outcome is known."""
    return replace(circuit, retry_at=now + PROBE_WITHIN)


def given_up(circuit: Circuit, now: float) -> Circuit:
    """The probe ended without an outcome, since whoever sent it left: the next one may go at once."""
    return replace(circuit, retry_at=now)


def failed(circuit: Circuit, now: float, reason: str, of: str = "", *, probe: bool = False) -> Circuit:
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


def _opened(circuit: Circuit, now: float, reason: str, wait: float) -> Circuit:
    return replace(circuit, wait=wait, retry_at=now + wait, reason=reason)
