"""Allowance: the limit that an upstream states, and the decisions that follow from it; pure.

Times are seconds since the epoch, because several processes share this state.
"""

import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import mktime_tz, parsedate_tz
from enum import Enum

RETRY_CAP = 3600
"""Seconds after which one request checks whether an upstream that named a longer pause still limits."""

FIRST_PAUSE, LONGEST_PAUSE = 30, 900
"""Seconds of the first pause if the upstream names none, and of the longest that it grows to."""

PROBE_WITHIN = 5
"""Seconds for which others wait for the first request after a pause."""

LITTLE, SCARCE = 10, 5
SAMPLES, SAMPLE_EVERY = 60, 60

_FAR_AWAY = 365 * 24 * 3600
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "\u00b5s": 1e-6, "\u03bcs": 1e-6, "us": 1e-6, "ns": 1e-9}
_PART = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(h|ms|m|s|[\u00b5\u03bcun]s)"
_DURATION = re.compile(_PART, re.IGNORECASE)
_DELAY = re.compile(rf"retry[- ]after['\"]?\s*+[:=]?\s*+((?:{_PART})+(?![\w.])|[0-9]{{1,9}}(?![\w.]))", re.IGNORECASE)
"""A duration as Go writes it (https://pkg.go.dev/time#Duration.String), or seconds. Spaces are taken once: tried in all
ways, those of one refusal would hold the interpreter for minutes."""

_WINDOW = re.compile(r"([0-9]{1,9})(?:[ \t]*;[ \t]*w=([0-9]{1,9}))?(?:[ \t]*[;,].*)?")


class RequestKind(Enum):
    """Purpose of a request. Limits on pulls count PULL only. A 429 to another kind concerns all requests, except for
    PART, which may be meant for the additional connections of a download, which continues over one, and for LIST, whose
    limits are of their own."""

    PULL = "get of a manifest"
    CHECK = "head of a manifest"
    CONTENT = "a blob"
    LIST = "a list of tags or referrers"
    PART = "a part of a blob"


class SavingMode(Enum):
    """How revalidation saves quota: not at all, by fewer requests, by no requests."""

    NONE = "none"
    LITTLE = "little is left"
    SCARCE = "next to nothing is left"


@dataclass(frozen=True, slots=True)
class StatedLimit:
    """Limit that a response states: `limit` pulls in `window` seconds, of which `remaining` are left; `source` is whose
    limit it is."""

    limit: int | None = None
    remaining: int | None = None
    window: int | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Allowance:
    """State of one source's limit. During a pause (before `until`) no request that counts is sent: no pull, or with
    `everything` no request at all. `strikes` counts the pauses in a row.

    `refused_login`: the version of the credential that was refused last, `login_refusals` times in a row. It is not
    presented before `login_until`, or at all while one request tries it (`login_tried`); see `logins`.
    """

    limit: int | None = None
    remaining: int | None = None
    window: int | None = None
    source: str = ""
    told_at: float = 0.0
    began: float = 0.0
    until: float = 0.0
    everything: bool = False
    strikes: int = 0
    samples: tuple[tuple[float, int], ...] = ()
    refused_login: str = ""
    login_refusals: int = 0
    login_until: float = 0.0
    login_tried: bool = False


UNKNOWN = Allowance()


def plausible(known: Allowance, now: float) -> Allowance:
    """State without what a clock wrote that was wrong: a pause longer than any, and statements of the future."""
    if known.until - now > RETRY_CAP:
        known = replace(known, began=0.0, until=0.0, everything=False, strikes=0)
    if known.login_until - now > RETRY_CAP:
        known = replace(known, refused_login="", login_refusals=0, login_until=0.0, login_tried=False)
    if known.told_at - now > RETRY_CAP:
        known = replace(known, limit=None, remaining=None, window=None, source="", told_at=0.0, samples=())
    if known.began <= now and known.told_at <= now and (not known.samples or known.samples[-1][0] <= now):
        return known
    samples = tuple(sample for sample in known.samples if sample[0] <= now)
    return replace(known, began=min(known.began, now), told_at=min(known.told_at, now), samples=samples)


