"""Progress: how far one download has come, as its thread tells it and the loop hears it."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

import structlog

from cache.oci.digest import Digest
from cache.oci.names import RepositoryName
from cache.runtime.throttle import LogThrottle
from cache.upstream.errors import UpstreamError
from cache.values import Source

log = structlog.get_logger()
throttle = LogThrottle()


class State(Enum):
    WAITING = "waiting"
    STREAMING = "streaming"
    VERIFIED = "verified"
    COMMITTED = "committed"
    FAILED = "failed"


@dataclass(slots=True, eq=False)
class Body:
    """One try at the blob: an open file, of which the bytes below `written` may be read. Starting over makes another.

    `size` is known once the upstream has told it, or when all has come.
    """

    descriptor: int
    inode: int
    size: int | None = None
    written: int = 0


class Progress:
    """WAITING → STREAMING → VERIFIED → COMMITTED, or FAILED from any of the first three. `body` is there from STREAMING
    on. One thread tells; made in the loop, and waited for there.
    """

    def __init__(self, source: Source, image: RepositoryName, digest: Digest) -> None:
        self.source = source
        self.image = image
        self.digest = digest
        self.state = State.WAITING
        self.body: Body | None = None
        self.proved = False
        """Whether the image's right to the bytes was proved, by a fetch of its own or by a question."""
        self.borrowed = False
        """Whether another worker of this host had begun it."""
        self.error: UpstreamError | None = None
        self.bodies: list[Body] = []
        self._loop = asyncio.get_running_loop()
        self._waiting: set[asyncio.Future[None]] = set()
        self._wake_scheduled = False

    @property
    def verified(self) -> bool:
        return self.state in (State.VERIFIED, State.COMMITTED)

    @property
    def size(self) -> int | None:
        return self.body.size if self.body else None

    @property
    def written(self) -> int:
        return self.body.written if self.body else 0

    async def changed(self) -> None:
        """Returns after the next change of state or of `written`; any change that was missed is seen before waiting."""
        future = self._loop.create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    def use(self, descriptor: int, inode: int, size: int | None) -> Body:
        """The body that this file is; another one than before where it is another file."""
        if self.body is None or self.body.inode != inode:
            body = Body(os.dup(descriptor), inode, size)
            self.bodies.append(body)
            self.body = body
        return self.body

    def tell(self, state: State, error: UpstreamError | None = None) -> None:
        if self.state is State.FAILED:
            return
        if self.verified and state is State.FAILED:
            # The bytes are right, they only did not come to rest: who reads them reads on.
            reason = error.reason if error else ""
            if throttle.due(reason):
                log.error("commit_failed", digest=str(self.digest), reason=reason)
            return
        self.error = error
        self.state = state
        self.signal()

    def signal(self) -> None:
        if not self._wake_scheduled:
            self._wake_scheduled = True
            self.call(self._wake)

    def call(self, callback: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop has been closed: nobody is left to hear of it
            self._loop.call_soon_threadsafe(callback)

    def _wake(self) -> None:
        self._wake_scheduled = False
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
