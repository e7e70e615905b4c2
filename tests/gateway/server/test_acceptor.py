"""Tests of the acceptor: how many connections it accepts in a turn of the loop, and what those cost that send
nothing."""

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from gateway.server.acceptor import Acceptor
from gateway.server.connection_cap import ConnectionCap, Place
from gateway.server.timings import DEFAULT_TIMINGS, ServerTimings
from tests.parts.processes import wait_until

CONNECTIONS = 30
LONG_TURN = 0.02


@pytest.mark.parametrize("turn_seconds", [0.0, LONG_TURN])
async def test_a_loop_whose_turns_are_long_accepts_several_connections_in_one(turn_seconds: float) -> None:
    accepted: list[Place] = []

    async def connected(place: Place, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(place)
        writer.close()

    async def rejected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise AssertionError("there is a place for each")

    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=CONNECTIONS))
        for _ in range(CONNECTIONS):
            stack.enter_context(socket.create_connection(listener.getsockname())).sendall(b"G")
        acceptor = Acceptor(
            listener, connected, rejected, ConnectionCap(CONNECTIONS), lambda: None, timings=DEFAULT_TIMINGS
        )
        turns = 0
        while len(accepted) < CONNECTIONS:
            turns += 1
            time.sleep(turn_seconds)  # noqa: ASYNC251  the loop is busy
            await asyncio.sleep(0)
        acceptor.close()
    # A turn in which others had the processor is a long one, too.
    assert (turns > CONNECTIONS // 3) == (turn_seconds == 0), turns


class Accepting:
    """An acceptor, and what it has given to be served or rejected: the number of tasks so far."""

    def __init__(self, stack: ExitStack, timings: ServerTimings = DEFAULT_TIMINGS, places: int = CONNECTIONS) -> None:
        self.listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=CONNECTIONS))
        self.cap = ConnectionCap(places)
        self.served = 0
        self.acceptor = Acceptor(self.listener, self._serve, self._reject, self.cap, lambda: None, timings)
        stack.callback(self.close)

    def close(self) -> None:
        if self.listener.fileno() >= 0:
            self.acceptor.close()

    async def _serve(self, place: Place, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.served += 1
        await reader.read()
        writer.close()
        await writer.wait_closed()

    async def _reject(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise AssertionError("there is a place for each")

    @property
    def places(self) -> int:
        """Places that are taken."""
        return self.cap._count


async def test_a_connection_is_served_from_its_first_bytes_on() -> None:
    with ExitStack() as stack:
        accepting, loop = Accepting(stack), asyncio.get_running_loop()
        before = len(asyncio.all_tasks())
        clients = [stack.enter_context(socket.create_connection(accepting.listener.getsockname())) for _ in range(10)]
        await until(lambda: len(accepting.acceptor._silent) == 10)
        assert (accepting.served, len(asyncio.all_tasks())) == (0, before)
        clients[0].sendall(b"G")
        await until(lambda: accepting.served == 1)
        for client in clients:
            client.close()
        await until(lambda: accepting.places == 0 and len(asyncio.all_tasks(loop)) <= before + 1)
        assert accepting.served == 1


async def test_a_connection_that_sends_nothing_ends_in_time() -> None:
    with ExitStack() as stack:
        accepting = Accepting(stack, ServerTimings(keep_alive=0.05))
        client = stack.enter_context(socket.create_connection(accepting.listener.getsockname()))
        assert await asyncio.to_thread(client.recv, 1) == b""
        await until(lambda: accepting.places == 0)


async def test_a_connection_without_bytes_is_served_where_nothing_more_is_accepted() -> None:
    with ExitStack() as stack:
        accepting = Accepting(stack)
        client = stack.enter_context(socket.create_connection(accepting.listener.getsockname()))
        await until(lambda: len(accepting.acceptor._silent) == 1)
        accepting.close()
        [serving] = accepting.acceptor.connecting
        client.close()
        await asyncio.wait_for(serving, 10)
        assert accepting.served == 1


async def until(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_until, condition, 10)
