"""Server: serves the connections of one process, bounded in number, and ends them gracefully.

Hypercorn speaks HTTP on each connection. Its own accept loop has no cap, waits for TLS goodbyes that never come, and
offers HTTP/2, whose streams it does not end when their body fails.
"""

import asyncio
import socket
import ssl
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from hypercorn.asyncio.tcp_server import MAX_RECV
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from starlette.types import ASGIApp

from cache.runtime.descriptors import raise_descriptor_limit, share_descriptors
from gateway.observability.server_state import ServerState
from gateway.server.acceptor import BUSY, Acceptor
from gateway.server.buffers import BodyBuffers
from gateway.server.connection_cap import ConnectionCap, Place
from gateway.server.connection_reader import ConnectionReader
from gateway.server.fast_connection import connection_type
from gateway.server.http1 import ConnectionOptions, Http1Connection
from gateway.server.refused_heads import RefusedHeads
from gateway.server.request_head import HEAD_LIMIT
from gateway.server.strict_connection import StrictConnection
from gateway.server.timings import DEFAULT_TIMINGS, ServerTimings
from gateway.server.tls import TlsFiles, TlsUnusable, shrink_read_buffers, tls_context
from gateway.server.unsent import Unsent

log = structlog.get_logger()

BACKLOG = 2048
CONNECTIONS = 10_000
REJECTION_BYTES = 1024 * 1024
"""Bytes that are read of a connection above the cap before it is closed."""
LAST_SECONDS = 1.0
"""How long a cancelled connection may take to send the rest of its response when the server ends."""
ABORT_SECONDS = 5.0
"""How long connections may take to end once they are aborted; nothing is left for them to wait for."""


@dataclass(frozen=True, slots=True)
class ListeningApp:
    """A listening socket, and the app that serves its connections."""

    listener: socket.socket
    app: ASGIApp


