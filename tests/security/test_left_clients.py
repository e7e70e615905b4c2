"""Nothing is left of a client that has left: no connection, no task and no descriptor, whatever was in progress."""

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from gateway.cli import folder
from gateway.http.drain import DrainLimits
from gateway.http.stalls import StalledClients
from gateway.server.client_connection import ConnectionInScope
from gateway.server.strict_connection import StrictConnection
from gateway.server.tls import TlsFiles
from gateway.settings.tables import Settings
from gateway.wiring.app import Surfaces, running
from tests.parts import raw
from tests.parts.certs import Authority
from tests.parts.processes import HOST

from .counted import BODY, WITHIN, Counted, connected, counted, head, until
from .serving import serving

FLOOD = 100
LENGTH = f"Content-Length: {BODY}"
CHUNKED = "Transfer-Encoding: chunked"
BYTES = b"1\r\na\r\n" * FLOOD
LARGE_LENGTH = f"Content-Length: {4 * BODY}"
LARGE_CHUNKS = b"8000\r\n%b\r\n" % bytes(32 * 1024) * 40
RESPONDED = b"HTTP/1.1 "


@dataclass(frozen=True)
class Phase:
    """What a client sends before it leaves. `seen`: what it then receives; `waits`: a handler then waits for `go`."""

    sent: bytes
    seen: bytes = b""
    waits: bool = False


