"""How people read the values of documents: sizes, times, yes and no, and `-` for nothing. Pure.

`--json` prints documents as they are. What is printed for people is made of the same documents here, by the names of
their values: `bytes` and `..._bytes` are sizes, `..._at`, `expires` and the like are times.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from cache.oci.digest import Digest
from gateway.settings.units import format_bytes, format_duration

NOTHING = "-"

_SIZES = {"bytes", "size", "quota"}
_TIMES = {"at", "created", "expires", "revoked", "finished", "last_used"}
_UNITS = (("days", 86400), ("h", 3600), ("min", 60), ("s", 1))
_LABELS = {"bytes": "size", "bytes_per_second": "speed"}
_NEAR = timedelta(days=30)
"""Within this, a person thinks of how long ago a time was, and else of its date."""


def moment_text(moment: datetime, now: datetime) -> str:
    """Write a time: `3 min ago`, `in 5 h`, or its date in UTC where that is a month away or more."""
    away = abs(now - moment)
    if away >= _NEAR:
        return f"{moment.astimezone(UTC):%Y-%m-%d}"
    seconds = away.total_seconds()
    if seconds < 1:
        return "now"
    unit, size = next((unit, size) for unit, size in _UNITS if seconds >= size)
    count = round(seconds / size)
    text = "1 day" if (count, unit) == (1, "days") else f"{count} {unit}"
    return f"{text} ago" if moment <= now else f"in {text}"


def cell(name: str, value: object, now: datetime) -> str:
    """Write the value that a document has under a name."""
    if value is None or value == "" or value == []:
        return NOTHING
    match value:
        case bool():
            return "yes" if value else "no"
        case Mapping():
            return ", ".join(f"{label(key)} {cell(key, item, now)}" for key, item in value.items() if item is not None)
        case str() if name in _TIMES or name.endswith("_at"):
            return moment_text(datetime.fromisoformat(value), now)
        case str():
            return value
        case Sequence():
            return " ".join(cell(name, item, now) for item in value)
        case int() if name in _SIZES or name.endswith("_bytes"):
            return format_bytes(value)
        case int() if name == "bytes_per_second":
            return f"{format_bytes(value)}/s"
        case int() if name.endswith("_seconds"):
            return format_duration(timedelta(seconds=value))
        case float() if name.endswith("_rate"):
            return f"{value:.1%}"
    return str(value)


def changes(before: Mapping[str, object], after: Mapping[str, object], now: datetime) -> str:
    """Write how a document differs from what it was: `cooldown 0s → 3d`."""
    told = [
        f"{label(name)} {cell(name, before[name], now)} → {cell(name, value, now)}"
        for name, value in after.items()
        if value != before[name]
    ]
    return ", ".join(told) or "nothing changed"


def short_digest(digest: Digest | None) -> str | None:
    """As much of a digest as tells it from others in a list; `--json` has all of it."""
    return f"{digest.algorithm}:{digest.hex[:12]}" if digest else None


def label(name: str) -> str:
    """The words for the name of a value: `last used` for `last_used`, `sent` for `sent_bytes`."""
    for ending in ("_at", "_bytes", "_seconds"):
        name = name.removesuffix(ending)
    return _LABELS.get(name, name).replace("_", " ")


def headings(columns: Sequence[str]) -> list[str]:
    """The headings of a table whose columns are values of documents."""
    return [label(column).capitalize() for column in columns]


def row(document: Mapping[str, object], columns: Sequence[str], now: datetime) -> list[str]:
    """The row of a document in such a table."""
    return [cell(column, document[column], now) for column in columns]