def retry_after(headers: Mapping[str, str], now: Callable[[], float] = time.time) -> int | None:
    """Seconds of a Retry-After header, given as a number or a date (RFC 9110, section 10.2.3); None without one."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return min(int(value[:10]), 24 * 3600)
    try:
        date = parsedate_tz(value)
        return None if date is None else max(0, min(round(mktime_tz(date) - now()), 24 * 3600))
    except (ValueError, OverflowError, IndexError):  # errors of the library for a year 99999 and the like
        return None


def stated_delay(headers: Mapping[str, str], body: bytes) -> int | None:
    """Seconds for which a refusal wants no requests: by its Retry-After, else by the text of its body, as in
    `retry-after: 880.092\u00b5s, allowed: 44000/minute`; None if it states none."""
    if (seconds := retry_after(headers)) is not None:
        return seconds
    found = _DELAY.search(body.decode("utf-8", "replace"))
    if found is None:
        return None
    parts = _DURATION.findall(found[1]) or [(found[1], "s")]
    return min(math.ceil(sum(float(number) * _UNITS[unit.lower()] for number, unit in parts)), 24 * 3600)


def parse_stated_limit(headers: Mapping[str, str]) -> StatedLimit | None:
    """Parse the headers that Docker Hub and others send with every manifest (`ratelimit-remaining: 99;w=21600`); None
    if absent."""
    limit, window = _count(headers.get("ratelimit-limit", ""))
    remaining, other = _count(headers.get("ratelimit-remaining", ""))
    if limit is None and remaining is None:
        return None
    source = headers.get("docker-ratelimit-source", "")
    named = source if re.fullmatch(r"[\w.:-]{1,64}", source, re.ASCII) else ""
    return StatedLimit(limit, remaining, window or other, named)


def _count(value: str) -> tuple[int | None, int | None]:
    match = _WINDOW.fullmatch(value.strip())
    return (int(match[1]), int(match[2]) if match[2] else None) if match else (None, None)


def after_response(
    known: Allowance, kind: RequestKind, stated: StatedLimit | None, sent: float, now: float
) -> Allowance:
    """State after a response other than 429 to a request sent at `sent`: it may end a pause that had begun before."""
    allowance = _noted(known, stated, sent, now)
    if known.until and sent >= known.began:
        proved = known.everything or kind is RequestKind.PULL or (stated is not None and bool(stated.remaining))
        if proved:
            allowance = replace(allowance, until=0.0, everything=False, strikes=0)
    if stated is not None and stated.remaining == 0 and not allowance.until:
        allowance = replace(allowance, began=now, until=now + _refill(allowance), everything=False)
    return allowance


def after_refusal(
    known: Allowance, kind: RequestKind, stated: StatedLimit | None, retry: int | None, sent: float, now: float
) -> Allowance:
    """State after a 429. If the request was sent before the pause began, the pause is extended only by the time that
    the response names."""
    allowance = _noted(known, stated, sent, now)
    everything = kind is not RequestKind.PULL or stated is None
    late = bool(known.until) and sent < known.began
    strikes = known.strikes if late else known.strikes + 1
    pause = min(FIRST_PAUSE * 2 ** min(max(strikes, 1) - 1, 10), LONGEST_PAUSE)
    until = now + (pause if retry is None else min(max(retry, 1), RETRY_CAP))
    if late:
        return replace(allowance, until=max(known.until, until), everything=known.everything or everything)
    return replace(allowance, began=now, until=until, everything=everything, strikes=strikes)


def pause(known: Allowance, kind: RequestKind, free_checks: bool, now: float) -> float:
    """Seconds for which such a request must not be sent; 0: it may be sent. `free_checks`: a CHECK is known not to
    count."""
    counts = known.everything or kind is RequestKind.PULL or (kind is RequestKind.CHECK and not free_checks)
    return max(0.0, known.until - now) if counts else 0.0


def needs_probe(known: Allowance, kind: RequestKind, free_checks: bool, now: float) -> bool:
    """Whether an expired pause still needs a probe: one request is sent first, the others wait for it."""
    return bool(known.until) and pause(replace(known, until=now + 1), kind, free_checks, now) > 0


def after_probe_sent(known: Allowance, now: float) -> Allowance:
    """State while one request probes; the others wait for its outcome."""
    return replace(known, began=now, until=now + PROBE_WITHIN)


def saving_mode(known: Allowance, now: float) -> SavingMode:
    """Saving mode. If no pulls are left it is NONE: then a pause decides which requests may be sent."""
    left = left_now(known, now)
    if not known.limit or not known.remaining or left is None:
        return SavingMode.NONE
    if left < min(SCARCE, known.limit / 4):
        return SavingMode.SCARCE
    few = left < min(LITTLE, known.limit / 2) or left * 10 < known.limit
    return SavingMode.LITTLE if few else SavingMode.NONE


def left_now(known: Allowance, now: float) -> float | None:
    """Estimate of the remaining pulls, assuming that used ones return gradually over the window; None if no limit was
    stated."""
    if known.limit is None or known.remaining is None:
        return None
    return known.remaining + max(0.0, now - known.told_at) * known.limit / (known.window or 3600)


def empty_at(known: Allowance, now: float) -> float | None:
    """Time at which the quota will be used up at the current rate; None if hardly any is used, or little is known."""
    if known.remaining is None or len(known.samples) < 2:
        return None
    (begun, before), (ended, after) = known.samples[0], known.samples[-1]
    if before <= after or ended <= begun:
        return None
    left = ended - now + after * (ended - begun) / (before - after)
    return now + max(0.0, left) if left < _FAR_AWAY else None


def resets_at(known: Allowance, now: float) -> float | None:
    """Time at which pulls are allowed again, or else at which the whole window has passed since the last statement."""
    if known.until > now:
        return known.until
    return known.told_at + known.window if known.window and known.told_at + known.window > now else None


def merged(shared: Allowance, own: Allowance) -> Allowance:
    """Merge the written state with the last statements to this process; pauses are always written at once."""
    if own.told_at <= shared.told_at:
        return shared
    return replace(
        shared,
        limit=own.limit,
        remaining=own.remaining,
        window=own.window,
        source=own.source,
        told_at=own.told_at,
        samples=own.samples,
    )


def in_words(known: Allowance, name: str, whom: str, now: float) -> str:
    """Reason why nothing is sent, for a person."""
    until = datetime.fromtimestamp(max(known.until, now), UTC)
    day = "" if until.date() == datetime.fromtimestamp(now, UTC).date() else f"{until:%Y-%m-%d} "
    when = f"until {day}{until:%H:%M} UTC"
    if known.everything:
        return f"{name} says that {whom} sent too many requests, so none are sent {when}"
    return f"{name}'s pull limit for {whom} is used up {when}"


def _refill(known: Allowance) -> float:
    """Seconds until one more pull may be allowed, if used ones return gradually."""
    if not known.window or not known.limit:
        return 2.0 * FIRST_PAUSE
    return min(max(known.window / known.limit, FIRST_PAUSE), LONGEST_PAUSE)


def _noted(known: Allowance, stated: StatedLimit | None, sent: float, now: float) -> Allowance:
    if stated is None:
        return known
    if sent < known.told_at and None not in (stated.remaining, known.remaining):
        # Concurrent responses arrive in any order: the one that leaves least counts.
        stated = replace(stated, remaining=min(stated.remaining or 0, known.remaining or 0))
    samples = known.samples
    if stated.remaining is not None:
        if samples and stated.remaining > samples[-1][1]:
            samples = ()
        if len(samples) >= 2 and samples[-1][0] - samples[-2][0] < SAMPLE_EVERY:
            samples = samples[:-1]
        samples = (*samples, (now, stated.remaining))[-SAMPLES:]
    return replace(
        known,
        limit=known.limit if stated.limit is None else stated.limit,
        remaining=known.remaining if stated.remaining is None else stated.remaining,
        window=stated.window or known.window,
        source=stated.source or known.source,
        told_at=now,
        samples=samples,
    )
