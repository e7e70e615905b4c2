"""Pieces: every byte has one owner at a time, and is written once, in whatever order pieces arrive and fail."""

from hypothesis import given
from hypothesis import strategies as st

from cache.download.limits import DEFAULT_LIMITS, DownloadLimits
from cache.download.ranges import Piece, Pieces

PIECE, SMALLEST = DEFAULT_LIMITS.piece, DEFAULT_LIMITS.smallest_piece
ONE = DownloadLimits(connections=1)


class SlowModel:
    """Model of Pieces that counts one byte at a time: how often each was written, and which piece owns it."""

    def __init__(self, start: int, size: int) -> None:
        self.written = [1] * start + [0] * (size - start)
        self.owner: list[Piece | None] = [None] * size

    def own(self, piece: Piece) -> None:
        for offset in range(piece.start, piece.stop):
            rival = self.owner[offset]
            assert rival is None or not rival.confirmed
            assert not self.written[offset]
            self.owner[offset] = piece

    def write(self, piece: Piece, count: int) -> None:
        for offset in range(piece.position, piece.position + count):
            assert self.owner[offset] is piece
            self.written[offset] += 1

    def disown(self, piece: Piece) -> None:
        self.owner = [None if owner is piece else owner for owner in self.owner]

    @property
    def prefix(self) -> int:
        return self.written.index(0) if 0 in self.written else len(self.written)


@given(data=st.data(), size=st.integers(1, 60), connections=st.integers(1, 5))
def test_in_any_order_the_prefix_grows_to_the_whole_and_no_byte_is_written_twice(
    data: st.DataObject, size: int, connections: int
) -> None:
    start = data.draw(st.integers(0, size), "start")
    limits = DownloadLimits(connections=connections, piece=7, smallest_piece=2)
    pieces, model = Pieces(start, size, limits), SlowModel(start, size)
    held: list[Piece] = []
    for step in range(40):
        action = data.draw(st.sampled_from(["assign", "assign at", "confirm", "write", "release"]), f"step {step}")
        piece = data.draw(st.sampled_from(held), "piece") if held else None
        before = model.prefix
        if action == "assign" and (assigned := pieces.assign()):
            model.own(assigned)
            held.append(assigned)
        elif action == "assign at" and (taken := pieces.assign_at(data.draw(st.integers(0, size), "offset"))):
            for rival in [rival for rival in held if not rival.confirmed and rival.over]:
                model.disown(rival)
            model.own(taken)
            held.append(taken)
        elif action == "confirm" and piece and not piece.confirmed:
            assert pieces.confirm(piece) is (model.owner[piece.start] is piece)
        elif action == "write" and piece and piece.confirmed and not piece.over:
            count = data.draw(st.integers(1, piece.stop - piece.position), "count")
            model.write(piece, count)
            pieces.advance(piece, count)
        elif action == "release" and piece:
            pieces.release(piece)
            model.disown(piece)
            assert piece.over
        assert pieces.prefix == model.prefix >= before
    for piece in held:
        pieces.release(piece)
        model.disown(piece)
    while piece := pieces.assign():
        model.own(piece)
        assert pieces.confirm(piece)
        model.write(piece, piece.stop - piece.start)
        pieces.advance(piece, piece.stop - piece.start)
    assert pieces.complete
    assert model.written == [1] * size


def test_pieces_are_assigned_from_the_start_and_shrink_towards_the_end() -> None:
    size = 200 * 1024 * 1024 + 1
    pieces = Pieces(5, size)
    assigned = list(iter(pieces.assign, None))
    assert [piece.start for piece in assigned] == [5, *[piece.stop for piece in assigned[:-1]]]
    assert assigned[-1].stop == size
    lengths = [piece.stop - piece.start for piece in assigned]
    assert lengths == sorted(lengths, reverse=True)
    assert (lengths[0], lengths[-2]) == (PIECE, SMALLEST)


def test_a_stream_takes_its_next_bytes_from_an_owner_without_a_response() -> None:
    pieces = Pieces(0, 3 * PIECE, ONE)
    first = pieces.assign_at(0)
    assert first
    rival = pieces.assign()
    assert rival
    pieces.advance(first, PIECE)
    second = pieces.assign_at(PIECE)
    assert second
    assert (second.start, second.confirmed) == (PIECE, True)
    assert not pieces.confirm(rival)


def test_a_stream_takes_nothing_that_another_fetches_or_has_fetched() -> None:
    pieces = Pieces(0, 3 * PIECE, ONE)
    first, other = pieces.assign_at(0), pieces.assign()
    assert first
    assert other
    assert pieces.confirm(other)
    assert pieces.assign_at(PIECE) is None
    pieces.advance(other, PIECE)
    assert pieces.assign_at(PIECE) is None
    assert pieces.prefix == 0
    pieces.advance(first, PIECE)
    assert pieces.prefix == 2 * PIECE


def test_only_the_rest_of_a_broken_piece_is_fetched_again() -> None:
    pieces = Pieces(0, PIECE, ONE)
    broken = pieces.assign()
    assert broken
    assert pieces.confirm(broken)
    pieces.advance(broken, 3)
    stop = broken.stop
    pieces.release(broken)
    assert pieces.prefix == 3
    rest = pieces.assign()
    assert rest
    assert (rest.start, rest.stop) == (3, stop)


def test_no_piece_is_assigned_when_all_bytes_are_present() -> None:
    pieces = Pieces(9, 9)
    assert pieces.complete
    assert pieces.assign() is None
    assert pieces.assign_at(9) is None
