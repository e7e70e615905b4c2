"""ConnectionReader: the stream reader of a connection, which knows whether all that has arrived was read, and whose
transport can be held, so that nothing more arrives."""

import asyncio
from collections.abc import Callable
from typing import Any


class ConnectionReader(asyncio.StreamReader):
    """A StreamReader that one task reads with `read`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._unread = 0
        self._is_awaited = False
        self._flow: _Flow | None = None
        self._idle: Callable[[], None] | None = None

    def set_transport(self, transport: asyncio.BaseTransport) -> None:
        self._flow = _Flow(transport)
        super().set_transport(self._flow)  # type: ignore[arg-type]

    def feed_data(self, data: Any) -> None:
        self._unread += len(data)
        super().feed_data(data)

    async def read(self, n: int = -1) -> bytes:
        self._is_awaited = True
        if self._idle is not None and self.is_idle:
            self._idle()
        try:
            data = await super().read(n)
        finally:
            self._is_awaited = False
        self._unread -= len(data)
        return data

    @property
    def is_idle(self) -> bool:
        """Whether a task waits in `read` for bytes that have not arrived, on a connection that has not ended."""
        return self._is_awaited and not self._unread and not self.at_eof() and self.exception() is None

    def hold(self, idle: Callable[[], None]) -> None:
        """Let nothing more arrive until `release`; `idle` is called when `read` begins to wait in the meantime."""
        self._idle = idle
        if self._flow is not None:
            self._flow.hold()

    def release(self) -> None:
        """Let bytes arrive again; a reader that is not held stays as it is."""
        self._idle = None
        if self._flow is not None:
            self._flow.release()


class _Flow:
    """The transport of a StreamReader, which pauses for two reasons: the reader is full, or it is held."""

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._is_full = self._is_held = False

    def pause_reading(self) -> None:
        self._is_full = True
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._is_full = False
        if not self._is_held:
            self._transport.resume_reading()

    def hold(self) -> None:
        self._is_held = True
        self._transport.pause_reading()

    def release(self) -> None:
        if self._is_held and not self._is_full:
            self._transport.resume_reading()
        self._is_held = False
