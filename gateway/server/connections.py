"""Server: serves the connections of one process, bounded in number, and ends them gracefully.

Hypercorn speaks HTTP on each connection. Its own accept loop has no cap, waits for TLS goodbyes that never come, and
offers HTTP/2, whose streams it does not end when their body fails.
"""

import asyncio
import resource
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from hypercorn.asyncio.tcp_server import MAX_RECV
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.typing import AppWrapper
from hypercorn.utils import wrap_app
from starlette.types import ASGIApp

from gateway.observability.server_state import ServerState
from gateway.server import http1, request_head
from gateway.server.acceptor import Acceptor
from gateway.server.http1 import Http1Connection
from gateway.server.tls import TlsFiles, TlsUnusable, tls_context

log = structlog.get_logger()

KEEP_ALIVE_SECONDS = 10
BACKLOG = 2048
CONNECTIONS = 10_000
TURNED_AWAY, TURNED_AWAY_SECONDS, TURNED_AWAY_BYTES = 100, 1.0, 1024 * 1024
"""How many above the cap are heard out at once, how long and how far each."""

_TLS_HANDSHAKE_SECONDS = 10.0
_LOOK_AT_FILES_SECONDS = 10.0
_BUSY = b"HTTP/1.1 503 \r\nconnection: close\r\ncontent-length: 0\r\nretry-after: 1\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Address:
    """A further socket, and who answers there."""

    listener: socket.socket
    app: ASGIApp


class Server:
    def __init__(
        self,
        app: ASGIApp,
        tls: TlsFiles | None = None,
        connections: int | None = None,
        process: ServerState | None = None,
    ) -> None:
        """Raises TlsUnusable. `connections`: how many at once; by default as many as descriptors allow. `process` is
        told how many there are, and when no more are taken."""
        self._process = process or ServerState()
        request_head.install()
        self._app = _wrapped(app)
        self._tls = tls
        self._context = tls_context(tls) if tls else None
        self._limit = connections or connection_limit()
        self._config = _config()
        self._worker = WorkerContext(None)
        self._open: dict[asyncio.Task[None], Http1Connection] = {}
        self._turned_away: set[asyncio.Task[None]] = set()

    async def serve(
        self,
        listener: socket.socket,
        stop: asyncio.Event,
        grace: float,
        hurry: asyncio.Event | None = None,
        further: Sequence[Address] = (),
    ) -> None:
        """Until `stop`; then what runs may go on for `grace` seconds, or until `hurry`. `further`: sockets with apps
        of their own. Closes the sockets."""
        asyncio.get_running_loop().set_exception_handler(_note_loop_error)
        acceptors = [self._accept(listener, self._app)]
        acceptors += [self._accept(address.listener, _wrapped(address.app)) for address in further]
        renewing = asyncio.ensure_future(self._renew_certificates())
        try:
            await stop.wait()
        finally:
            renewing.cancel()
            self._process.stopping = True
            for acceptor in acceptors:
                acceptor.close()
            await self._worker.terminated.set()
            await self._end(grace, hurry or asyncio.Event())

    def _accept(self, listener: socket.socket, app: AppWrapper) -> Acceptor:
        # Inherited by every connection. Without it a head waits for the acknowledgement of the last body, 40 ms long.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected = partial(self._connected, app)
        return Acceptor(listener, connected, lambda: self._context, _TLS_HANDSHAKE_SECONDS, http1.LAST_BYTES_SECONDS)

    async def _connected(self, app: AppWrapper, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= self._limit:
            await self._turn_away(reader, writer)
            return
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a connection is served by a task of its own")
        connection = self._open[task] = Http1Connection(app, self._config, self._worker, reader, writer)
        self._process.connections += 1
        try:
            await connection
        except Exception:  # the last seam of a connection: whatever it was ends here and with it
            log.exception("connection_failed")
        finally:
            del self._open[task]
            self._process.connections -= 1

    async def _turn_away(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """To close before the request was read would reset the connection, and the answer might be lost with it."""
        writer.write(_BUSY)
        # A goodbye of TLS would be waited for much longer.
        asyncio.get_running_loop().call_later(TURNED_AWAY_SECONDS, writer.transport.abort)
        if len(self._turned_away) >= TURNED_AWAY or (task := asyncio.current_task()) is None:
            writer.close()
            return
        self._turned_away.add(task)
        heard = 0
        try:
            if writer.can_write_eof():
                writer.write_eof()
            while heard < TURNED_AWAY_BYTES and (data := await reader.read(MAX_RECV)):
                heard += len(data)
        except OSError:
            pass  # it has left
        finally:
            self._turned_away.discard(task)
            writer.close()

    async def _end(self, grace: float, hurry: asyncio.Event) -> None:
        for connection in list(self._open.values()):
            connection.end_if_idle()
        if self._open:
            hurried = asyncio.ensure_future(hurry.wait())
            ended = asyncio.ensure_future(asyncio.wait(set(self._open)))
            await asyncio.wait({ended, hurried}, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
            for waiting in (ended, hurried):
                waiting.cancel()
            await asyncio.gather(ended, hurried, return_exceptions=True)
        for task in (*self._open, *self._turned_away):
            task.cancel()
        if self._open:
            await asyncio.wait(self._open, timeout=1)

    async def _renew_certificates(self) -> None:
        """New connections get a replaced certificate without a restart; a broken one is told of and not used.

        A context of its own for each pair: one that is loaded twice keeps a certificate for each kind of key.
        """
        if self._tls is None or self._context is None:
            return
        seen = self._tls.stamps()
        while True:
            await asyncio.sleep(_LOOK_AT_FILES_SECONDS)
            try:
                stamps = self._tls.stamps()
                if stamps != seen:
                    seen = stamps
                    self._context = tls_context(self._tls)
                    log.info("certificate_renewed", path=str(self._tls.certificate))
            except (TlsUnusable, OSError) as error:
                log.error("certificate_not_renewed", reason=str(error))


def connection_limit() -> int:
    """By descriptors: a connection needs one, and one more for the file that it is sent."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return max(16, min(CONNECTIONS, (soft - 256) // 2))


def _wrapped(app: ASGIApp) -> AppWrapper:
    return wrap_app(app, 0, "asgi")  # type: ignore[arg-type]


def _config() -> Config:
    config = Config()
    config.accesslog = config.errorlog = None  # the app logs its own requests and failures
    config.include_server_header = False
    config.keep_alive_timeout = KEEP_ALIVE_SECONDS
    config.h11_max_incomplete_size = request_head.HEAD_LIMIT
    return config


def _note_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What no task could be told. That clients leave in the midst of a handshake is no news."""
    error = context.get("exception")
    if not isinstance(error, ssl.SSLError | ConnectionError | TimeoutError):
        log.error("loop_error", reason=str(context.get("message")), exc_info=error)


