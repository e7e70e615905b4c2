"""Property tests: every accepted head is parsed as its lines say; the fuzzer's checks hold on fixed inputs too."""

from collections.abc import Iterable

import pytest
from h11 import NEED_DATA, RemoteProtocolError, Request
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.server.fast_connection import FastConnection
from gateway.server.request_head import HEAD_LIMIT, HEADER_LIMIT, parse_head

from .fuzz import TARGETS, head

checked = head()

EXAMPLES = settings.default.max_examples
TOKENS = st.text("abcABC0123456789!#$%&'*+-.^_`|~", min_size=1, max_size=12).map(str.encode)
VALUES = st.text([chr(code) for code in range(33, 127)], max_size=20).map(str.encode)
PADDING = st.sampled_from([b"", b" ", b"\t", b"  "])
PATHS = st.from_regex(rb"/([a-z0-9._~%:@?&=-][a-z0-9._~%:@?&=/-]{0,30})?", fullmatch=True)
HOSTS = st.sampled_from([b"a.test", b"a.test:80", b"[::1]:8080", b"127.0.0.1"])
FRAMINGS = st.sampled_from(
    [b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"content-length:\t0\r\n"]
)
OWN = (b"host", b"content-length", b"transfer-encoding")


@st.composite
def good_heads(draw: st.DrawFn) -> bytes:
    fields = draw(st.lists(st.tuples(TOKENS, PADDING, VALUES), max_size=8))
    lines = b"".join(name + b":" + space + value + b"\r\n" for name, space, value in fields if name.lower() not in OWN)
    first = draw(TOKENS) + b" " + draw(PATHS) + b" HTTP/1.1\r\n"
    return (first + b"Host: " + draw(HOSTS) + b"\r\n" + draw(FRAMINGS) + lines).removesuffix(b"\r\n")


SCRAPS = (
    *(
        b"GET ",
        b"POST /a ",
        b" HTTP/1.1",
        b" HTTP/1.0",
        b" HTTP/2.0",
        b"/",
        b"//",
        b"*",
        b"http://a",
        b"\r\n",
        b"\n",
        b"\r",
    ),
    *(
        b" ",
        b"\t",
        b":",
        b",",
        b"\0",
        b"\x0b",
        b"\x85",
        b"\xff",
        b"Host: a",
        b"Host",
        b"Content-Length: 5",
        b"Content-Length",
    ),
    *(
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding",
        b"chunked",
        b"identity",
        b"5",
        b"+5",
        b"0x5",
        b"\r\n ",
        b"\r\n\r\n",
    ),
    *(b"Upgrade: h2c", b"Connection: upgrade", b"Expect: 100-continue", b"A: b"),
)


@st.composite
def spoilt_heads(draw: st.DrawFn) -> bytes:
    spoilt = draw(good_heads())
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(spoilt)))
        until = at + draw(st.sampled_from([0, 0, 1, 2, 8]))
        spoilt = spoilt[:at] + draw(st.one_of(st.sampled_from(SCRAPS), st.binary(max_size=3))) + spoilt[until:]
    return spoilt


heads = st.one_of(spoilt_heads(), st.lists(st.sampled_from(SCRAPS), max_size=20).map(b"".join), st.binary(max_size=200))


@given(good_heads())
@settings(deadline=None)
def test_a_head_as_clients_send_it_is_accepted(data: bytes) -> None:
    parse_head(data)
    assert isinstance(fed([data + b"\r\n\r\n"]), Request)
    checked(data)


@given(heads)
@example(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked")
@example(b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c")
@example(b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r")
@settings(max_examples=5 * EXAMPLES, deadline=None)
def test_a_head_that_is_accepted_is_read_as_its_lines_say(data: bytes) -> None:
    checked(data)


def fed(pieces: Iterable[bytes]) -> Request | int | None:
    """Feed bytes in pieces to a connection: the request, the status of a refusal, or None while it is incomplete."""
    connection = FastConnection(HEAD_LIMIT)
    for piece in pieces:
        connection.receive_data(piece)
        try:
            found = connection.next_event()
        except RemoteProtocolError as error:
            return error.error_status_hint
        if found is not NEED_DATA:
            assert isinstance(found, Request)
            return found
    return None


@given(heads, st.sampled_from([b"\r\n\r\n", b"\n\n", b"\r\n\n", b"\n\r\n"]), st.lists(st.integers(1, 40), max_size=12))
@settings(max_examples=3 * EXAMPLES, deadline=None)
def test_it_does_not_matter_in_what_pieces_a_head_comes(data: bytes, end: bytes, cuts: list[int]) -> None:
    whole, pieces, at = data + end, [], 0
    for cut in cuts:
        pieces.append(whole[at : at + cut])
        at += cut
    once, split = fed([whole]), fed([piece for piece in [*pieces, whole[at:]] if piece])
    if isinstance(once, Request):
        assert b"\r\n\r\n" in whole
        assert isinstance(split, Request)
        assert (once.method, once.target, list(once.headers)) == (split.method, split.target, list(split.headers))
        assert b"upgrade" not in dict(once.headers)
    else:
        assert not isinstance(split, Request)


@given(st.integers(HEADER_LIMIT + 1, HEADER_LIMIT + 50), st.sampled_from([b"A: b", b"A:"]))
@settings(max_examples=20, deadline=None)
def test_too_many_header_lines_are_refused_as_too_large(count: int, line: bytes) -> None:
    data = b"\r\n".join([b"GET / HTTP/1.1", *[line] * count, b"", b""])
    assert fed([data]) == 431


@pytest.mark.parametrize("name", TARGETS)
def test_what_the_fuzzer_checks_holds_for_its_seeds_and_what_is_near_them(name: str) -> None:
    target = TARGETS[name]
    check = target.load()

    @given(st.sampled_from(target.seeds), st.integers(0, 200), st.binary(max_size=4), st.integers(0, 4))
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    def holds(seed: bytes, at: int, scrap: bytes, gone: int) -> None:
        check(seed[:at] + scrap + seed[at + gone :])

    for seed in target.seeds:
        check(seed)
    holds()
