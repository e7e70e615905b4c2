"""Http1Connection: Hypercorn's connection for HTTP/1.1 alone, without what costs time for each request.

Each override stands for itself and says what it bought, as a share of the processor time of a cached manifest.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import h11
from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.tcp_server import MAX_RECV, TCPServer
from hypercorn.asyncio.worker_context import EventWrapper, WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.events import Request, StreamClosed
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream
from hypercorn.typing import AppWrapper, ConnectionState
from hypercorn.utils import parse_socket_addr, suppress_body

from gateway.server.h11_state import Account

LAST_BYTES_SECONDS = 60.0
_FRAMED_OTHERWISE = (b"transfer-encoding", b"connection")
_BODILESS = (204, 304)


class Http1Connection(TCPServer):
    """Serves one connection and ends with it, whatever state it was in."""

    protocol: "_Protocol"  # type: ignore[assignment]

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        super().__init__(app, asyncio.get_running_loop(), config, context, ConnectionState({}), reader, writer)
        self.idle_task = _IdleTimer(self.loop, config.keep_alive_timeout, self._end_idle)  # type: ignore[assignment]
        self._encrypted = writer.get_extra_info("ssl_object") is not None
        self._giving_up: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """No other protocol is ever spoken here, so that nothing chooses one."""
        try:
            connected = self.writer.get_extra_info("socket")
            if (peer := self.writer.get_extra_info("peername")) is None:
                raise ConnectionAbortedError("the client has left")
            client = parse_socket_addr(connected.family, peer)
            server = parse_socket_addr(connected.family, self.writer.get_extra_info("sockname"))
            async with TaskGroup(self.loop) as tasks:
                self._task_group = tasks
                self.protocol = _Protocol(
                    self.app,
                    self.config,
                    self.context,
                    tasks,
                    ConnectionState({}),
                    self._encrypted,
                    client,
                    server,
                    self.protocol_send,
                )
                await self.idle_task.restart(tasks, self._idle_timeout)
                await self._read_data()
        except OSError:
            pass
        finally:
            await self._close()

    def end_if_idle(self) -> None:
        """When the server stops: who is in the midst of a request is left to finish it."""
        if self.idle_task.running:  # type: ignore[attr-defined]
            self._end_idle()

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, RawData) and not event.data:
            return  # the end of a body with a length; to write nothing took 3 %
        if isinstance(event, Closed):
            self.protocol.end_turns()
        elif isinstance(event, _LastData) and not self._encrypted:
            self._cork()
        await super().protocol_send(event)
        if self.writer.transport.is_closing():
            self.protocol.end_turns()

    def _cork(self) -> None:
        """What is written now goes out in one packet with the end, which follows at once: two packets took 8 % of an
        answer with a connection of its own."""
        with suppress(OSError):  # the client has left
            self.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)

    async def _read_data(self) -> None:
        try:
            while not self.reader.at_eof():
                await self.protocol.handle(RawData(await self.reader.read(MAX_RECV)))
        except OSError:
            pass
        await self.protocol.handle(Closed())
        await self.idle_task.stop()  # would keep the connection of a client that has left until its time is up

    def _end_idle(self) -> None:
        self._giving_up = self.loop.call_later(LAST_BYTES_SECONDS, self.writer.transport.abort)
        self.writer.close()

    async def _close(self) -> None:
        """What was answered gets its time to arrive; who does not take it by then is given up."""
        transport = self.writer.transport
        if self._giving_up is None and (self._encrypted or transport.get_write_buffer_size()):
            self._giving_up = self.loop.call_later(LAST_BYTES_SECONDS, transport.abort)
        try:
            self.writer.close()
            await self.writer.wait_closed()
        except (OSError, RuntimeError):
            pass  # closed already
        finally:
            if self._giving_up is not None:
                self._giving_up.cancel()
            await self.idle_task.stop()


@dataclass(frozen=True)
class _LastData(RawData):
    """After which the connection is closed, as its client has asked for: so nothing more of it is waiting to be read,
    for which the close would become a reset and take the data with it."""


class _IdleTimer:
    """Stands for Hypercorn's task that waits for a kept connection to be idle too long.

    A timer, since a task that is made and cancelled with every request took 20 %.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, end: Callable[[], None]) -> None:
        self._loop, self._seconds, self._end = loop, seconds, end
        self._timer: asyncio.TimerHandle | None = None

    @property
    def running(self) -> bool:
        return self._timer is not None

    async def restart(self, task_group: object, action: object) -> None:
        await self.stop()
        self._timer = self._loop.call_later(self._seconds, self._end)

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Turn(EventWrapper):
    """Whether the next request of a connection may be read.

    While a request runs whose successor has arrived, Hypercorn 0.18 does not read, and goes on not reading when the
    connection is over: its task would be left for ever, and stopping would wait for it.
    """

    over = False

    async def wait(self) -> None:
        if not self.over:
            await super().wait()
        if self.over:
            raise ConnectionAbortedError("the connection is over")


