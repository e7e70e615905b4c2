"""Http1Connection: Hypercorn's connection for HTTP/1.1 alone, without what costs time for each request.

Each override says why it is there, or its share of the processor time of a cached manifest.
"""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import h11
from hypercorn.asyncio.tcp_server import MAX_RECV, TCPServer
from hypercorn.asyncio.worker_context import EventWrapper, WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import EndBody, Request, StreamClosed
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr, suppress_body
from starlette.types import ASGIApp

from gateway.server.buffers import BodyBuffers
from gateway.server.chunked_body import ChunkedBody
from gateway.server.connection_cap import Place
from gateway.server.connection_reader import ConnectionReader
from gateway.server.fast_connection import FastConnection
from gateway.server.refused_heads import RefusedHeads
from gateway.server.request_tasks import RequestTasks
from gateway.server.status_line import REASON_PHRASE, status_line
from gateway.server.strict_connection import StrictConnection
from gateway.server.timings import ServerTimings
from gateway.server.unsent import PIECE, Unsent

_RESET_CHECK_SECONDS = 1.0
"""The interval at which a half-closed connection is checked for a reset."""
_TCP_CLOSE = 7
"""The state of a connection that was reset, in Linux's `struct tcp_info`."""
_FRAMING_HEADERS = (b"transfer-encoding", b"connection")
_BODILESS = (204, 304)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOptions:
    """The part of a connection's construction that all connections of a server share."""

    config: Config
    context: WorkerContext
    timings: ServerTimings
    h11_type: type[StrictConnection]
    unsent: Unsent
    buffers: BodyBuffers
    refused_heads: RefusedHeads


