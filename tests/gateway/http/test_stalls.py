"""Clients that request and do not receive are disconnected, whichever way the bytes are sent."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.cli import folder
from gateway.http.stalls import StallLimits
from gateway.observability.server_state import ServerState
from gateway.server.http_server import Server
from gateway.settings.tables import Settings
from gateway.wiring.app import running
from tests.gateway.asgi import send_request
from tests.parts.images import seeded
from tests.parts.liar import Liar
from tests.parts.ports import HOST, listen
from tests.parts.processes import wait_until

PROXIED = "/v2/hub/dependency_proxy/containers/library/any/blobs"


@dataclass(frozen=True)
class Impatient:
    """A server in this process that aborts a stalled response after a second or two, and a blob that it has cached."""

    port: int
    target: str
    server_state: ServerState


@pytest.fixture
async def impatient(tmp_path: Path, liar: Liar) -> AsyncIterator[Impatient]:
    async with folder.open_made(Settings.model_validate({"data": str(tmp_path)})):
        pass
    target = f"{PROXIED}/{liar.offer_blob(seeded('stalls', 2_000_000))}"
    given = {"data": str(tmp_path), "upstreams": {"docker.io": liar.settings()}}
    stop, listener, server_state = asyncio.Event(), listen(0), ServerState()
    limits = StallLimits(response_window=0.5)
    async with running(Settings.model_validate(given), ["http://127.0.0.1"], stalls=limits) as [app]:
        assert (await send_request(app, "GET", target)).complete
        serving = asyncio.ensure_future(Server(app, server_state=server_state).serve(listener, stop, 1.0))
        yield Impatient(listener.getsockname()[1], target, server_state)
        stop.set()
        await serving


@pytest.mark.parametrize("size", [60_000, 2_000_000])
async def test_a_client_that_takes_nothing_is_given_up(size: int, impatient: Impatient) -> None:
    loop = asyncio.get_running_loop()
    wanted = f"GET {impatient.target} HTTP/1.1\r\nHost: {HOST}\r\nRange: bytes=0-{size - 1}\r\n\r\n".encode()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, (HOST, impatient.port))
        await loop.sock_sendall(client, wanted * 150)
        await asyncio.to_thread(
            wait_until, lambda: impatient.server_state.connections == 1, what="it was never accepted"
        )
        await asyncio.to_thread(wait_until, lambda: impatient.server_state.connections == 0, what="it is still there")
