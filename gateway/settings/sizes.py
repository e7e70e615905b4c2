"""Size: how many bytes are written in settings."""

import re
from dataclasses import dataclass

_BYTES = {"TiB": 1 << 40, "GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10}


@dataclass(frozen=True, slots=True)
class Size:
    """A number of bytes, or hundredths of a file system."""

    number: int
    percent: bool = False

    def of(self, total: int) -> int:
        """In bytes, on a file system of so many."""
        return total * self.number // 100 if self.percent else self.number

    def __str__(self) -> str:
        """So that `parse_size` reads it, in the largest unit that is whole: `64KiB`, `1536MiB`, `80%`, `0`."""
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
    """As `parse_size`, without shares of a file system."""
    size = parse_size(text)
    if size.percent:
        raise ValueError("not bytes")
    return size
