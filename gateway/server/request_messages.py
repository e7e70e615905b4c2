"""RequestMessages: the ASGI messages of one request on their way to the app, in a queue of bounded size.

Nothing waits for an app that has ended, or whose response is complete: what arrives for it from then on is dropped.
"""

import asyncio
from collections import deque

from starlette.types import Message

LIMIT = 64 * 1024
"""Bytes that may wait for the app; one read of a connection brings as many."""
LEAST_COST = 1024
"""Bytes that a message counts as at least, since a client may send its body byte by byte."""


class RequestMessages:
    """The messages of one request: one task puts them, and tasks of the app receive them."""

    __slots__ = ("_ended", "_messages", "_size", "_waiters", "body_bytes")

    def __init__(self) -> None:
        self.body_bytes = 0
        """Bytes of the body in all messages that were put."""
        self._messages: deque[Message] = deque()
        self._size = 0
        self._ended = False
        self._waiters: list[asyncio.Future[None]] = []

    async def put(self, message: Message) -> None:
        """Add a message as soon as there is room for it; `http.disconnect` waits for nothing and is the last."""
        if message["type"] == "http.disconnect":
            self._end()
            return
        while self._size >= LIMIT and not self._ended:
            await self.change()
        self.body_bytes += len(message["body"])
        if not self._ended:
            self._messages.append(message)
            self._size += _cost(message)
            self.wake()

    async def receive(self) -> Message:
        """Return the next message; `http.disconnect` each time after the last."""
        while not self._messages:
            if self._ended:
                return {"type": "http.disconnect"}
            await self.change()
        message = self._messages.popleft()
        self._size -= _cost(message)
        self.wake()
        return message

    @property
    def is_waiting(self) -> bool:
        """Whether `receive` returns at once."""
        return bool(self._messages) or self._ended

    def close(self) -> None:
        """Drop all messages, because the app has ended."""
        self._messages.clear()
        self._end()

    def _end(self) -> None:
        self._ended = True
        self.wake()

    async def change(self) -> None:
        """Wait until a message was added or received, or for `wake`."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def wake(self) -> None:
        """End the wait of all who wait for a change."""
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)


def _cost(message: Message) -> int:
    return max(LEAST_COST, len(message["body"]))