class Http1Connection(TCPServer):
    """One connection; it closes when it ends, whatever state it was in."""

    protocol: "_Protocol"  # type: ignore[assignment]
    reader: ConnectionReader

    def __init__(
        self,
        app: ASGIApp,
        options: ConnectionOptions,
        place: Place,
        reader: ConnectionReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        loop = asyncio.get_running_loop()
        parts: Any = (app, loop, options.config, options.context, ConnectionState({}), reader, writer)
        super().__init__(*parts)
        self._h11_type = options.h11_type
        self._refused_heads = options.refused_heads
        self._last_bytes_seconds = options.timings.last_bytes
        self._unsent = options.unsent
        self.buffers = options.buffers
        self.place = place
        self.idle_task = _IdleTimer(  # type: ignore[assignment]
            self.loop, options.timings.keep_alive, self._end_idle, began=self._begin_idle, stopped=place.end_idle
        )
        self._encrypted = writer.get_extra_info("ssl_object") is not None
        self._abort_timer: asyncio.TimerHandle | None = None
        writer.transport.set_write_buffer_limits(high=PIECE)
        # asyncio reads up to 256 KiB at once, and the reader keeps that beyond its limit while an app reads nothing.
        writer.transport.max_size = MAX_RECV  # type: ignore[attr-defined]

    async def run(self) -> None:
        """Serve requests until the connection ends. Hypercorn's own way in would choose among protocols."""
        try:
            connected = self.writer.get_extra_info("socket")
            if (peer := self.writer.get_extra_info("peername")) is None:
                raise ConnectionAbortedError("the client has disconnected")
            client = parse_socket_addr(connected.family, peer)
            server = parse_socket_addr(connected.family, self.writer.get_extra_info("sockname"))
            requests = RequestTasks(self.loop)
            if not self._encrypted and issubclass(self._h11_type, FastConnection):
                requests.bodies = self
            async with requests as tasks:
                self._task_group = tasks
                self.protocol = _Protocol(
                    self._h11_type,
                    self._refused_heads,
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

    @property
    def transport(self) -> asyncio.WriteTransport:
        return self.writer.transport

    @property
    def chunks(self) -> ChunkedBody | None:
        return self.protocol.connection.chunks

    async def end_body(self) -> None:
        """Record that a body was read to its end past the protocol; see BodyConnection."""
        await self.protocol.end_body()

    def end_if_idle(self, *, unless_new: bool = False) -> None:
        """Close the connection unless it is serving a request, or, with `unless_new`, has served none yet."""
        if not self.idle_task.running:  # type: ignore[attr-defined]
            return
        if self.protocol.keep_alive_requests or not unless_new:
            self._end_idle()

    def abort(self) -> None:
        """Close the connection at once: what its client has not received is lost, and nothing waits for that."""
        self.writer.transport.abort()

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, RawData):
            if type(event) is _LastData and not self._encrypted:
                self._cork()
            await self._write(event.data)
        elif isinstance(event, Updated):
            if event.idle:
                await self.idle_task.restart(self._task_group, self._idle_timeout)
            else:
                await self.idle_task.stop()
        else:
            if isinstance(event, Closed):
                self.protocol.end_reading()
            await super().protocol_send(event)
        if self.writer.transport.is_closing():
            self.protocol.end_reading()

    async def _write(self, data: bytes) -> None:
        """Write in pieces, each after the client has received most of the ones before."""
        transport = self.writer.transport
        async with self.send_lock:
            try:
                for piece in (data,) if len(data) <= PIECE else _pieces(data):
                    self.writer.write(piece)
                    if (buffered := transport.get_write_buffer_size()) <= PIECE:
                        await self.writer.drain()
                        continue
                    with self._unsent.waiting(data, buffered, transport.abort):
                        await self.writer.drain()
            except (OSError, RuntimeError):  # TLS has errors of its own
                await self.protocol.handle(Closed())

    def _cork(self) -> None:
        """Hold back the data that is written next, so that it leaves in one packet with the close that follows at once.

        Two packets took 5 % of a response with a connection of its own.
        """
        with suppress(OSError):  # the client has disconnected
            self.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)

    async def _read_data(self) -> None:
        """Read until the connection ends, also by an error of `_ReadPermit`, and notify the app of the disconnect.

        A client that has closed its own side alone receives the whole response. One that has left does the same at
        first, and resets the connection when more of the response arrives.
        """
        try:
            while data := await self.reader.read(MAX_RECV):
                await self.protocol.handle(RawData(data))
            await self.protocol.handle(RawData(b""))  # h11 knows whether a request was cut off
            while self.protocol.stream is not None and self._is_half_closed():
                await self.protocol.response_ended(_RESET_CHECK_SECONDS)
        except OSError:
            pass
        await self.protocol.handle(Closed())
        # The timer would keep the connection of a client that has disconnected until it expires.
        await self.idle_task.stop()

    def _is_half_closed(self) -> bool:
        """Whether a client that sends no more can still receive. A reset is not reported after the end of the input.

        Over TLS it cannot: asyncio closes a connection whose client sends no more.
        """
        if self._encrypted or self.writer.transport.is_closing():
            return False
        connected = self.writer.get_extra_info("socket")
        (state,) = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        return bool(state != _TCP_CLOSE)

    def _end_idle(self) -> None:
        self._abort_later()
        self._close_writer()

    def _begin_idle(self) -> None:
        """Let a new connection have the place of this one, unless a part of the last response would be lost."""
        if not self.writer.transport.get_write_buffer_size():
            self.place.begin_idle(self.writer.transport.abort)

    def _close_writer(self) -> None:
        """Close the transport, one with TLS only once: closed twice, it fails whoever uses it later."""
        if not (self._encrypted and self.writer.transport.is_closing()):
            self.writer.close()

    def _abort_later(self) -> None:
        self._abort_timer = self.loop.call_later(self._last_bytes_seconds, self.writer.transport.abort)

    async def _close(self) -> None:
        """Close the connection when the client has received its response, or after `last_bytes` seconds."""
        if self._abort_timer is None and (self._encrypted or self.writer.transport.get_write_buffer_size()):
            self._abort_later()
        try:
            self._close_writer()
            await self.writer.wait_closed()
        except (OSError, RuntimeError):
            pass  # closed already
        finally:
            if self._abort_timer is not None:
                self._abort_timer.cancel()
            await self.idle_task.stop()


def _pieces(data: bytes) -> Iterator[memoryview]:
    view = memoryview(data)
    for start in range(0, len(view), PIECE):
        yield view[start : start + PIECE]


@dataclass(frozen=True)
class _LastData(RawData):
    """Data after which the connection closes because its client requested that.

    No unread bytes are left then, for which the close would become a reset and discard the data.
    """


