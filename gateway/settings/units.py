"""Durations and sizes as people write them, `30s` `5m` `12h` `30d`, `64KiB` `10GiB` `80%`, and as they read them."""

import re
from dataclasses import dataclass
from datetime import timedelta

_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def parse_duration(text: str) -> timedelta:
    """Read one number with one unit, `30s` `5m` `12h` `30d`; ValueError for anything else, or beyond 36500 days."""
    match = re.fullmatch(r"([0-9]{1,10})([smhd])", text)
    if match is None or int(match[1]) * _SECONDS[match[2]] > 36500 * _SECONDS["d"]:
        raise ValueError(f"not a duration such as 30s 5m 12h 30d, of at most 36500d: {text!r}")
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


def format_duration(duration: timedelta) -> str:
    """Write whole seconds as `parse_duration` reads them, in the largest unit that gives at least two: `60s`, `36h`."""
    seconds = int(duration.total_seconds())
    unit = next((u for u, size in _SECONDS.items() if seconds >= 2 * size and seconds % size == 0), "s")
    return f"{seconds // _SECONDS[unit]}{unit}"


_BYTES = {"TiB": 1 << 40, "GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10}


def format_bytes(count: int) -> str:
    """Write a number of bytes for people, who need no more than two digits: `64 bytes`, `1.5 GiB`, `287 MiB`."""
    for unit, scale in _BYTES.items():
        if count >= scale:
            return f"{count / scale:.{int(count < 10 * scale)}f} {unit}"
    return f"{count} byte{'' if count == 1 else 's'}"


def format_share(count: int, total: int) -> str:
    """Write how many of so many bytes there are, in the unit of the total: `120/300 MiB`."""
    unit, scale = next(((unit, scale) for unit, scale in _BYTES.items() if total >= scale), ("bytes", 1))
    digits = int(scale > 1 and total < 10 * scale)
    return f"{count / scale:.{digits}f}/{total / scale:.{digits}f} {unit}"


@dataclass(frozen=True, slots=True)
class Size:
    """A number of bytes, or a percentage of a file system."""

    number: int
    percent: bool = False

    def of(self, total: int) -> int:
        """Convert to bytes, on a file system of `total` bytes."""
        return total * self.number // 100 if self.percent else self.number

    def __str__(self) -> str:
        """Write it as `parse_size` reads it, in the largest unit that is whole: `64KiB`, `1536MiB`, `80%`, `0`."""
        if self.percent:
            return f"{self.number}%"
        unit, size = next(((u, s) for u, s in _BYTES.items() if self.number and self.number % s == 0), ("", 1))
        return f"{self.number // size}{unit}"


def parse_size(text: str) -> Size:
    """Read one whole number with one unit, `64KiB` `10GiB` `80%`, or `0`; ValueError for anything else."""
    match = re.fullmatch(r"([0-9]{1,12})(%|KiB|MiB|GiB|TiB)|0", text)
    if match is None or (match[2] == "%" and int(match[1]) > 100):
        raise ValueError(f"not a size such as 64KiB 10GiB 80%: {text!r}")
    if match[2] == "%":
        return Size(int(match[1]), percent=True)
    return Size(int(match[1]) * _BYTES[match[2]] if match[2] else 0)


def parse_rate(text: str) -> Size:
    """Read a size that is not a percentage; ValueError for anything else."""
    size = parse_size(text)
    if size.percent:
        raise ValueError("not bytes")
    return size
