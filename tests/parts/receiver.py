"""Receiver of webhooks on a real socket: it takes what it is sent, or fails, stalls and redirects as it is told."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.parts.ports import HOST


@dataclass(frozen=True)
class Received:
    """One request. `headers`: by their names in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def events(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.body)["events"]
        return found


@dataclass
class Receiver:
    """`status`: of its responses; None: it never responds. `location`: where it redirects to."""

    status: int | None = 200
    location: str = ""
    requests: list[Received] = field(default_factory=list)
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)
    url: str = ""
    port: int = 0

    async def wait_for(self, count: int) -> list[Received]:
        """The first requests, once so many have arrived."""
        async with asyncio.timeout(20), self.arrived:
            await self.arrived.wait_for(lambda: len(self.requests) >= count)
        return self.requests[:count]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            async with self.arrived:
                self.requests.append(Received(head[0].split()[1], headers, body))
                self.arrived.notify_all()
            if self.status is None:
                await reader.read()  # until the sender has given up
                return
            more = f"Location: {self.location}\r\n" if self.location else ""
            writer.write(f"HTTP/1.1 {self.status} Told\r\nContent-Length: 0\r\n{more}\r\n".encode())
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiving(status: int | None = 200, location: str = "") -> AsyncIterator[Receiver]:
    """A receiver that listens on loopback."""
    receiver = Receiver(status, location)
    server = await asyncio.start_server(receiver.serve, HOST, 0)
    receiver.port = server.sockets[0].getsockname()[1]
    receiver.url = f"http://{HOST}:{receiver.port}/hook"
    try:
        yield receiver
    finally:
        server.close()
