"""Progress: state of one download, which its thread reports and for which the event loop waits."""

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


class FlightState(Enum):
    """State of a flight; the package's docstring has the transitions."""

    WAITING = "waiting"
    STREAMING = "streaming"
    VERIFIED = "verified"
    COMMITTED = "committed"
    FAILED = "failed"


@dataclass(slots=True, eq=False)
class GrowingFile:
    """A spool of one flight, whose bytes below `written` may be read. Starting over opens another one.

    `size`: bytes of the whole blob, once the upstream has promised them or all have arrived.
    """

    descriptor: int
    inode: int
    size: int | None = None
    written: int = 0


class Progress:
    """State of one download: WAITING → STREAMING → VERIFIED → COMMITTED, or FAILED from either of the first two.

    `file` is None until STREAMING. One thread reports; the object is made in the loop, which waits for changes.
    """

    def __init__(self, source: Source, image: RepositoryName, digest: Digest) -> None:
        self.source = source
        self.image = image
        self.digest = digest
        self.state = FlightState.WAITING
        self.file: GrowingFile | None = None
        self.proved = False
        """Whether the image's right to the bytes was proved, by a fetch of its own or by a request for it."""
        self.begun_elsewhere = False
        """Whether another worker of this host had begun the download."""
        self.error: UpstreamError | None = None
        self.files: list[GrowingFile] = []
        self._loop = asyncio.get_running_loop()
        self._waiting: set[asyncio.Future[None]] = set()
        self._wake_scheduled = False

    @property
    def verified(self) -> bool:
        return self.state in (FlightState.VERIFIED, FlightState.COMMITTED)

    @property
    def size(self) -> int | None:
        return self.file.size if self.file else None

    @property
    def written(self) -> int:
        return self.file.written if self.file else 0

    async def changed(self) -> None:
        """Return after the next change of state or of `written`. Look at both first: past changes are not reported."""
        future = self._loop.create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    def use(self, descriptor: int, inode: int, size: int | None) -> GrowingFile:
        """Set the file that readers follow, and return it; the current one where it has the same inode."""
        if self.file is None or self.file.inode != inode:
            file = GrowingFile(os.dup(descriptor), inode, size)
            self.files.append(file)
            self.file = file
        return self.file

    def is_followed(self, descriptor: int) -> bool:
        """Whether an open file is the verified spool that this download follows, with all of its bytes."""
        file, found = self.file, os.fstat(descriptor)
        return self.verified and file is not None and (file.inode, file.size) == (found.st_ino, found.st_size)

    def report(self, state: FlightState, error: UpstreamError | None = None) -> None:
        """Enter a state. FAILED is final; and a verified download stays so: it only could not be stored."""
        if self.state is FlightState.FAILED:
            return
        if self.verified and state is FlightState.FAILED:
            reason = error.reason if error else ""
            if throttle.due(reason):
                log.error("commit_failed", digest=str(self.digest), reason=reason)
            return
        self.error = error
        self.state = state
        self.signal()

    def signal(self) -> None:
        """Wake every waiter; many calls before the loop runs cost one callback."""
        if not self._wake_scheduled:
            self._wake_scheduled = True
            self.call(self._wake)

    def call(self, callback: Callable[[], None]) -> None:
        """Run a callback in the loop."""
        with suppress(RuntimeError):  # the loop is closed: no waiter is left
            self._loop.call_soon_threadsafe(callback)

    def _wake(self) -> None:
        self._wake_scheduled = False
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