class _IdleTimer:
    """The timer in place of Hypercorn's task that ends an idle connection.

    A task that is made and cancelled with every request took 20 %.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        seconds: float,
        end: Callable[[], None],
        *,
        began: Callable[[], None],
        stopped: Callable[[], None],
    ) -> None:
        """`began` and `stopped` are called when the connection becomes idle, and when it is no longer."""
        self._loop, self._seconds, self._end = loop, seconds, end
        self._began, self._stopped = began, stopped
        self._timer: asyncio.TimerHandle | None = None

    @property
    def running(self) -> bool:
        return self._timer is not None

    async def restart(self, task_group: object, action: object) -> None:
        await self.stop()
        self._timer = self._loop.call_later(self._seconds, self._end)
        self._began()

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._stopped()


class _ReadPermit(EventWrapper):
    """Whether the next request of a connection may be read.

    While a request runs whose successor has arrived, Hypercorn 0.18 does not read, and continues not to when the
    connection has ended: its task would be left for ever, and stopping would wait for it.
    """

    ended = False

    async def wait(self) -> None:
        if not self.ended:
            await super().wait()
        if self.ended:
            raise ConnectionAbortedError("the connection has ended")

    def end(self) -> None:
        self.ended = True
        self._event.set()


class _Protocol(H11Protocol):
    """Hypercorn's HTTP/1.1 on a strict h11 connection, which never upgrades to another protocol."""

    connection: StrictConnection

    def __init__(self, h11_type: type[StrictConnection], refused_heads: RefusedHeads, *parts: Any) -> None:
        super().__init__(*parts)
        self._refused_heads = refused_heads
        self.can_read = self._read_permit = _ReadPermit()
        self.connection = h11_type(self.config.h11_max_incomplete_size)

    def end_reading(self) -> None:
        self._read_permit.end()

    async def stream_send(self, event: Any) -> None:
        """Take what a stream sends. Its end, which each has, is compared with seven other events by Hypercorn: 4 %."""
        if type(event) is StreamClosed:
            await self._maybe_recycle()
        else:
            await super().stream_send(event)

    async def end_body(self) -> None:
        """Record that a body was read to its end without h11, and notify the app."""
        if not isinstance(self.connection, FastConnection):
            raise TypeError("h11 cannot be told of the end of a body")
        self.connection.end_body()
        if self.stream is not None:
            await self.stream.handle(EndBody(stream_id=STREAM_ID))

    async def response_ended(self, seconds: float) -> None:
        """Wait until the response in progress has ended, at most for so long. Raises ConnectionAbortedError."""
        await self.can_read.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.can_read.wait()

    async def _send_error_response(self, status_code: int) -> None:
        """Respond to what is no request that a stream could be made for, and log it."""
        received, _ = self.connection.trailing_data
        client = self.client[0] if self.client else None
        self._refused_heads.note(status_code, self.connection.refusal, received, client, encrypted=self.ssl)
        await super()._send_error_response(status_code)

    async def _check_protocol(self, event: h11.Request) -> None:
        """Offer no upgrade, like the next method: HTTP/1.1 is the only protocol of this server."""

    async def _create_stream(self, request: h11.Request) -> None:
        """Make a stream: one that sends complete responses in one write, or Hypercorn's own without a FastConnection.

        A StrictConnection could record a response too, but only as Hypercorn does: by having h11 build its head.
        """
        parts = (
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
        is_fast = isinstance(self.connection, FastConnection)
        stream = self.stream = _Stream(self, *parts) if is_fast else HTTPStream(*parts)
        await stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=self.connection.headers_of(request),
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii"),
                raw_path=request.target,
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1


class _Stream(HTTPStream):
    """A request and its response, of which head and body leave in one write if the app gives both at once.

    The head waits for the first message of the body, as ASGI requires; an empty one sends the head.
    """

    def __init__(self, protocol: _Protocol, *parts: Any) -> None:
        super().__init__(*parts)
        self._protocol = protocol
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
        """Send a complete response. A head that Hypercorn and h11 check and build, and a second write, took 40 %."""
        status, headers = int(start["status"]), start["headers"]
        lines = b"".join([b"%b: %b\r\n" % pair for pair in headers])
        if lines.count(b"\n") != len(headers) or lines.count(b"\r") != len(headers) or b"\0" in lines:
            raise ValueError("a header contains a line break or a null byte")
        names = {name for name, _ in headers}
        if not names.isdisjoint(_FRAMING_HEADERS):
            await super().app_send(start)
            await super().app_send({"type": "http.response.body", "body": body, "more_body": False})
            return
        if b"content-length" not in names and status not in _BODILESS and self.scope["method"] != "HEAD":
            lines += b"content-length: %d\r\n" % len(body)
        last = self._protocol.keep_alive_requests >= self.config.keep_alive_max_requests
        closes = self._protocol.connection.note_response(status, last=last)
        if closes is not None:
            ending = b"Connection: close\r\n" if closes else b""
            content = b"" if suppress_body(self.scope["method"], status) else body
            data = b"%b%b%b\r\n" % (status_line(status, start.get(REASON_PHRASE, "")), lines, ending)
            if len(content) <= PIECE:
                data += content
            else:  # is not copied, since other responses may send the same document
                await self._protocol.send(RawData(data))
                data = content
            await self._protocol.send(_LastData(data) if closes and not last else RawData(data))
        self.response, self.state = start, ASGIHTTPState.CLOSED
        await self.send(StreamClosed(stream_id=self.stream_id))
