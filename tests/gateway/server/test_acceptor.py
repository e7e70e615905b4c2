"""Tests of the acceptor: how many connections it accepts in a turn of the loop."""

import asyncio
import socket
import time
from contextlib import ExitStack

import pytest

from gateway.server.acceptor import Acceptor
from gateway.server.connection_cap import ConnectionCap, Place
from gateway.server.timings import DEFAULT_TIMINGS

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
            stack.enter_context(socket.create_connection(listener.getsockname()))
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