PHASES = {
    "nothing sent": Phase(b""),
    "in a head": Phase(head("whole")[:-9]),
    "between head and body": Phase(head("reads", LENGTH, method="POST")),
    "between head and chunks": Phase(head("reads", CHUNKED, method="POST")),
    "in a body": Phase(head("reads", LENGTH, method="POST") + bytes(BODY // 2), waits=True),
    "in a body of chunks": Phase(head("reads", CHUNKED, method="POST") + BYTES, waits=True),
    "in a chunk": Phase(head("reads", CHUNKED, method="POST") + b"5\r\nhel", waits=True),
    "in a large body": Phase(head("reads_large", LARGE_LENGTH, method="POST") + bytes(3 * BODY), waits=True),
    "in large chunks": Phase(head("reads_large", CHUNKED, method="POST") + LARGE_CHUNKS, waits=True),
    "in a large body whose response is ready": Phase(
        head("ends_within_large", LARGE_LENGTH, method="POST") + bytes(3 * BODY), RESPONDED
    ),
    "in large chunks whose response is ready": Phase(
        head("ends_within_large", CHUNKED, method="POST") + LARGE_CHUNKS, RESPONDED
    ),
    "in a body that nobody reads": Phase(head("waits", LENGTH, method="POST") + bytes(BODY // 2), waits=True),
    "in chunks that nobody reads": Phase(head("waits", CHUNKED, method="POST") + BYTES, waits=True),
    "in a body whose response is ready": Phase(head("whole", LENGTH, method="POST") + bytes(BODY // 2), RESPONDED),
    "in chunks whose response is ready": Phase(head("whole", CHUNKED, method="POST") + BYTES, RESPONDED),
    "in a body during the response": Phase(head("waits_within", LENGTH, method="POST") + bytes(BODY // 2), b"pong"),
    "in chunks during the response": Phase(head("waits_within", CHUNKED, method="POST") + BYTES, b"pong"),
    "before a response": Phase(head("waits"), waits=True),
    "during a response": Phase(head("large"), RESPONDED),
    "during a file": Phase(head("file"), RESPONDED),
    "during a response that waits": Phase(head("waits_within"), b"pong", waits=True),
    "after a short response": Phase(head("short"), b"pong"),
    "after a short response, in a body": Phase(head("short", LENGTH, method="POST") + bytes(BODY // 2), b"pong"),
    "after a short response, in chunks": Phase(head("short", CHUNKED, method="POST") + BYTES, b"pong"),
    "after a failure": Phase(head("fails"), b"errors"),
    "after a failure, in a body": Phase(head("fails", LENGTH, method="POST") + bytes(BODY // 2), b"errors"),
    "after a failure, in chunks": Phase(head("fails", CHUNKED, method="POST") + BYTES, b"errors"),
    "after a failure during the response, in chunks": Phase(
        head("fails_later", CHUNKED, method="POST") + BYTES, b"pong"
    ),
    "between requests": Phase(head("whole"), b"pong"),
    "with a request waiting": Phase(head("waits") + head("whole"), waits=True),
    "with requests waiting behind a large response": Phase(head("large") * 3, RESPONDED),
    "with requests waiting behind a file": Phase(head("file") * 3, RESPONDED),
    "asked to continue": Phase(head("reads", LENGTH, "Expect: 100-continue", method="POST"), b"HTTP/1.1 100 "),
    "asked to continue, in a body": Phase(
        head("reads", LENGTH, "Expect: 100-continue", method="POST") + bytes(BODY // 2), b"HTTP/1.1 100 ", waits=True
    ),
    "after a refused head": Phase(b"GET / HTTP/1.1\r\nA : b\r\n\r\n", b"HTTP/1.1 400 "),
    "after a refused chunk": Phase(head("reads", CHUNKED, method="POST") + b"nonsense\r\n", b"HTTP/1.1 400 "),
}
Leaving = Callable[[socket.socket], None]


def close(client: socket.socket) -> None:
    client.close()


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def half_close_first(client: socket.socket) -> None:
    shut(client)
    client.close()


LEAVINGS = {"closes": close, "resets": reset, "half-closes, then closes": half_close_first}


@pytest.mark.parametrize("leave", LEAVINGS.values(), ids=LEAVINGS)
@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
async def test_a_client_that_leaves_leaves_nothing(phase: Phase, leave: Leaving) -> None:
    async with counted() as server:
        await send_and_leave(server, phase, leave)
        server.handlers.go.set()
        await server.is_as_before()


@pytest.mark.parametrize(
    "name",
    [name for name, phase in PHASES.items() if LENGTH.encode() in phase.sent],
)
async def test_a_client_that_leaves_leaves_nothing_on_an_unknown_h11(name: str) -> None:
    async with counted(h11_type=StrictConnection) as server:
        await send_and_leave(server, PHASES[name], close)
        server.handlers.go.set()
        await server.is_as_before()


async def send_and_leave(server: Counted, phase: Phase, leave: Leaving) -> None:
    loop, client = asyncio.get_running_loop(), connected(server.port)
    async with asyncio.timeout(WITHIN):
        sending = asyncio.ensure_future(loop.sock_sendall(client, phase.sent))
        received = b""
        while phase.seen not in received:
            received += (part := await loop.sock_recv(client, 1000))
            assert part, received
        if phase.waits:
            await server.handlers.waiting.wait()
        if not phase.sent:
            await until(lambda: server.state.connections == 1)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    leave(client)


async def test_a_reset_is_noticed_after_a_half_close() -> None:
    """A half-closed client may wait for its response, and nothing is read from it that would tell of a reset."""
    async with counted() as server:
        client = connected(server.port)
        await asyncio.get_running_loop().sock_sendall(client, head("waits_within"))
        client.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(WITHIN):
            await server.handlers.waiting.wait()
        reset(client)
        await server.is_as_before()
        assert server.handlers.cancelled


async def test_no_file_follows_the_refusal_of_a_request() -> None:
    """The app learns of it as of a client that has left."""
    async with counted() as server:
        loop, client = asyncio.get_running_loop(), connected(server.port)
        async with asyncio.timeout(WITHIN):
            await loop.sock_sendall(client, head("waits_for_file", CHUNKED))
            await server.handlers.waiting.wait()
            await loop.sock_sendall(client, b"nonsense\r\n")
            assert (await loop.sock_recv(client, 1000)).startswith(b"HTTP/1.1 400 ")
            server.handlers.go.set()
            await until(lambda: server.handlers.broken_off is not None)
            assert await loop.sock_recv(client, 1000) == b""
        client.close()
        await server.is_as_before()


@pytest.mark.parametrize("half_closed", [False, True])
async def test_a_server_stops_whatever_its_clients_are_doing(half_closed: bool) -> None:
    loop = asyncio.get_running_loop()
    with ExitStack() as held:
        async with counted() as server:
            sending = []
            for phase in PHASES.values():
                client = held.enter_context(connected(server.port))
                sending.append(asyncio.ensure_future(loop.sock_sendall(client, phase.sent)))
                if half_closed:
                    sending[-1].add_done_callback(lambda _, client=client: shut(client))  # type: ignore[misc]
            async with asyncio.timeout(WITHIN):
                await until(lambda: server.handlers.waiting.is_set())
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)
        assert server.state.connections == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("half_closed", [False, True])
async def test_a_server_stops_although_a_client_receives_nothing_of_its_response(half_closed: bool) -> None:
    loop = asyncio.get_running_loop()
    with ExitStack() as held:
        async with counted() as server:
            for _ in range(3):
                client = held.enter_context(connected(server.port))
                await loop.sock_sendall(client, head("large"))
                if half_closed:
                    shut(client)
            await until(lambda: server.state.connections == 3)
        assert server.state.connections == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}


def shut(client: socket.socket) -> None:
    with suppress(OSError):  # the server may have reset the connection
        client.shutdown(socket.SHUT_WR)


# TLS.


@pytest.mark.parametrize("sent", [b"", bytes.fromhex("16030100c8010000c40303")])
async def test_a_client_that_leaves_a_handshake_leaves_nothing(sent: bytes, authority: Authority) -> None:
    async with counted(tls=TlsFiles(authority.cert_file, authority.key_file)) as server:
        before = sockets()
        with connected(server.port) as client:
            await asyncio.get_running_loop().sock_sendall(client, sent)
            async with asyncio.timeout(WITHIN):
                await until(lambda: sockets() == before + 2)
        await server.is_as_before()


@pytest.mark.parametrize("name", ["in a head", "in chunks that nobody reads", "during a response that waits"])
@pytest.mark.parametrize("says_goodbye", [True, False])
async def test_a_client_that_leaves_over_tls_leaves_nothing(
    name: str, says_goodbye: bool, authority: Authority
) -> None:
    phase = PHASES[name]
    async with counted(tls=TlsFiles(authority.cert_file, authority.key_file)) as server, asyncio.timeout(WITHIN):
        context = ssl.create_default_context(cafile=str(authority.ca_file))
        reader, writer = await asyncio.open_connection(HOST, server.port, ssl=context)
        writer.write(phase.sent)
        await reader.readuntil(phase.seen) if phase.seen else await writer.drain()
        if phase.waits:
            await server.handlers.waiting.wait()
        if says_goodbye:
            writer.close()
        else:
            writer.transport.abort()
        server.handlers.go.set()
        await server.is_as_before()
        with suppress(OSError):
            await writer.wait_closed()


async def test_a_refusal_to_a_client_that_has_left_over_tls_fails_nobody(authority: Authority) -> None:
    left, refused, failures = asyncio.Event(), asyncio.Event(), list[Exception]()

    async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        await left.wait()
        try:
            await send({"type": "http.response.start", "status": 400, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"no"})
        except Exception as error:
            failures.append(error)
        refused.set()

    watched, tls = ConnectionInScope(StalledClients(refuses)), TlsFiles(authority.cert_file, authority.key_file)
    async with serving(watched, tls=tls) as server, asyncio.timeout(WITHIN):
        context, before = ssl.create_default_context(cafile=str(authority.ca_file)), sockets()
        _, writer = await asyncio.open_connection(HOST, server.port, ssl=context)
        writer.write(head("a", LENGTH, method="POST") + bytes(5))
        await writer.drain()
        writer.close()
        await until(lambda: sockets() <= before)
        left.set()
        await refused.wait()
    assert failures == []


# The whole application.


async def test_flooded_bodies_leave_nothing_of_the_whole_application(scratch: Path) -> None:
    async with folder.open_made(Settings.model_validate({"data": str(scratch)})):
        pass
    settings = Settings.model_validate({"data": str(scratch)})
    drain = DrainLimits(seconds=0.2)
    async with running(settings, ["http://127.0.0.1:8080"], drain=drain) as [app], serving(app) as served:
        before, loop = sockets(), asyncio.get_running_loop()
        clients = [served.connect() for _ in range(5)]
        sent = head("v2/x", CHUNKED, method="POST")
        async with asyncio.timeout(WITHIN):
            await asyncio.gather(*(loop.sock_sendall(client, sent) for client in clients))
            while clients:
                for client in list(clients):
                    try:
                        await loop.sock_sendall(client, b"1\r\na\r\n" * 20)
                    except ConnectionError:
                        clients.remove(client)
                        client.close()
            await until(lambda: sockets() <= before)


def sockets() -> int:
    """Count the sockets of this process, whose other descriptors the application opens when it likes."""
    found = 0
    for entry in os.scandir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found += os.readlink(entry.path).startswith("socket:")
    return found


async def test_a_failure_is_told_to_a_client_that_is_still_sending(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: Surfaces, scope: Scope, receive: Receive, send: Send) -> None:
        raise ArithmeticError("a handler that fails")

    monkeypatch.setattr(Surfaces, "__call__", fail)
    async with folder.open_made(Settings.model_validate({"data": str(scratch)})):
        pass
    settings = Settings.model_validate({"data": str(scratch)})
    async with running(settings, ["http://127.0.0.1:8080"]) as [app], serving(app) as served:
        found = await asyncio.to_thread(raw.request, "PUT", f"http://{HOST}:{served.port}/v2/x", (), bytes(20_000_000))
    assert (found.status, found.complete) == (500, True)
