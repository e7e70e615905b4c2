"""ChunkedBody refuses whatever is ambiguous, and reads the rest as h11 does, in whatever pieces it arrives."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.server.chunked_body import (
    EXTENSIONS_LIMIT,
    LEAST_AVERAGE,
    SIZE_LINE_LIMIT,
    SMALL_CHUNKS,
    SMALL_IN_A_ROW,
    TRAILER_LIMIT,
    TRAILER_LINES,
    ChunkedBody,
    ChunksRefused,
)
from tests.security.fuzz import TARGETS

EXAMPLES = settings.default.max_examples
LAST = b"0\r\n\r\n"
NEXT = b"GET / HTTP/1.1\r\n\r\n"
LARGER = b"%x\r\n%b\r\n" % (LEAST_AVERAGE, b"a" * LEAST_AVERAGE)
LARGE = b"3e80\r\n%b\r\n" % (b"a" * 16_000)
MIXED = LARGE + b"1\r\na\r\n" * SMALL_IN_A_ROW
ACCEPTED = {
    "nothing": (LAST, b""),
    "two chunks": (b"5\r\nhello\r\n7\r\n, world\r\n" + LAST, b"hello, world"),
    "digits of both cases": (b"a\r\n0123456789\r\nA\r\n0123456789\r\n" + LAST, b"0123456789" * 2),
    "zeros before a size": (b"000000000000005\r\nhello\r\n000\r\n\r\n", b"hello"),
    "content with line breaks": (b"8\r\n\r\n0\r\n\r\n\n\r\n" + LAST, b"\r\n0\r\n\r\n\n"),
    "extensions": (b'5;a;b=c;d="e \\" ;"\r\nhello\r\n0;f\r\n\r\n', b"hello"),
    "as many small chunks as may be": (b"1\r\na\r\n" * SMALL_CHUNKS + LAST, b"a" * SMALL_CHUNKS),
    "many larger chunks": (LARGER * 2 * SMALL_CHUNKS + LAST, b"a" * LEAST_AVERAGE * 2 * SMALL_CHUNKS),
    "small chunks between large ones": (MIXED * 2 + LAST, b"a" * (16_000 + SMALL_IN_A_ROW) * 2),
    "equal chunks among small ones": (
        (LARGE * 2 + LARGER * 3 + b"1\r\na\r\n" * SMALL_IN_A_ROW + LARGE) * 2 + LAST,
        b"a" * (3 * 16_000 + 3 * LEAST_AVERAGE + SMALL_IN_A_ROW) * 2,
    ),
    "trailers": (b"5\r\nhello\r\n0\r\nA: b\r\nC:\t\xe4\r\n\r\n", b"hello"),
    "as many trailers as may be": (b"0\r\n" + b"A: b\r\n" * TRAILER_LINES + b"\r\n", b""),
    "the longest extension": (b"5;" + b"a" * (SIZE_LINE_LIMIT - 4) + b"\r\nhello\r\n" + LAST, b"hello"),
}
REFUSED = {
    "a size of 16 digits": b"0000000000000005\r\nhello\r\n",
    "a size of 2^63": b"8000000000000000\r\n",
    "a sign": b"+5\r\nhello\r\n",
    "a prefix": b"0x5\r\nhello\r\n",
    "an underscore": b"0_5\r\nhello\r\n",
    "a space before the size": b" 5\r\nhello\r\n",
    "a space behind the size": b"5 \r\nhello\r\n",
    "no size": b"\r\nhello\r\n",
    "a size line that ends with LF": b"5\nhello\r\n",
    "a size line that ends with CR": b"5\rhello\r\n",
    "two CR": b"5\r\r\nhello\r\n",
    "CR in an extension": b"5;a\rb\r\nhello\r\n",
    "CR in a quoted extension": b'5;a="\r"\r\nhello\r\n',
    "LF in an extension": b"5;a\nb\r\nhello\r\n",
    "NUL in an extension": b"5;a\0\r\nhello\r\n",
    "tab in an extension": b"5;\ta\r\nhello\r\n",
    "an extension without an end": b"5;" + b"a" * SIZE_LINE_LIMIT,
    "small chunks without an end": b"1\r\na\r\n" * (SMALL_CHUNKS + 1),
    "small chunks after larger ones": LARGER * SMALL_CHUNKS + b"1\r\na\r\n",
    "small chunks after a large one": b"4000\r\n%b\r\n" % bytes(0x4000) + b"1\r\na\r\n" * (SMALL_IN_A_ROW + 5),
    "extensions without an end": b"1;aaaaaaaa\r\na\r\n" * (EXTENSIONS_LIMIT // 9 + 1),
    "a chunk that is longer than its size": b"5\r\nhello!\r\n",
    "a chunk that ends with LF": b"5\r\nhello\n0\r\n",
    "a chunk that ends with CR": b"5\r\nhello\r0\r\n",
    "a chunk without an end": b"5\r\nhello0\r\n\r\n",
    "an empty line that is LF": b"0\r\n\n",
    "a trailer that ends with LF": b"0\r\nA: b\n\r\n",
    "a folded trailer": b"0\r\nA: b\r\n c\r\n\r\n",
    "a trailer without a colon": b"0\r\nA\r\n\r\n",
    "a trailer without a name": b"0\r\n: b\r\n\r\n",
    "a space before the colon": b"0\r\nA : b\r\n\r\n",
    "CR in a trailer": b"0\r\nA: b\rc\r\n\r\n",
    "NUL in a trailer": b"0\r\nA: \0\r\n\r\n",
    "500 trailers": b"0\r\n" + b"A: b\r\n" * 500 + b"\r\n",
    "long trailers": b"0\r\n" + (b"A: " + b"b" * (TRAILER_LIMIT // 2) + b"\r\n") * 2,
    "a trailer without an end": b"0\r\nA: " + b"b" * TRAILER_LIMIT,
    "a request where trailers are due": b"0\r\n" + NEXT,
}
STEPS = [1, 2, 7, 100_000]


def decoded(data: bytes, step: int) -> tuple[ChunkedBody, bytes, int]:
    """Decode in pieces; return the decoder, the content, and how many bytes belong to the body."""
    body, content, used = ChunkedBody(), b"", 0
    for at in range(0, len(data), step):
        piece = data[at : at + step]
        parts, count = body.decode(piece)
        content += b"".join(piece[part] for part in parts)
        used += count
    return body, content, used


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("sent, content", ACCEPTED.values(), ids=ACCEPTED)
def test_a_body_is_decoded_and_no_byte_behind_it_is_used(sent: bytes, content: bytes, step: int) -> None:
    body, found, used = decoded(sent + NEXT, step)
    assert (body.complete, found, used) == (True, content, len(sent))
    assert not decoded(sent[:-1], step)[0].complete


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED)
def test_an_ambiguous_body_is_refused(sent: bytes, step: int) -> None:
    with pytest.raises(ChunksRefused):
        decoded(sent, step)


SCRAPS = [
    b"0",
    b"5",
    b"\r\n",
    b"\n",
    b"\r",
    b";",
    b"a",
    b"=",
    b'"',
    b"\\",
    b" ",
    b":",
    b"hello",
    b"0\r\n\r\n",
    b"\0",
    NEXT,
]
seeds = st.sampled_from([*(sent for sent, _ in ACCEPTED.values()), *REFUSED.values()])


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    data = draw(seeds)[:500]
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.sampled_from(SCRAPS)) + data[at + draw(st.sampled_from([0, 0, 1, 2])) :]
    return data


@given(spoilt())
@settings(max_examples=3 * EXAMPLES, deadline=None)
def test_what_is_accepted_is_read_as_h11_reads_it(data: bytes) -> None:
    TARGETS["chunks"].load()(data)
