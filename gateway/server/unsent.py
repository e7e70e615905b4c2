"""Unsent: the bytes that a process holds for clients that do not receive them, below a limit for all together.

A response is written in pieces, each after the transport has passed on most of the one before, so that a client that
does not receive costs some pieces and not a whole response. A document that several responses send is counted once.
Files that the kernel sends are not held in memory, and do not count.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

log = structlog.get_logger()

PIECE = 64 * 1024
"""Bytes of a response that are written at once, and bytes in the transport from which it waits.

The transport copies what the kernel does not accept, and over TLS two layers do.
"""
UNSENT_LIMIT = 64 * 1024 * 1024


@dataclass(eq=False, slots=True)
class _Waiting:
    """A response that waits for its client."""

    data: bytes
    buffered: int
    abort: Callable[[], None]


class Unsent:
    """The responses of a process that wait for their clients, in the order in which they began to wait."""

    def __init__(self, limit: int = UNSENT_LIMIT) -> None:
        self._limit = limit
        self._waiting: dict[_Waiting, None] = {}
        self._holders: dict[int, int] = {}
        """The number of waiting responses that hold the data of this identity."""
        self.bytes = 0

    @contextmanager
    def waiting(self, data: bytes, buffered: int, abort: Callable[[], None]) -> Iterator[None]:
        """Count a response while it waits for its client.

        `data`: what it has begun to write; `buffered`: bytes in its transport. Above the limit, the responses that have
        waited longest are aborted: a client that receives anything does not wait for long.
        """
        response = _Waiting(data, buffered, abort)
        self._add(response)
        while self.bytes > self._limit:
            longest = next(iter(self._waiting))
            self._remove(longest)
            log.info("stalled_answer", unsent=self.bytes)
            longest.abort()
        try:
            yield
        finally:
            self._remove(response)

    def _add(self, response: _Waiting) -> None:
        self._waiting[response] = None
        key = id(response.data)
        holders = self._holders.get(key, 0)
        self._holders[key] = holders + 1
        self.bytes += response.buffered + (0 if holders else len(response.data))

    def _remove(self, response: _Waiting) -> None:
        if response not in self._waiting:
            return
        del self._waiting[response]
        key = id(response.data)
        holders = self._holders.pop(key)
        if holders > 1:
            self._holders[key] = holders - 1
        self.bytes -= response.buffered + (0 if holders > 1 else len(response.data))
