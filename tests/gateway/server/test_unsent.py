"""Tests of the bytes that wait for clients: each document counts once, and the longest wait ends first."""

from contextlib import ExitStack

from gateway.server.unsent import Unsent


class Client:
    def __init__(self) -> None:
        self.aborted = 0

    def abort(self) -> None:
        self.aborted += 1


def test_each_response_counts_its_data_and_what_is_buffered() -> None:
    unsent = Unsent(1000)
    with unsent.waiting(b"a" * 100, 30, Client().abort), unsent.waiting(b"b" * 50, 20, Client().abort):
        assert unsent.bytes == 200
    assert unsent.bytes == 0


def test_a_document_that_several_responses_send_counts_once() -> None:
    unsent, document = Unsent(1000), b"a" * 100
    with unsent.waiting(document, 1, Client().abort):
        with unsent.waiting(document, 1, Client().abort):
            assert unsent.bytes == 102
        assert unsent.bytes == 101
    assert unsent.bytes == 0


def test_above_the_limit_those_that_have_waited_longest_are_aborted() -> None:
    unsent, clients = Unsent(1000), [Client() for _ in range(5)]
    with ExitStack() as held:
        for number, client in enumerate(clients):
            held.enter_context(unsent.waiting(bytes([number]) * 300, 0, client.abort))
        assert [client.aborted for client in clients] == [1, 1, 0, 0, 0]
        assert unsent.bytes == 900
    assert unsent.bytes == 0


def test_a_response_that_receives_in_between_is_not_the_one_that_has_waited_longest() -> None:
    unsent, slow, silent = Unsent(1000), Client(), Client()
    with unsent.waiting(b"a" * 400, 0, slow.abort):
        pass
    with (
        unsent.waiting(b"b" * 400, 0, silent.abort),
        unsent.waiting(b"a" * 400, 0, slow.abort),
        unsent.waiting(b"c" * 400, 0, Client().abort),
    ):
        assert (silent.aborted, slow.aborted) == (1, 0)
