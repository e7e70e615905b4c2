"""DirectBody: reads a request body from the socket into reused buffers, past the reader, h11 and Hypercorn's events.

The transport calls a BufferedProtocol for each read, as asyncio documents it, for as long as the body lasts. Nothing is
read past a Content-Length; what was read beyond the last chunk goes back to the reader.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from gateway.server.buffers import BodyBuffers
from gateway.server.chunked_body import ChunkedBody, ChunksRefused
from gateway.server.connection_reader import ConnectionReader

GATHER_SECONDS = 0.05
"""How long the first byte of a piece waits for the piece to become full: who uses one often wakes a thread for it."""
LEAST_ROOM = 16 * 1024
"""Room for which no further read is worth its cost: what framed the chunks leaves some at the end of each buffer."""
_READS = ((16 * 1024, 512 * 1024), (4 * 1024, 256 * 1024), (0, 64 * 1024))
"""Least average of bytes in a chunk, and how many bytes of such chunks are read at once: each read costs a turn of the
event loop. What follows may be smaller: 256 KiB in chunks of 64 bytes stop the worker for 20 to 50 ms."""


class Framing(Protocol):
    """End of a body in the bytes of its connection. A `complete` one has been read to its last byte."""

    @property
    def complete(self) -> bool: ...

    def limit(self, room: int) -> int:
        """Return how many bytes may be read into a room of so many."""

    def unwrap(self, buffer: bytearray, start: int, end: int) -> tuple[int, int]:
        """Move the content of what was read to `start`; return the ends of the content, and of what was the body's.

        Raises ChunksRefused.
        """


class LengthFraming:
    """A body that ends after so many bytes."""

    def __init__(self, left: int) -> None:
        self._left = left

    @property
    def complete(self) -> bool:
        return not self._left

    def limit(self, room: int) -> int:
        return min(room, self._left)

    def unwrap(self, buffer: bytearray, start: int, end: int) -> tuple[int, int]:
        self._left -= end - start
        return end, end


class ChunkedFraming:
    """A body of chunks, of which the decoder has seen all that arrived earlier."""

    def __init__(self, chunks: ChunkedBody) -> None:
        self._chunks = chunks

    @property
    def complete(self) -> bool:
        return self._chunks.complete

    def limit(self, room: int) -> int:
        average = self._chunks.average
        return min(room, next(most for least, most in _READS if average >= least))

    def unwrap(self, buffer: bytearray, start: int, end: int) -> tuple[int, int]:
        content, used = self._chunks.decode(buffer, start, end)
        with memoryview(buffer) as view:
            for part in content:
                length = part.stop - part.start
                if part.start > start:
                    view[start : start + length] = view[part]
                start += length
        return start, used


class DirectBody(asyncio.BufferedProtocol):
    """The protocol of a transport while a body is read. One task of the app receives it.

    The transport's own protocol takes over again when the body is complete, the client has left, or its chunks are
    refused; it then learns of whatever happened, as if it had read the body.
    """

    def __init__(
        self,
        transport: Any,
        reader: ConnectionReader,
        framing: Framing,
        buffers: BodyBuffers,
        ended: Callable[[], Awaitable[None]],
    ) -> None:
        """`reader` is held, and is released at the end. `ended` tells h11 of a complete body."""
        self._transport = transport
        self._own_protocol: Any = transport.get_protocol()
        self._reader = reader
        self._framing = framing
        self._buffers = buffers
        self._ended = ended
        self._filling: bytearray | None = None
        self._filled = 0
        self._is_due = False
        """Whether what is in the buffer may be given."""
        self._timer: asyncio.TimerHandle | None = None
        self._given: tuple[bytearray, memoryview] | None = None
        self._beyond = b""
        self._is_diverted = True
        self._waiter: asyncio.Future[None] | None = None
        transport.set_protocol(self)
        transport.resume_reading()

    async def receive(self) -> memoryview | None:
        """Return the next piece of the body, which is valid until the next call; None after the last."""
        self._take_back()
        while not self._filled or not self._is_due:
            if not self._filled and self._framing.complete and self._is_diverted:
                await self._complete()
            if not self._is_diverted:
                self._drop_filling()
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        buffer, self._filling = self._filling, None
        if buffer is None:
            raise RuntimeError("a body that was read into no buffer")
        piece = memoryview(buffer)[: self._filled]
        self._given, self._filled, self._is_due = (buffer, piece), 0, False
        self._stop_timer()
        if self._is_diverted and not self._framing.complete:
            self._transport.resume_reading()
        return piece

    def close(self) -> None:
        """Read nothing more, because the app has ended, and give the buffers back; a thread may still use a piece.

        The server closes a connection whose request was not read completely.
        """
        if self._is_diverted:
            self._transport.pause_reading()
        if self._given is not None:
            self._buffers.forget(self._given[0])
            self._given = None
        self._drop_filling()

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._filling is None:
            self._filling = self._buffers.take()
        room = len(self._filling) - self._filled
        return memoryview(self._filling)[self._filled : self._filled + self._framing.limit(room)]

    def buffer_updated(self, nbytes: int) -> None:
        buffer, end = self._filling, self._filled + nbytes
        if buffer is None:
            raise RuntimeError("bytes were read into no buffer")
        try:
            content_end, used = self._framing.unwrap(buffer, self._filled, end)
        except ChunksRefused:
            # The decoder of the connection refuses whatever follows: it responds, and closes.
            self._return(bytes(buffer[self._filled : end]))
            return
        self._beyond = bytes(buffer[used:end])
        self._filled = content_end
        if self._framing.complete or len(buffer) - self._filled < LEAST_ROOM:
            self._transport.pause_reading()
            self._give()
        elif not self._filled:
            self._drop_filling()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._give)

    def eof_received(self) -> Any:
        self._return(b"")
        return self._own_protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._return(b"")
        self._own_protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._own_protocol.pause_writing()

    def resume_writing(self) -> None:
        self._own_protocol.resume_writing()

    async def _complete(self) -> None:
        self._is_diverted = False
        self._transport.set_protocol(self._own_protocol)
        await self._ended()
        self._release(self._beyond)

    def _return(self, unread: bytes) -> None:
        """Let the transport's own protocol continue in the midst of the body."""
        self._is_diverted = False
        self._transport.set_protocol(self._own_protocol)
        self._release(unread)
        self._give()

    def _release(self, unread: bytes) -> None:
        self._reader.release()
        if unread and not self._transport.is_closing():
            self._reader.feed_data(unread)

    def _take_back(self) -> None:
        if self._given is not None:
            buffer, piece = self._given
            piece.release()
            self._buffers.give_back(buffer)
            self._given = None

    def _drop_filling(self) -> None:
        if self._filling is not None:
            self._buffers.give_back(self._filling)
        self._filling, self._filled = None, 0
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give(self) -> None:
        """Let `receive` have what is in the buffer, or see that the body has ended."""
        self._is_due = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
