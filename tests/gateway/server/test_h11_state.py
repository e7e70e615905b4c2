"""The account of a connection: its short way leaves it as h11 itself would have left it."""

import h11
import pytest

from gateway.server import request_head
from gateway.server.h11_state import Account

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
    "that wants to hear first": f"{HEAD.replace('GET', 'PUT')}Content-Length: 2\r\nExpect: 100-continue\r\n\r\n",
    "for a tunnel": "CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n",
    "with the next behind it": f"{HEAD}\r\n{HEAD}\r\n",
}
State = dict[type[h11._util.Sentinel], type[h11._util.Sentinel]]


@pytest.fixture(autouse=True)
def strictly() -> None:
    request_head.install()


def read(account: h11.Connection, sent: str, *, leaves: bool) -> None:
    account.receive_data(sent.encode())
    if leaves:
        account.receive_data(b"")
    while account.next_event() not in (h11.NEED_DATA, h11.PAUSED, h11.ConnectionClosed()):
        pass


def state(account: h11.Connection) -> tuple[State, bool, object, object]:
    cycle = account._cstate
    return cycle.states, cycle.keep_alive, type(account._reader), type(account._writer)


@pytest.mark.parametrize("leaves", [False, True], ids=["open", "half closed"])
@pytest.mark.parametrize("last", [False, True], ids=["", "last"])
@pytest.mark.parametrize("sent", REQUESTS.values(), ids=REQUESTS)
def test_an_answer_as_a_whole_leaves_what_head_and_end_would(sent: str, last: bool, leaves: bool) -> None:
    ours, theirs = Account(request_head.HEAD_LIMIT), h11.Connection(h11.SERVER)
    for account in (ours, theirs):
        try:
            read(account, sent, leaves=leaves)
        except h11.RemoteProtocolError:
            assert leaves, "only a body that ends too early is refused"
    ending = [(b"connection", b"close")] if last else []
    head = h11.Response(status_code=STATUS, headers=[(b"content-length", b"0"), *ending])
    told = theirs.send(head).lower()
    theirs.send(h11.EndOfMessage())

    assert ours.note_answer(STATUS, last=last) == (b"connection: close\r\n" in told)

    assert state(ours) == state(theirs)
    if ours.our_state is ours.their_state is h11.DONE:
        for account in (ours, theirs):
            account.start_next_cycle()
        assert state(ours) == state(theirs)


def test_a_kept_connection_goes_on_with_the_next_request() -> None:
    account = Account(request_head.HEAD_LIMIT)
    for _ in range(3):
        read(account, REQUESTS["that is kept"], leaves=False)
        assert account.note_answer(STATUS, last=False) is False
        account.start_next_cycle()
    read(account, REQUESTS["that ends the connection"], leaves=False)
    assert account.note_answer(STATUS, last=False) is True
    assert account.our_state is h11.MUST_CLOSE


@pytest.mark.parametrize("last", [False, True])
def test_a_second_answer_is_an_error(last: bool) -> None:
    account = Account(request_head.HEAD_LIMIT)
    read(account, REQUESTS["that is kept"], leaves=False)
    account.note_answer(STATUS, last=False)

    with pytest.raises(h11.LocalProtocolError):
        account.note_answer(STATUS, last=last)


def test_an_answer_to_a_client_that_broke_off_is_not_sent() -> None:
    account = Account(request_head.HEAD_LIMIT)
    with pytest.raises(h11.RemoteProtocolError):
        read(account, REQUESTS["whose body has not come"], leaves=True)
    account.note_answer(STATUS, last=False)

    assert account.note_answer(STATUS, last=False) is None
