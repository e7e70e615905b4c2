"""SharedReads: one read of the database for all who want the same at the same time.

A tag that moves is forgotten by every worker, and the next hundred clients want it at once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

from gateway.db.engine import DatabaseUnusable

V = TypeVar("V")


class _Reading:
    """A read that one of its requests does for all of them."""

    def __init__(self, version: Hashable) -> None:
        self.version = version
        self.ended = asyncio.Event()
        self.succeeded = False
        self.failure: DatabaseUnusable | None = None
        self.value: Any = None


class SharedReads:
    """Reads that are under way, by what they read. For one event loop; it owns no task, so there is nothing to close.

    The first request reads; where it is cancelled, one of those that wait reads in its place.
    """

    def __init__(self) -> None:
        self._readings: dict[Hashable, _Reading] = {}

    async def read(self, key: Hashable, version: Hashable, read: Callable[[], Awaitable[V]]) -> V:
        """Return what `read` returns, of this call or of one that is under way. Raises DatabaseUnusable.

        `version`: that of the memory that lacks the key. One read serves the requests that found the same version: none
        of them knows of a change that the read may have missed.
        """
        while (reading := self._readings.get(key)) is not None and reading.version == version:
            await reading.ended.wait()
            if reading.succeeded:
                value: V = reading.value
                return value
            if reading.failure is not None:
                raise DatabaseUnusable(str(reading.failure)) from reading.failure
        return await self._lead(key, _Reading(version), read)

    async def _lead(self, key: Hashable, reading: _Reading, read: Callable[[], Awaitable[V]]) -> V:
        self._readings[key] = reading
        try:
            value = reading.value = await read()
            reading.succeeded = True
            return value
        except DatabaseUnusable as error:
            reading.failure = error
            raise
        finally:
            if self._readings.get(key) is reading:
                del self._readings[key]
            reading.ended.set()
