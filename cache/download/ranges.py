"""Pieces: who fetches which part of a blob that arrives over several connections. It knows no threads and no bytes."""

from dataclasses import dataclass, field

PIECE = 8 * 1024 * 1024
SMALLEST = 4 * 1024 * 1024


@dataclass(slots=True)
class Piece:
    """The bytes from `start` to `stop`. Those below `position` are here; the rest is its owner's to bring."""

    start: int
    stop: int
    position: int = field(init=False)
    certain: bool = False
    """Whether its owner's connection gives these bytes; until then a stream that stands before them may take them."""

    def __post_init__(self) -> None:
        self.position = self.start

    @property
    def over(self) -> bool:
        """Nothing more may be written for it: it is complete, or it was given back or taken away."""
        return self.position >= self.stop


class Pieces:
    """Everything below `start` is here; what lies between it and `size` is claimed, and comes in any order.

    No byte has two owners, so that what was written once is never written again.
    """

    def __init__(self, start: int, size: int, connections: int) -> None:
        self.size = size
        self._connections = connections
        self._base = start
        self._free = [(start, size)] if start < size else []
        self._taken: dict[int, Piece] = {}

    @property
    def prefix(self) -> int:
        """Up to here every byte is here."""
        piece = self._taken.get(self._base)
        return piece.position if piece else self._base

    @property
    def complete(self) -> bool:
        return self.prefix == self.size

    def claim(self) -> Piece | None:
        """The lowest bytes that nobody brings, for a connection that has yet to be opened."""
        return self._cut(0) if self._free else None

    def take(self, offset: int) -> Piece | None:
        """The bytes at `offset`, for a stream that stands there; None where somebody else brings or brought them."""
        rival = self._taken.get(offset)
        if rival and not rival.certain:
            self.give_back(rival)
        for place, (start, _) in enumerate(self._free):
            if start == offset:
                piece = self._cut(place)
                piece.certain = True
                return piece
        return None

    def confirm(self, piece: Piece) -> bool:
        """The connection gives these bytes; False where they were taken away in the meantime."""
        piece.certain = not piece.over
        return piece.certain

    def wrote(self, piece: Piece, count: int) -> None:
        """The next bytes of the piece are here."""
        piece.position += count
        while (first := self._taken.get(self._base)) and first.over:
            del self._taken[self._base]
            self._base = first.stop

    def give_back(self, piece: Piece) -> None:
        """What has not come of it is free again."""
        if piece.over:
            return
        self._free.append((piece.position, piece.stop))
        self._free.sort()
        piece.stop = piece.position
        if piece.position == piece.start:
            del self._taken[piece.start]
        else:
            self.wrote(piece, 0)

    def _cut(self, place: int) -> Piece:
        """Pieces shrink towards the end, so that the connections end at about the same time."""
        start, stop = self._free.pop(place)
        rest = stop - start + sum(end - begin for begin, end in self._free)
        share = min(max(rest // (2 * self._connections), SMALLEST), PIECE)
        piece = self._taken[start] = Piece(start, min(stop, start + share))
        if piece.stop < stop:
            self._free.insert(place, (piece.stop, stop))
        return piece
