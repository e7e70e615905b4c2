"""Quota: how many bytes the projects at and below a node may store, and what becomes of a push that needs more."""

from collections.abc import Sequence
from dataclasses import dataclass

from cache.oci.errors import Denied, RefusalReason
from gateway.namespaces.node import NodeKind
from gateway.settings.units import format_bytes

STEP = 64 * 1024 * 1024
"""Bytes that an upload reserves at a time, before they are written, as long as there is plenty of room."""

SMALL_STEP = 1024 * 1024
SHARE = 8
"""Part of the room that one reservation takes where there is little left, so that other uploads fit beside it."""


@dataclass(frozen=True, slots=True)
class QuotaLevel:
    """A node with a quota, in bytes. `reserved`: what unfinished uploads may still grow to, and have written so far."""

    kind: NodeKind
    path: str
    quota: int
    stored: int
    reserved: int

    @property
    def free(self) -> int:
        """Bytes that may be added; negative where the quota was lowered since."""
        return self.quota - self.stored - self.reserved


def check_room(levels: Sequence[QuotaLevel], size: int) -> None:
    """Check that content of so many bytes fits into every quota that applies to it. Raises Denied."""
    for level in levels:
        if size > max(level.free, 0):
            raise _exceeded(level)


def decide_step(levels: Sequence[QuotaLevel], coming: int | None) -> int:
    """Decide how many bytes an upload reserves next: fewer the less room there is.

    `coming`: bytes that are still to come, all of which must fit; None where that is unknown. Raises Denied.
    """
    check_room(levels, 1 if coming is None else coming)
    free = min((level.free for level in levels), default=STEP * SHARE)
    step = min(STEP, free, max(SMALL_STEP, free // SHARE))
    return step if coming is None else min(step, coming)


def _exceeded(level: QuotaLevel) -> Denied:
    figures = f"{format_bytes(level.quota)}, of which {format_bytes(level.stored)} are stored"
    if level.reserved:
        figures += f" and {format_bytes(level.reserved)} are reserved by unfinished uploads"
    return Denied(
        f"{level.kind} {level.path!r} has a quota of {figures}: delete images of it, or let an administrator raise it",
        counted_as=RefusalReason.QUOTA,
    )
