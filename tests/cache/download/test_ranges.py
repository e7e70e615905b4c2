"""Pieces: every byte has one owner at a time, and is written once, in whatever order pieces come, fail and go on."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.download import ranges as pieces_module
from cache.download.ranges import PIECE, SMALLEST, Piece, Pieces


@pytest.fixture
def tiny_pieces() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces_module, "PIECE", 7)
        patch.setattr(pieces_module, "SMALLEST", 2)
        yield


class SlowModel:
    """The same, one byte at a time: how often each was written, and who may write it."""

    def __init__(self, start: int, size: int) -> None:
        self.written = [1] * start + [0] * (size - start)
        self.owner: list[Piece | None] = [None] * size

    def own(self, piece: Piece) -> None:
        for offset in range(piece.start, piece.stop):
            rival = self.owner[offset]
            assert rival is None or not rival.certain
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


@pytest.mark.usefixtures("tiny_pieces")
@given(data=st.data(), size=st.integers(1, 60), connections=st.integers(1, 5))
def test_in_any_order_the_prefix_grows_to_the_whole_and_no_byte_comes_twice(
    data: st.DataObject, size: int, connections: int
) -> None:
    start = data.draw(st.integers(0, size), "start")
    pieces, model = Pieces(start, size, connections), SlowModel(start, size)
    held: list[Piece] = []
    for step in range(40):
        action = data.draw(st.sampled_from(["claim", "take", "confirm", "write", "give back"]), f"step {step}")
        piece = data.draw(st.sampled_from(held), "piece") if held else None
        before = model.prefix
        if action == "claim" and (claimed := pieces.claim()):
            model.own(claimed)
            held.append(claimed)
        elif action == "take" and (taken := pieces.take(data.draw(st.integers(0, size), "offset"))):
            for rival in [rival for rival in held if not rival.certain and rival.over]:
                model.disown(rival)
            model.own(taken)
            held.append(taken)
        elif action == "confirm" and piece and not piece.certain:
            assert pieces.confirm(piece) is (model.owner[piece.start] is piece)
        elif action == "write" and piece and piece.certain and not piece.over:
            count = data.draw(st.integers(1, piece.stop - piece.position), "count")
            model.write(piece, count)
            pieces.wrote(piece, count)
        elif action == "give back" and piece:
            pieces.give_back(piece)
            model.disown(piece)
            assert piece.over
        assert pieces.prefix == model.prefix >= before
    for piece in held:
        pieces.give_back(piece)
        model.disown(piece)
    while piece := pieces.claim():
        model.own(piece)
        assert pieces.confirm(piece)
        model.write(piece, piece.stop - piece.start)
        pieces.wrote(piece, piece.stop - piece.start)
    assert pieces.complete
    assert model.written == [1] * size


def test_pieces_are_claimed_from_the_start_and_shrink_towards_the_end() -> None:
    size = 200 * 1024 * 1024 + 1
    pieces = Pieces(5, size, 4)
    claimed = list(iter(pieces.claim, None))
    assert [piece.start for piece in claimed] == [5, *[piece.stop for piece in claimed[:-1]]]
    assert claimed[-1].stop == size
    lengths = [piece.stop - piece.start for piece in claimed]
    assert lengths == sorted(lengths, reverse=True)
    assert (lengths[0], lengths[-2]) == (PIECE, SMALLEST)


def test_a_stream_takes_what_lies_before_it_from_who_has_got_no_answer_yet() -> None:
    pieces = Pieces(0, 3 * PIECE, 1)
    first = pieces.take(0)
    assert first
    rival = pieces.claim()
    assert rival
    pieces.wrote(first, PIECE)
    second = pieces.take(PIECE)
    assert second
    assert (second.start, second.certain) == (PIECE, True)
    assert not pieces.confirm(rival)


def test_a_stream_takes_nothing_that_another_brings_or_has_brought() -> None:
    pieces = Pieces(0, 3 * PIECE, 1)
    first, other = pieces.take(0), pieces.claim()
    assert first
    assert other
    assert pieces.confirm(other)
    assert pieces.take(PIECE) is None
    pieces.wrote(other, PIECE)
    assert pieces.take(PIECE) is None
    assert pieces.prefix == 0
    pieces.wrote(first, PIECE)
    assert pieces.prefix == 2 * PIECE


def test_of_a_piece_that_breaks_off_only_the_rest_is_fetched_again() -> None:
    pieces = Pieces(0, PIECE, 1)
    broken = pieces.claim()
    assert broken
    assert pieces.confirm(broken)
    pieces.wrote(broken, 3)
    stop = broken.stop
    pieces.give_back(broken)
    assert pieces.prefix == 3
    rest = pieces.claim()
    assert rest
    assert (rest.start, rest.stop) == (3, stop)


def test_nothing_is_to_be_done_for_what_is_here() -> None:
    pieces = Pieces(9, 9, 4)
    assert pieces.complete
    assert pieces.claim() is None
    assert pieces.take(9) is None
