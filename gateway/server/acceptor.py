"""Acceptor: takes connections from a listening socket that several processes share.

One at a time, each time the loop turns: a process that is busy takes less. The loop's own server takes as many as the
backlog holds, which gives nearly all of them to whichever process wakes first.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable

import structlog

log = structlog.get_logger()

PAUSE_SECONDS = 0.1
TELL_EVERY_SECONDS = 60.0
Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Acceptor:
    """`connected` is called in a task of its own for each connection, after the TLS handshake where there is a context.

    When descriptors or memory run out it pauses, and what has come waits in the socket's backlog.
    """

    def __init__(
        self,
        listener: socket.socket,
        connected: Connected,
        context: Callable[[], ssl.SSLContext | None],
        handshake: float,
        goodbye: float,
    ) -> None:
        """`handshake`, `goodbye`: seconds that TLS may take for them."""
        self._listener = listener
        self._connected = connected
        self._context = context
        self._handshake = handshake
        self._goodbye = goodbye
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[None]] = set()
        self._resuming: asyncio.TimerHandle | None = None
        self._told_at = -TELL_EVERY_SECONDS
        listener.setblocking(False)
        self._resume()

    def close(self) -> None:
        """Accepts no more and closes the socket; what has not shaken hands by now is given up."""
        if self._resuming is not None:
            self._resuming.cancel()
        else:
            self._loop.remove_reader(self._listener)
        self._listener.close()
        for task in self._connecting:
            task.cancel()

    def _resume(self) -> None:
        self._resuming = None
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another process was faster, or the client has left
        except OSError as error:
            self._pause(error)
            return
        connection.setblocking(False)
        task = self._loop.create_task(self._connect(connection))
        self._connecting.add(task)
        task.add_done_callback(lambda done: self._settle(done, connection))

    def _pause(self, error: OSError) -> None:
        """The socket stays readable: without a pause the loop would do nothing else."""
        self._loop.remove_reader(self._listener)
        self._resuming = self._loop.call_later(PAUSE_SECONDS, self._resume)
        if time.monotonic() - self._told_at >= TELL_EVERY_SECONDS:
            self._told_at = time.monotonic()
            log.error("accept_paused", reason=error.strerror, remedy="raise the limit of open files (ulimit -n)")

    async def _connect(self, connection: socket.socket) -> None:
        """Serves in the task that has shaken hands: one more for each connection took 3 % of a small answer."""
        reader = asyncio.StreamReader(loop=self._loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=self._loop)
        context = self._context()
        transport, _ = await self._loop.connect_accepted_socket(
            lambda: protocol,
            connection,
            ssl=context,
            ssl_handshake_timeout=self._handshake if context else None,
            ssl_shutdown_timeout=self._goodbye if context else None,
        )
        if (task := asyncio.current_task()) is not None:
            self._connecting.discard(task)
        await self._connected(reader, asyncio.StreamWriter(transport, protocol, reader, self._loop))

    def _settle(self, task: asyncio.Task[None], connection: socket.socket) -> None:
        connecting = task in self._connecting
        self._connecting.discard(task)
        if task.cancelled():
            if connecting:
                connection.close()
        elif (error := task.exception()) is not None and not isinstance(error, OSError):
            # That clients leave in the midst of a handshake, or do not know TLS, is no news.
            log.error("connection_not_begun", exc_info=error)
