"""Follower: one reader of a running download, at an offset of its own."""

from collections.abc import AsyncIterator, Callable

from cache.download.progress import FlightState, GrowingFile, Progress
from cache.download.uncached import SentPrefix
from cache.store.base import Extent, LocalBlob, sendable
from cache.store.filesystem import read_exactly
from cache.upstream.errors import Unavailable


class Follower(LocalBlob):
    """A LocalBlob over a growing file. Raises the download's UpstreamError where that failed.

    It keeps to the file from which it yielded its first bytes, and to the size that its reader has seen.
    """

    def __init__(self, progress: Progress, leave: Callable[[], None]) -> None:
        """`leave` is called once, when the reader closes it."""
        self._progress = progress
        self._leave = leave
        self._closed = False
        self._file: GrowingFile | None = None
        self._size: int | None = None
        self.digest = progress.digest

    @property
    def size(self) -> int | None:
        """Bytes of the whole blob; known after `started` where the upstream promises a length, else once verified."""
        if self._size is None:
            self._size = self._progress.size
        return self._size

    def fileno(self) -> int:
        file = self._file or self._progress.file
        assert file is not None, "nothing was yielded yet"
        return file.descriptor

    async def started(self) -> None:
        """Return when the upstream has responded. Raises UpstreamError."""
        while self._progress.state is FlightState.WAITING:
            await self._progress.changed()
        self._raise_if_failed()

    async def verified(self) -> None:
        while not self._progress.verified:
            self._raise_if_failed()
            await self._progress.changed()

    async def ready(self, start: int, stop: int | None) -> AsyncIterator[Extent]:
        progress, offset = self._progress, start
        while True:
            self._raise_if_failed()
            verified, file = progress.verified, progress.file
            if file is None or progress.state is FlightState.WAITING:
                await progress.changed()
                continue
            self._keep_to(file)
            end = sendable(file.written, file.size if stop is None else stop, verified=verified)
            if offset < end:
                self._file = file
                yield Extent(offset, end)
                offset = end
            elif verified:
                return
            else:
                await progress.changed()

    async def read(self, extent: Extent) -> bytes:
        return await read_exactly(self.fileno(), extent)

    def sent_prefix(self, stop: int) -> SentPrefix | None:
        """The first bytes of its file, up to `stop` as far as they are present; None where nothing was yielded."""
        file = self._file
        return SentPrefix(file.descriptor, min(stop, file.written)) if file and file.written else None

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._leave()

    def _keep_to(self, file: GrowingFile) -> None:
        other_file = self._file is not None and self._file is not file
        other_size = None not in (self._size, file.size) and self._size != file.size
        if other_file or other_size:
            raise Unavailable("the download was started over, because its first bytes could not be relied on")

    def _raise_if_failed(self) -> None:
        if self._progress.error is not None:
            raise self._progress.error.again()