class Server:
    """The HTTP server of one process."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        tls: TlsFiles | None = None,
        connections: int | None = None,
        server_state: ServerState | None = None,
        timings: ServerTimings = DEFAULT_TIMINGS,
        h11_type: type[StrictConnection] | None = None,
        unsent: Unsent | None = None,
        buffers: BodyBuffers | None = None,
    ) -> None:
        """Prepare to serve. Raises TlsUnusable.

        `connections`: how many at once; by default as many as descriptors allow. `server_state` is kept up to date with
        how many there are, and whether the server is stopping. `h11_type`: by default what fits the installed h11.
        `unsent` bounds what waits for clients that do not receive; `buffers` are those of request bodies.
        """
        self._server_state = server_state or ServerState()
        self._app = app
        self._tls = tls
        self._context = tls_context(tls) if tls else None
        if tls:
            shrink_read_buffers()
        self._cap = ConnectionCap(connections or connection_limit())
        self._timings = timings
        self._worker = WorkerContext(None)
        self._options = ConnectionOptions(
            config=_config(timings),
            context=self._worker,
            timings=timings,
            h11_type=h11_type or connection_type(),
            unsent=unsent or Unsent(),
            buffers=buffers or BodyBuffers(),
            refused_heads=RefusedHeads(),
        )
        self._open: dict[asyncio.Task[None], Http1Connection] = {}
        self._rejected: set[asyncio.Task[None]] = set()

    async def serve(
        self,
        listener: socket.socket,
        stop: asyncio.Event,
        grace: float,
        hurry: asyncio.Event | None = None,
        further: Sequence[ListeningApp] = (),
        retire: asyncio.Event | None = None,
    ) -> None:
        """Serve until `stop`; requests in progress may then continue for `grace` seconds, or until `hurry`.

        `further`: sockets with apps of their own. Closes the sockets. Or serve until `retire`: no more connections are
        accepted then, and requests in progress and the first one of a new connection may continue until `stop`.
        """
        retire, hurry = retire or asyncio.Event(), hurry or asyncio.Event()
        asyncio.get_running_loop().set_exception_handler(_log_loop_error)
        acceptors = [self._accept(listener, self._app)]
        acceptors += [self._accept(each.listener, each.app) for each in further]
        renewing = asyncio.ensure_future(self._renew_certificates())
        try:
            await _first_of(stop, retire)
        finally:
            renewing.cancel()
            self._server_state.stopping = not retire.is_set()
            self._server_state.closed.set()
            for acceptor in acceptors:
                acceptor.close()
            await self._worker.terminated.set()
            if retire.is_set():
                await self._retire(acceptors, stop, hurry)
            for acceptor in acceptors:
                acceptor.cancel_handshakes()
            await self._end(grace, hurry)

    def _accept(self, listener: socket.socket, app: ASGIApp) -> Acceptor:
        # Inherited by every connection. Without it a head waits for the acknowledgement of the last body, 40 ms long.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        serve, timings = partial(self._connected, app), self._timings
        return Acceptor(listener, serve, self._reject, self._cap, lambda: self._context, timings, self._count_silent)

    def _count_silent(self, change: int) -> None:
        self._server_state.connections += change

    async def _connected(
        self, app: ASGIApp, place: Place, reader: ConnectionReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a connection is served by a task of its own")
        connection = self._open[task] = Http1Connection(app, self._options, place, reader, writer)
        self._server_state.connections += 1
        try:
            await connection
        except Exception:  # the last seam of a connection: whatever it was ends with it
            log.exception("connection_failed")
        finally:
            del self._open[task]
            self._server_state.connections -= 1

    async def _reject(self, reader: ConnectionReader, writer: asyncio.StreamWriter) -> None:
        """Respond 503 and close, after reading what the client sends.

        A close before the request was read would reset the connection, and might lose the response.
        """
        writer.write(BUSY)
        # To wait for the client's TLS goodbye would take much longer.
        asyncio.get_running_loop().call_later(self._timings.rejection, writer.transport.abort)
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a connection is rejected by a task of its own")
        self._rejected.add(task)
        received = 0
        try:
            if writer.can_write_eof():
                writer.write_eof()
            while received < REJECTION_BYTES and (data := await reader.read(MAX_RECV)):
                received += len(data)
        except OSError:
            pass  # the client has disconnected
        finally:
            self._rejected.discard(task)
            writer.close()

    async def _retire(self, acceptors: Sequence[Acceptor], stop: asyncio.Event, hurry: asyncio.Event) -> None:
        """Return when every connection has ended, also those whose handshakes have not; or at `stop` or `hurry`."""
        for connection in list(self._open.values()):
            connection.end_if_idle(unless_new=True)
        tasks = {*self._open, *(task for acceptor in acceptors for task in acceptor.connecting)}
        await _first_of(stop, hurry, tasks=tasks)

    async def _end(self, grace: float, hurry: asyncio.Event) -> None:
        for connection in list(self._open.values()):
            connection.end_if_idle()
        await _first_of(hurry, tasks=set(self._open), seconds=grace)
        for task in (*self._open, *self._rejected):
            task.cancel()
        if self._open:
            await asyncio.wait(self._open, timeout=LAST_SECONDS)
        for connection in self._open.values():
            connection.abort()
        if self._open:
            await asyncio.wait(self._open, timeout=ABORT_SECONDS)

    async def _renew_certificates(self) -> None:
        """Give new connections a replaced certificate without a restart; a broken one is logged and not used.

        Each pair gets a context of its own: one that is loaded twice keeps a certificate for each kind of key.
        """
        if self._tls is None or self._context is None:
            return
        seen = self._tls.stamps()
        while True:
            await asyncio.sleep(self._timings.certificate_check)
            try:
                stamps = self._tls.stamps()
                if stamps != seen:
                    seen = stamps
                    self._context = tls_context(self._tls)
                    log.info("certificate_renewed", path=str(self._tls.certificate))
            except (TlsUnusable, OSError) as error:
                log.error("certificate_not_renewed", reason=str(error))


async def _first_of(
    *events: asyncio.Event, tasks: Set[asyncio.Task[None]] | None = None, seconds: float | None = None
) -> None:
    """Wait for the first of these events, at most so many seconds, and at most until all the tasks have ended."""
    if tasks is not None and not tasks:
        return
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    ended = [asyncio.ensure_future(asyncio.wait(tasks))] if tasks else []
    try:
        await asyncio.wait({*waiting, *ended}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in (*waiting, *ended):
            each.cancel()
        await asyncio.gather(*waiting, *ended, return_exceptions=True)


def connection_limit() -> int:
    """Compute how many connections there may be at once: as many as descriptors allow, up to CONNECTIONS."""
    return min(CONNECTIONS, share_descriptors(raise_descriptor_limit()).connections)


def _config(timings: ServerTimings) -> Config:
    config = Config()
    config.accesslog = config.errorlog = None  # the app logs its own requests and failures
    config.include_server_header = False
    config.keep_alive_timeout = timings.keep_alive
    config.h11_max_incomplete_size = HEAD_LIMIT
    return config


def _log_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error that no task receives, except those of clients that disconnect during a TLS handshake."""
    error = context.get("exception")
    if not isinstance(error, ssl.SSLError | ConnectionError | TimeoutError):
        log.error("loop_error", reason=str(context.get("message")), exc_info=error)
