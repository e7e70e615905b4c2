"""FastConnection: its shortcuts leave the state that h11 itself would have left, and are used only if they do."""

from collections.abc import Sequence
from typing import Any

import h11
import pytest

from gateway.server.fast_connection import FastConnection, behaves_as_h11, connection_type
from gateway.server.request_head import HEAD_LIMIT
from gateway.server.strict_connection import StrictConnection

HEAD = "GET / HTTP/1.1\r\nHost: a\r\n"
STATUS = 404
REQUESTS = {
    "that is kept": f"{HEAD}\r\n",
    "that ends the connection": f"{HEAD}Connection: close\r\n\r\n",
    "of an old client": "GET / HTTP/1.0\r\n\r\n",
    "for a head": f"{HEAD.replace('GET', 'HEAD')}\r\n",
    "with a body": f"{HEAD.replace('GET', 'PUT')}Content-Length: 2\r\n\r\nhi",
    "with chunks": f"{HEAD.replace('GET', 'PUT')}Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "whose body has not come": f"{HEAD.replace('GET', 'PUT')}Content-Length: 2\r\n\r\n",
    "that expects 100-continue": f"{HEAD.replace('GET', 'PUT')}Content-Length: 2\r\nExpect: 100-continue\r\n\r\n",
    "for a tunnel": "CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n",
    "with the next behind it": f"{HEAD}\r\n{HEAD}\r\n",
}
REFUSED = {
    "no version": ("GET /\r\nHost: a\r\n\r\n", 400),
    "two lengths": (f"{HEAD}Content-Length: 2\r\nContent-Length: 2\r\n\r\n", 400),
    "length and coding": (f"{HEAD}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "a folded line": (f"{HEAD}A: b\r\n c\r\n\r\n", 400),
    "a bare LF": (f"{HEAD}A: b\nB: c\r\n\r\n", 400),
    "bare LF at the end": (f"{HEAD}\n", 400),
    "HTTP/2": ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "a long target": (f"{HEAD.replace('/ ', '/' + 9000 * 'a' + ' ')}\r\n", 414),
    "many lines": (HEAD + 150 * "A: b\r\n" + "\r\n", 431),
    "no end": (f"{HEAD}A: {40_000 * 'b'}", 431),
}
TYPES = [FastConnection, StrictConnection]
State = dict[type[h11._util.Sentinel], type[h11._util.Sentinel]]


def read(connection: h11.Connection, sent: str, *, leaves: bool) -> None:
    connection.receive_data(sent.encode())
    if leaves:
        connection.receive_data(b"")
    while connection.next_event() not in (h11.NEED_DATA, h11.PAUSED, h11.ConnectionClosed()):
        pass


def state(connection: h11.Connection) -> tuple[State, bool, object, object]:
    cycle = connection._cstate
    reader = connection._reader
    if reader is not None and reader == getattr(connection, "_read_head", None):
        reader = h11._readers.READERS[h11.CLIENT, h11.IDLE]
    return cycle.states, cycle.keep_alive, type(reader), type(connection._writer)


@pytest.mark.parametrize("leaves", [False, True], ids=["open", "half closed"])
@pytest.mark.parametrize("last", [False, True], ids=["", "last"])
@pytest.mark.parametrize("sent", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize("connection_type", TYPES)
def test_an_answer_as_a_whole_leaves_what_head_and_end_would(
    connection_type: type[StrictConnection], sent: str, last: bool, leaves: bool
) -> None:
    ours, theirs = connection_type(HEAD_LIMIT), h11.Connection(h11.SERVER)
    for connection in (ours, theirs):
        try:
            read(connection, sent, leaves=leaves)
        except h11.RemoteProtocolError:
            assert leaves, "only a body that ends too early is refused"
    ending = [(b"connection", b"close")] if last else []
    head = h11.Response(status_code=STATUS, headers=[(b"content-length", b"0"), *ending])
    head_sent = theirs.send(head).lower()
    theirs.send(h11.EndOfMessage())

    assert ours.note_response(STATUS, last=last) == (b"connection: close\r\n" in head_sent)

    assert state(ours) == state(theirs)
    if ours.our_state is ours.their_state is h11.DONE:
        for connection in (ours, theirs):
            connection.start_next_cycle()
        assert state(ours) == state(theirs)


def test_headers_are_those_that_h11_reads() -> None:
    sent = b"GET / HTTP/1.1\r\nHOST: a\r\nAccept: b/c\r\naccept:  d/e \r\n\r\n"
    for connection in (FastConnection(HEAD_LIMIT), StrictConnection(HEAD_LIMIT)):
        connection.receive_data(sent)
        request = connection.next_event()
        assert isinstance(request, h11.Request)
        assert connection.headers_of(request) == [(b"host", b"a"), (b"accept", b"b/c"), (b"accept", b"d/e")]


def test_a_kept_connection_goes_on_with_the_next_request() -> None:
    connection = FastConnection(HEAD_LIMIT)
    for _ in range(3):
        read(connection, REQUESTS["that is kept"], leaves=False)
        assert connection.note_response(STATUS, last=False) is False
        connection.start_next_cycle()
    read(connection, REQUESTS["that ends the connection"], leaves=False)
    assert connection.note_response(STATUS, last=False) is True
    assert connection.our_state is h11.MUST_CLOSE


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("connection_type", TYPES)
def test_a_second_answer_is_an_error(connection_type: type[StrictConnection], last: bool) -> None:
    connection = connection_type(HEAD_LIMIT)
    read(connection, REQUESTS["that is kept"], leaves=False)
    connection.note_response(STATUS, last=False)

    with pytest.raises(h11.LocalProtocolError):
        connection.note_response(STATUS, last=last)


@pytest.mark.parametrize("connection_type", TYPES)
def test_an_answer_to_a_client_that_broke_off_is_not_sent(connection_type: type[StrictConnection]) -> None:
    connection = connection_type(HEAD_LIMIT)
    with pytest.raises(h11.RemoteProtocolError):
        read(connection, REQUESTS["whose body has not come"], leaves=True)
    connection.note_response(STATUS, last=False)

    assert connection.note_response(STATUS, last=False) is None


@pytest.mark.parametrize("step", [1, 7, 100_000])
@pytest.mark.parametrize("sent, status", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("connection_type", TYPES)
def test_a_head_is_refused_on_the_first_request_and_on_a_later_one(
    connection_type: type[StrictConnection], sent: str, status: int, step: int
) -> None:
    for kept in (0, 2):
        connection = connection_type(HEAD_LIMIT)
        for _ in range(kept):
            read(connection, REQUESTS["that is kept"], leaves=False)
            connection.note_response(STATUS, last=False)
            connection.start_next_cycle()
        start = max(0, len(sent) - 9_100)  # the limits are crossed behind it
        pieces = [sent[:start]] if start else []
        pieces += [sent[at : at + step] for at in range(start, len(sent), step)]
        with pytest.raises(h11.RemoteProtocolError) as refusal:
            for piece in pieces:
                read(connection, piece, leaves=False)
        assert refusal.value.error_status_hint == status


CHUNKED = f"{HEAD.replace('GET', 'PUT')}Transfer-Encoding: chunked\r\n\r\n"
REFUSED_CHUNKS = {
    "a sign": "+5\r\nhello\r\n0\r\n\r\n",
    "CR in an extension": "5;a\rb\r\nhello\r\n0\r\n\r\n",
    "bytes behind a chunk": "5\r\nhello!\r\n0\r\n\r\n",
    "a trailer that ends with LF": "5\r\nhello\r\n0\r\nA: b\n\r\n",
    "a folded trailer": "5\r\nhello\r\n0\r\nA: b\r\n c\r\n\r\n",
}


@pytest.mark.parametrize("with_head", [0, 1, 12])
@pytest.mark.parametrize("step", [1, 7, 100_000])
@pytest.mark.parametrize("sent", REFUSED_CHUNKS.values(), ids=REFUSED_CHUNKS)
@pytest.mark.parametrize("connection_type", TYPES)
def test_chunks_are_refused_however_they_arrive(
    connection_type: type[StrictConnection], sent: str, step: int, with_head: int
) -> None:
    connection = connection_type(HEAD_LIMIT)
    first, rest = CHUNKED + sent[:with_head], sent[with_head:]
    with pytest.raises(h11.RemoteProtocolError) as refusal:
        for piece in (first, *(rest[at : at + step] for at in range(0, len(rest), step))):
            read(connection, piece, leaves=False)
    assert refusal.value.error_status_hint == 400


@pytest.mark.parametrize("connection_type", TYPES)
def test_after_refused_chunks_only_the_refusal_is_sent(connection_type: type[StrictConnection]) -> None:
    connection = connection_type(HEAD_LIMIT)
    read(connection, CHUNKED, leaves=False)
    with pytest.raises(h11.RemoteProtocolError):
        read(connection, "nonsense\r\n", leaves=False)
    connection.note_response(400, last=True)

    assert connection.note_response(STATUS, last=False) is None


# Another version of h11, whose internals are not these.


class WithoutReader(FastConnection):
    """A version that takes its readers from somewhere else."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(
            "_reader_of_old" if name == "_reader" and callable(value) and self._is_ours(value) else name, value
        )

    def _is_ours(self, value: Any) -> bool:
        return getattr(value, "__func__", None) is FastConnection._read_head


class WithoutStates(FastConnection):
    """A version that keeps its states under another name."""

    def __getattribute__(self, name: str) -> Any:
        if name == "_cstate":
            raise AttributeError(name)
        return super().__getattribute__(name)


class ForgetfulOfClosing(FastConnection):
    """A version in which a complete response leaves another state."""

    def note_response(self, status: int, *, last: bool) -> bool | None:
        super().note_response(status, last=last)
        return False


@pytest.mark.parametrize("version", [WithoutReader, WithoutStates, ForgetfulOfClosing])
def test_another_version_of_h11_is_recognised(version: type[FastConnection]) -> None:
    assert not behaves_as_h11(version)


def test_the_installed_version_of_h11_is_known() -> None:
    assert connection_type() is FastConnection


def events(connection: h11.Connection, pieces: Sequence[str]) -> list[h11.Event]:
    found: list[h11.Event] = []
    for piece in pieces:
        connection.receive_data(piece.encode())
        while isinstance(event := connection.next_event(), h11.Request | h11.Data | h11.EndOfMessage):
            found.append(event)
    return found


@pytest.mark.parametrize("sent", REQUESTS.values(), ids=REQUESTS)
def test_both_types_read_the_same_request(sent: str) -> None:
    pieces = [sent[:7], sent[7:]]
    assert events(FastConnection(HEAD_LIMIT), pieces) == events(StrictConnection(HEAD_LIMIT), pieces)


@pytest.mark.parametrize("name", ["with a body", "with chunks"])
@pytest.mark.parametrize("cut", [1, 3, 5])
def test_a_body_that_is_ended_leaves_what_its_last_byte_would(name: str, cut: int) -> None:
    ours, theirs = FastConnection(HEAD_LIMIT), h11.Connection(h11.SERVER)
    sent = REQUESTS[name][: -min(cut, 2) if name == "with a body" else -cut]
    read(ours, sent, leaves=False)
    read(theirs, REQUESTS[name], leaves=False)

    ours.end_body()

    assert state(ours) == state(theirs)
    assert ours.trailing_data == (b"", False)
    assert ours.chunks is None
