"""Durations as people write them: `30s` `5m` `12h` `30d`."""

import re
from datetime import timedelta

_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def parse_duration(text: str) -> timedelta:
    """Read one number with one unit, `30s` `5m` `12h` `30d`; ValueError for anything else, or beyond 36500 days."""
    match = re.fullmatch(r"([0-9]{1,10})([smhd])", text)
    if match is None or int(match[1]) * _SECONDS[match[2]] > 36500 * _SECONDS["d"]:
        raise ValueError(f"not a duration such as 30s 5m 12h 30d, of at most 36500d: {text!r}")
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


def format_duration(duration: timedelta) -> str:
    """Write whole seconds so that `parse_duration` reads them, in the largest unit that counts to two: `60s`, `36h`."""
    seconds = int(duration.total_seconds())
    unit = next((u for u, size in _SECONDS.items() if seconds >= 2 * size and seconds % size == 0), "s")
    return f"{seconds // _SECONDS[unit]}{unit}"
