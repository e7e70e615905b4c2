"""What a server evicted to make room on a full disk, by its log."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from .ledger import Deed, Done

_STAMP = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def evictions(log: str, beginning: float) -> Iterator[Done]:
    """Read the evictions from a log, whose times count in whole seconds.

    A full disk may lose whatever is worth least, also what was served a moment ago: when that was is written after
    seconds, and cannot be written then. `beginning`: the time of the clock at which `time.monotonic` was zero.
    """
    for line in log.splitlines():
        if "evicted_for_room" in line and (stamp := _STAMP.search(line)):
            at = datetime.fromisoformat(stamp[0]).replace(tzinfo=UTC).timestamp() - beginning
            for digest in _DIGEST.findall(line):
                yield Done(Deed.EVICT, at, at + 1, digest)
