"""Acceptor: takes connections from a listening socket that several processes share.

It accepts one connection in each turn of the loop: a process that is busy takes fewer. The loop's own server accepts
as many as the backlog holds, which gives nearly all of them to whichever process wakes first. Where turns are long,
because there is much to do in each, a turn accepts one for every millisecond of the last, so that nobody waits for a
turn of each who came before.

A connection gets a task and buffers with its first bytes. Until then it is a socket that the loop watches, so that
clients who only connect, by the hundred and again and again, cost little more than their accept.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Set
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import structlog

from cache.runtime.throttle import LogThrottle
from gateway.server.connection_cap import ConnectionCap, Place, client_of
from gateway.server.connection_reader import ConnectionReader
from gateway.server.timings import ServerTimings

log = structlog.get_logger()

PAUSE_SECONDS = 0.1
SECONDS_PER_CONNECTION = 0.001
"""Length of a turn of the loop that accepts one connection; a longer one accepts more."""
MOST_IN_A_TURN = 64
LOG_INTERVAL_SECONDS = 60.0
BUSY = b"HTTP/1.1 503 \r\nconnection: close\r\ncontent-length: 0\r\nretry-after: 1\r\n\r\n"
"""The response on a connection above the cap."""
Connected = Callable[[ConnectionReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Silence:
    """The wait for the first bytes of a connection, which holds its place; the timer ends it."""

    place: Place
    timer: asyncio.TimerHandle


class Acceptor:
    """Calls `connected` in a task of its own for each connection, after the TLS handshake if there is a context.

    A connection above the cap is given to `rejected`, or closed if there are too many of them. When descriptors or
    memory run out it pauses, and new connections wait in the socket's backlog. One that ends before its first bytes,
    or sends none in time, is closed.
    """

    def __init__(
        self,
        listener: socket.socket,
        connected: Callable[[Place, ConnectionReader, asyncio.StreamWriter], Awaitable[None]],
        rejected: Connected,
        cap: ConnectionCap,
        context: Callable[[], ssl.SSLContext | None],
        timings: ServerTimings,
        count_silent: Callable[[int], None] = lambda change: None,
    ) -> None:
        """`count_silent` is told of one more, or one less, connection that has sent no bytes yet."""
        self._listener = listener
        self._connected = connected
        self._rejected = rejected
        self._cap = cap
        self._context = context
        self._timings = timings
        self._count_silent = count_silent
        self._loop = asyncio.get_running_loop()
        self._silent: dict[socket.socket, _Silence] = {}
        self._connecting: set[asyncio.Task[None]] = set()
        self._resuming: asyncio.TimerHandle | None = None
        self._logged_at = -LOG_INTERVAL_SECONDS
        self._failures = LogThrottle()
        self._next = 1
        listener.setblocking(False)
        self._resume()

    def close(self) -> None:
        """Stop accepting and close the socket; unfinished handshakes continue, and the wait for first bytes."""
        if self._resuming is not None:
            self._resuming.cancel()
        else:
            self._loop.remove_reader(self._listener)
        self._listener.close()
        for connection in list(self._silent):  # whoever ends the others ends these too
            self._serve(connection, self._end_silence(connection))

    @property
    def connecting(self) -> Set[asyncio.Task[None]]:
        """Tasks of connections whose handshakes have not ended; each then serves its connection."""
        return self._connecting

    def cancel_handshakes(self) -> None:
        """Cancel what `connecting` lists."""
        for task in self._connecting:
            task.cancel()

    def _resume(self) -> None:
        self._resuming = None
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        self._loop.call_soon(self._measure_turn, self._loop.time())
        begun = 0
        for _ in range(MOST_IN_A_TURN):
            try:
                connection, peer = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return  # another process was faster, or the client has disconnected
            except OSError as error:
                self._pause(error)
                return
            begun += self._admit(connection, peer)
            if begun >= self._next:
                return

    def _measure_turn(self, begun: float) -> None:
        """Set how many connections the next turn accepts, from when this one began."""
        turn = self._loop.time() - begun
        self._next = max(1, min(MOST_IN_A_TURN, int(turn / SECONDS_PER_CONNECTION)))

    def _admit(self, connection: socket.socket, peer: tuple[str, int]) -> bool:
        """Take a connection, or reject it; False for one that has ended already."""
        connection.setblocking(False)
        if (heard := _has_bytes(connection)) is False:
            connection.close()
            return False
        if (place := self._cap.enter(client_of(peer[0]))) is not None:
            if heard:
                self._serve(connection, place)
            else:
                self._await_bytes(connection, place)
        elif self._cap.begin_rejection():
            self._begin(connection, self._rejected, self._timings.rejection, self._cap.end_rejection)
        else:
            if self._context() is None:
                with suppress(OSError):  # the client has disconnected
                    connection.send(BUSY)
            connection.close()
        return True

    def _await_bytes(self, connection: socket.socket, place: Place) -> None:
        seconds = self._timings.keep_alive if self._context() is None else self._timings.tls_handshake
        drop = partial(self._drop, connection)
        self._silent[connection] = _Silence(place, self._loop.call_later(seconds, drop))
        self._count_silent(1)
        place.begin_idle(drop)
        self._loop.add_reader(connection, self._hear, connection)

    def _hear(self, connection: socket.socket) -> None:
        """Serve a connection whose first bytes have arrived, or close it if it has ended."""
        if heard := _has_bytes(connection):
            self._serve(connection, self._end_silence(connection))
        elif heard is False:
            self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        if connection in self._silent:
            self._end_silence(connection).leave()
            connection.close()

    def _end_silence(self, connection: socket.socket) -> Place:
        silence = self._silent.pop(connection)
        silence.timer.cancel()
        self._count_silent(-1)
        silence.place.end_idle()
        self._loop.remove_reader(connection)
        return silence.place

    def _serve(self, connection: socket.socket, place: Place) -> None:
        task = self._begin(connection, partial(self._connected, place), self._timings.tls_handshake, place.leave)
        place.begin_idle(task.cancel)

    def _begin(
        self, connection: socket.socket, connected: Connected, handshake_seconds: float, ended: Callable[[], None]
    ) -> asyncio.Task[None]:
        task = self._loop.create_task(self._connect(connection, connected, handshake_seconds))
        self._connecting.add(task)
        task.add_done_callback(lambda done: self._settle(done, connection))
        task.add_done_callback(lambda _: ended())
        return task

    def _pause(self, error: OSError) -> None:
        """Accept nothing for a moment: the socket stays readable, which without a pause would keep the loop busy."""
        self._loop.remove_reader(self._listener)
        self._resuming = self._loop.call_later(PAUSE_SECONDS, self._resume)
        if time.monotonic() - self._logged_at >= LOG_INTERVAL_SECONDS:
            self._logged_at = time.monotonic()
            log.error("accept_paused", reason=error.strerror, remedy="raise the limit of open files (ulimit -n)")

    async def _connect(self, connection: socket.socket, connected: Connected, handshake_seconds: float) -> None:
        """Complete the handshake, and serve the connection in the same task."""
        reader = ConnectionReader(self._loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=self._loop)
        context = self._context()
        transport, _ = await self._loop.connect_accepted_socket(
            lambda: protocol,
            connection,
            ssl=context,
            ssl_handshake_timeout=handshake_seconds if context else None,
            ssl_shutdown_timeout=self._timings.last_bytes if context else None,
        )
        if (task := asyncio.current_task()) is not None:
            self._connecting.discard(task)
        await connected(reader, asyncio.StreamWriter(transport, protocol, reader, self._loop))

    def _settle(self, task: asyncio.Task[None], connection: socket.socket) -> None:
        connecting = task in self._connecting
        self._connecting.discard(task)
        if task.cancelled():
            if connecting:
                connection.close()
        elif (error := task.exception()) is not None and not isinstance(error, OSError):
            log.error("connection_not_begun", exc_info=error)
        elif isinstance(error, ssl.SSLError) and self._failures.due(error.reason or ""):
            # Those who do not speak TLS at all, or not ours: one line a minute for each reason that OpenSSL has.
            reason, remedy = handshake_failure(error.reason or "")
            log.info("tls_handshake_failed", reason=reason, remedy=remedy)


def handshake_failure(reason: str) -> tuple[str, str]:
    """What OpenSSL's name of a failed handshake means, and what to do."""
    if reason == "HTTP_REQUEST":
        return "a client speaks http to this port, which has TLS", "let the client use https"
    if reason.endswith(("ALERT_UNKNOWN_CA", "ALERT_BAD_CERTIFICATE", "ALERT_CERTIFICATE_UNKNOWN")):
        return "a client does not trust the certificate of this server", "give the client the authority that signed it"
    return reason.replace("_", " ").lower() or "unknown", "see which versions of TLS the client has"


def _has_bytes(connection: socket.socket) -> bool | None:
    """Whether bytes of a client have arrived; None as long as there are none, False where none will come."""
    try:
        return connection.recv(1, socket.MSG_PEEK) != b""
    except (BlockingIOError, InterruptedError):
        return None
    except OSError:
        return False
