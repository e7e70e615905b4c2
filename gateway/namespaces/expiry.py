"""Times as people write them: when a token, a job or a membership ends, and since when something is wanted."""

import re
from datetime import UTC, datetime, timedelta

from gateway.namespaces.errors import ExpiryInvalid
from gateway.settings.units import parse_duration

FORMS = "a date such as 2030-01-31, a time such as 2030-01-31T18:00:00Z, or a duration such as 12h 30d"
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(_DATE.pattern + r"T[0-9]{2}:[0-9]{2}(:[0-9]{2})?(Z|[+-][0-9]{2}:[0-9]{2})")


def parse_expiry(text: str, now: datetime) -> datetime:
    """Read a date, a time with its zone, or a duration from now. Raises ExpiryInvalid, also for what is not later
    than now.

    A date means the beginning of that day in UTC, as in GitLab: on the day itself it has expired.
    """
    expires_at = _parse(text, now, 1)
    if expires_at <= now:
        raise ExpiryInvalid(f"{text!r} is not in the future: use a later time")
    return expires_at


def parse_past(text: str, now: datetime) -> datetime:
    """Read a date, a time with its zone, or a duration before now. Raises ExpiryInvalid, also for what is later than
    now."""
    moment = _parse(text, now, -1)
    if moment > now:
        raise ExpiryInvalid(f"{text!r} is not in the past: use an earlier time")
    return moment


def parse_as_of(text: str, now: datetime) -> datetime:
    """Read the moment as of which something is shown, as `parse_past` does.

    It is the end of that second: as output writes times, what it shows at a time has happened by then.
    """
    return min(now, parse_past(text, now).replace(microsecond=0) + timedelta(microseconds=999_999))


def check_lifetime(expires_at: datetime, longest: timedelta | None, now: datetime, what: str) -> None:
    """Check that something expires in the future and soon enough.

    `longest`: None where it may last for ever. `what`: in words. Raises ExpiryInvalid.
    """
    if expires_at <= now:
        raise ExpiryInvalid(f"{what} cannot expire at {format_moment(expires_at)}, which is not in the future")
    if longest is not None and expires_at > now + longest:
        raise ExpiryInvalid(
            f"{what} cannot last until {format_moment(expires_at)}: the latest expiry is {format_moment(now + longest)}"
        )


def format_moment(moment: datetime) -> str:
    """Write a time as all output has it, which options take too: `2030-01-31T18:00:00Z` (RFC 3339)."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def format_precisely(moment: datetime) -> str:
    """Write a time with milliseconds, in UTC, as GitLab's APIs have it: `2030-01-31T18:00:00.000Z`."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _parse(text: str, now: datetime, direction: int) -> datetime:
    """Read a time; a duration counts from now, into the future if `direction` is 1, into the past if it is -1."""
    try:
        if _DATE.fullmatch(text):
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        if _TIME.fullmatch(text):
            return datetime.fromisoformat(text).astimezone(UTC)
        return now + direction * parse_duration(text)
    except (ValueError, OverflowError):
        raise ExpiryInvalid(f"{text!r} is not a time: use {FORMS}") from None