class _Protocol(H11Protocol):
    """A request is never an upgrade: the strict reader of heads has taken such words out, or refused the head."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.can_read = _Turn()
        self.connection = self.account = Account(self.config.h11_max_incomplete_size)

    def end_turns(self) -> None:
        self.can_read.over = True  # type: ignore[attr-defined]
        self.can_read._event.set()  # type: ignore[attr-defined]

    async def _check_protocol(self, event: h11.Request) -> None:
        """To look through the headers for an upgrade, here and below, took 4 %."""

    async def _create_stream(self, request: h11.Request) -> None:
        stream = self.stream = _Stream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        await stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=list(request.headers),
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii").upper(),
                raw_path=request.target,
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1


class _Stream(HTTPStream):
    """A request and its answer, of which head and body go out in one write where the app gives both at once.

    The head waits for the first message of the body, as ASGI has it; an empty one sends it off.
    """

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._protocol: _Protocol = self.send.__self__  # type: ignore[attr-defined]
        self._start: Any = None

    async def app_send(self, message: Any) -> None:
        if message is not None and message["type"] == "http.response.start" and self._start is None:
            self._start = message
            return
        start, self._start = self._start, None
        if start is not None:
            is_whole = message is not None and message["type"] == "http.response.body" and not message.get("more_body")
            if is_whole and self.state is ASGIHTTPState.REQUEST and not self.closed:
                await self._send_whole(start, message.get("body", b""))
                return
            await super().app_send(start)
        await super().app_send(message)

    async def _send_whole(self, start: Any, body: bytes) -> None:
        """One write for two took 10 %, and the checks of headers that we made ourselves 20 %."""
        status, headers = int(start["status"]), start["headers"]
        lines = b"".join([b"%b: %b\r\n" % pair for pair in headers])
        if lines.count(b"\n") != len(headers) or lines.count(b"\r") != len(headers) or b"\0" in lines:
            raise ValueError("a header holds a line break")
        names = {name for name, _ in headers}
        if not names.isdisjoint(_FRAMED_OTHERWISE):
            await super().app_send(start)
            await super().app_send({"type": "http.response.body", "body": body, "more_body": False})
            return
        if b"content-length" not in names and status not in _BODILESS and self.scope["method"] != "HEAD":
            lines += b"content-length: %d\r\n" % len(body)
        last = self._protocol.keep_alive_requests >= self.config.keep_alive_max_requests
        closes = self._protocol.account.note_answer(status, last=last)
        if closes is not None:
            ending = b"Connection: close\r\n" if closes else b""
            content = b"" if suppress_body(self.scope["method"], status) else body
            data = b"HTTP/1.1 %d \r\n%b%b\r\n%b" % (status, lines, ending, content)
            await self._protocol.send(_LastData(data) if closes and not last else RawData(data))
        self.response, self.state = start, ASGIHTTPState.CLOSED
        await self.send(StreamClosed(stream_id=self.stream_id))
