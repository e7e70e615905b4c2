"""Texts of sizes, times and numbers on pages."""

from datetime import UTC, datetime, timedelta

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEPS = (
    (timedelta(days=365), "year"),
    (timedelta(days=30), "month"),
    (timedelta(days=1), "day"),
    (timedelta(hours=1), "hour"),
    (timedelta(minutes=1), "minute"),
)


def size(count: int | None) -> str:
    """A number of bytes, in three digits: `1.46 MiB`; for None that it is not known."""
    if count is None:
        return "size unknown"
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    if unit == 0:
        return f"{count} B"
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {_UNITS[unit]}"


def ago(moment: datetime, now: datetime) -> str:
    """How long ago a moment was, or in how long it is, in its largest unit."""
    past = now - moment
    distance = abs(past)
    for step, name in _STEPS:
        if distance >= step:
            words = plural(int(distance / step), name)
            return f"{words} ago" if past > timedelta(0) else f"in {words}"
    return "just now" if past >= timedelta(0) else "in a moment"


def instant(seconds: float) -> datetime:
    """The moment of a number of seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC)


def exact(moment: datetime) -> str:
    """A moment as people read it exactly: `2030-01-31 18:00:00 UTC`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def day(moment: datetime | None) -> str:
    """The day of a moment, in UTC, as a field for dates has it; empty for none."""
    return "" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d")


def utc(moment: datetime) -> str:
    """A moment as the `datetime` of a page's `time`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def capitalize_first(text: str) -> str:
    """A text whose first letter is a capital; the others stay, as in names."""
    return text[:1].upper() + text[1:]


def percent(share: float | None) -> str:
    """A share in per cent: `97.3 %`; for None that there is none."""
    return "no pulls" if share is None else f"{share * 100:.1f} %"


def plural(count: int, noun: str, many: str = "") -> str:
    """A number with its noun: `1 tag`, `2 tags`."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"
