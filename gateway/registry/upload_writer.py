"""UploadWriter: writes one body into the file of an upload, in threads, while the next bytes arrive."""

import asyncio

from gateway.registry.threads import UploadThreads, completed
from gateway.registry.upload_file import UploadFile

BATCH = 1024 * 1024
"""Bytes that are gathered for a thread: waking one costs as much as hashing 50 KB."""
PIECES = 4096
"""Pieces of a body that are gathered at most: each costs memory of its own, however small it is."""
GATHERED = 64 * 1024 * 1024
"""Bytes that all uploads of a process keep in memory; from there on each writes what it has before it takes more."""
PIECE_COST = 64
"""Bytes that a piece takes in memory beside its content."""
GATHERED_SECONDS = 1.0
"""Seconds after which gathered bytes are written, however few they are: a slow client keeps no memory."""
AT_ONCE = 128 * 1024
"""Bytes of a whole body that the event loop writes and hashes itself, in 0.1 ms: a thread takes longer to wake."""
SYNC_EVERY = 8 * 1024 * 1024
"""Bytes after which the disk is told to begin, so that the end has little to wait for: 1 GiB took 36 ms then instead of
480, and eight pushes of 64 MiB at once two thirds of the time that they took where each began at its end."""
SYNC_REST = 8 * 1024 * 1024
"""Bytes that the end of a body may leave to the commit, which then takes the same time for blobs of every size."""


class UploadWriter:
    """Writer of one body. At most two batches wait in memory: one is being written, the other gathers."""

    def __init__(self, file: UploadFile, threads: UploadThreads) -> None:
        self.failure: OSError | None = None
        """Why the file could not be written, or be made durable; nothing more is written then."""
        self._file = file
        self._threads = threads
        self._pieces: list[bytes | memoryview] = []
        self._gathered = 0
        self._kept = 0
        """Bytes of the gathered pieces that count for the process: those in borrowed buffers belong to others."""
        self._late: asyncio.TimerHandle | None = None
        self._has_started = False
        """Whether the body is too large to be written at once at its end."""
        self._writing: asyncio.Future[None] | None = None
        self._syncing: asyncio.Future[None] | None = None

    async def write(self, piece: bytes | memoryview) -> None:
        """Take the next bytes; waits while a batch is being written and another is full. Raises OSError.

        A memoryview is written when this returns, also where it raises, for its bytes change then.
        """
        if self._has_started or self._gathered + len(piece) > AT_ONCE or self._threads.gathered >= GATHERED:
            self._has_started = True
            await self._write(piece)
        else:
            self._take(bytes(piece))

    async def _write(self, piece: bytes | memoryview) -> None:
        is_borrowed = isinstance(piece, memoryview)
        if is_borrowed:
            await self._flush()
        self._take(piece)
        if is_borrowed or self._threads.gathered >= GATHERED:
            await self._flush()
        elif self._gathered >= BATCH or len(self._pieces) >= PIECES:
            await self._wait_for_batch()
            self._start_batch()

    async def finish(self) -> None:
        """Write what was taken, and leave little of it to be made durable. Raises OSError."""
        if self._has_started or not self._append_at_once():
            await self._flush()
        if self._file.unsynced > SYNC_REST:
            await self._wait_for_sync()
            self._syncing = self._threads.start(self._file.sync)
        await self._wait_for_sync()

    async def stop(self) -> None:
        """Write what was taken, if that is possible; raises nothing: `failure` says why it was not."""
        try:
            await self.finish()
        except OSError as error:
            self.failure = error
        self._threads.gathered -= self._empty()[1]
        for running in (self._writing, self._syncing):
            if running is not None:
                await asyncio.wait([running])
                self._note_failure(running)
        self._writing = self._syncing = None

    async def _flush(self) -> None:
        """Write what was taken. Raises OSError."""
        await self._wait_for_batch()
        if self._gathered:
            self._start_batch()
            await self._wait_for_batch()

    def _append_at_once(self) -> bool:
        """Write a small body here and now, unless that may take long; whether it was written. Raises OSError."""
        self._raise_failure()
        if self._threads.are_writing:  # the disk may be behind, and every write then waits for it
            return False
        data = b"".join(self._pieces)
        try:
            if data and not self._file.append_at_once(data):
                return False
        except OSError as error:
            self.failure = error
            raise
        self._threads.gathered -= self._empty()[1]
        return True

    def _take(self, piece: bytes | memoryview) -> None:
        self._pieces.append(piece)
        self._gathered += len(piece)
        if isinstance(piece, bytes):
            self._kept += len(piece) + PIECE_COST
            self._threads.gathered += len(piece) + PIECE_COST
            if self._late is None:
                self._late = asyncio.get_running_loop().call_later(GATHERED_SECONDS, self._start_late)

    def _empty(self) -> tuple[list[bytes | memoryview], int]:
        """Remove and return the gathered pieces, and the bytes that count for the process."""
        pieces, kept = self._pieces, self._kept
        self._pieces, self._gathered, self._kept = [], 0, 0
        if self._late is not None:
            self._late.cancel()
            self._late = None
        return pieces, kept

    def _start_batch(self) -> None:
        pieces, kept = self._empty()
        self._writing = self._threads.start_writing(self._append, pieces)

        def give_back(_: object) -> None:
            self._threads.gathered -= kept

        self._writing.add_done_callback(give_back)

    def _start_late(self) -> None:
        """Write what has been gathered for some time, unless a batch is being written: then a moment later."""
        self._late = None
        if self._writing is not None and self._writing.done():
            self._note_failure(self._writing)
            self._writing = None
        if self._writing is not None:
            self._late = asyncio.get_running_loop().call_later(GATHERED_SECONDS, self._start_late)
        elif self.failure is None:
            self._has_started = True
            self._start_batch()

    def _append(self, pieces: list[bytes | memoryview]) -> None:
        self._file.append(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    async def _wait_for_batch(self) -> None:
        """Wait until a batch is written, and begin to make it durable in the background. Raises OSError."""
        self._raise_failure()
        while (writing := self._writing) is not None:  # meanwhile another one may begin that was gathered for long
            await self._wait(writing)
            if self._writing is writing:
                self._writing = None
        if self._syncing is not None and self._syncing.done():
            await self._wait_for_sync()
        if self._syncing is None and self._file.unsynced >= SYNC_EVERY:
            self._syncing = self._threads.start(self._file.sync)

    async def _wait_for_sync(self) -> None:
        if self._syncing is not None:
            await self._wait(self._syncing)
            self._syncing = None
        self._raise_failure()

    async def _wait(self, running: "asyncio.Future[None]") -> None:
        try:
            await completed(running)
        except OSError as error:
            self.failure = self.failure or error
            raise

    def _note_failure(self, running: "asyncio.Future[None]") -> None:
        error = running.exception()
        if isinstance(error, OSError):
            self.failure = self.failure or error

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure
