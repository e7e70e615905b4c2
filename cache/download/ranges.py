"""Pieces: which connection fetches which range of a blob. It knows no threads and no bytes."""

from dataclasses import dataclass, field

from cache.download.limits import DEFAULT_LIMITS, DownloadLimits


@dataclass(slots=True)
class Piece:
    """The bytes from `start` to `stop`. Those below `position` are present; its owner fetches the others."""

    start: int
    stop: int
    position: int = field(init=False)
    confirmed: bool = False
    """Whether its owner's connection serves these bytes; until then a stream at their offset may take them over."""

    def __post_init__(self) -> None:
        self.position = self.start

    @property
    def over(self) -> bool:
        """Whether nothing more may be written for it: it is complete, was released or was taken away."""
        return self.position >= self.stop


class Pieces:
    """Assignment of the bytes between `start` and `size`, which arrive in any order; those below `start` are present.

    No byte has two owners, so no byte that was written is written again.
    """

    def __init__(self, start: int, size: int, limits: DownloadLimits = DEFAULT_LIMITS) -> None:
        self.size = size
        self._limits = limits
        self._base = start
        self._free = [(start, size)] if start < size else []
        self._assigned: dict[int, Piece] = {}

    @property
    def prefix(self) -> int:
        """Offset below which every byte is present."""
        piece = self._assigned.get(self._base)
        return piece.position if piece else self._base

    @property
    def complete(self) -> bool:
        return self.prefix == self.size

    def assign(self) -> Piece | None:
        """Assign the lowest bytes that are free to a connection that is yet to be opened; None where none are free."""
        return self._cut(0) if self._free else None

    def assign_at(self, offset: int) -> Piece | None:
        """Assign the bytes at `offset` to a stream at that offset; None if another one fetches or fetched them.

        An owner whose connection is not confirmed loses its piece.
        """
        rival = self._assigned.get(offset)
        if rival and not rival.confirmed:
            self.release(rival)
        for place, (start, _) in enumerate(self._free):
            if start == offset:
                piece = self._cut(place)
                piece.confirmed = True
                return piece
        return None

    def confirm(self, piece: Piece) -> bool:
        """Record that the connection serves these bytes; False where they were taken away in the meantime."""
        piece.confirmed = not piece.over
        return piece.confirmed

    def advance(self, piece: Piece, count: int) -> None:
        """Record that the next bytes of the piece are present."""
        piece.position += count
        while (first := self._assigned.get(self._base)) and first.over:
            del self._assigned[self._base]
            self._base = first.stop

    def release(self, piece: Piece) -> None:
        """Free the bytes of a piece that have not arrived."""
        if piece.over:
            return
        self._free.append((piece.position, piece.stop))
        self._free.sort()
        piece.stop = piece.position
        if piece.position == piece.start:
            del self._assigned[piece.start]
        else:
            self.advance(piece, 0)

    def _cut(self, place: int) -> Piece:
        """Cut a piece from a free range. Pieces shrink towards the end: all connections end at about the same time."""
        start, stop = self._free.pop(place)
        rest = stop - start + sum(end - begin for begin, end in self._free)
        limits = self._limits
        share = min(max(rest // (2 * limits.connections), limits.smallest_piece), limits.piece)
        piece = self._assigned[start] = Piece(start, min(stop, start + share))
        if piece.stop < stop:
            self._free.insert(place, (piece.stop, stop))
        return piece
