"""NativeRows: rows of native content for code that blocks, in a thread beside the event loop or in a command."""

from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator
from functools import partial
from typing import Any, TypeVar

from cache.oci.digest import Digest
from gateway.db import blobs, stored_blobs
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.db.stored_blobs import IncompleteManifest, RecordedBlob, RecordedManifest

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, Any]], Any]
"""Runs a coroutine on the event loop of the database, waits for its end, and returns its result."""

PAGE = 500
MANIFEST_PAGE = 20
"""Manifests that are in memory at once; each may have 4 MiB."""


class NativeRows:
    """Reads gateway.db, in a short transaction for each page. All methods raise DatabaseUnusable."""

    def __init__(self, database: Database, run: Run) -> None:
        self._database = database
        self._run = run

    def blobs(self, after: str = "") -> Iterator[RecordedBlob]:
        """Every blob after the text of a digest, in the order of their digests."""
        while page := self._page_of_blobs(after):
            yield from page
            after = str(page[-1].digest)

    def manifests(self) -> Iterator[RecordedManifest]:
        """Every manifest of every repository."""
        after = 0
        while page := self._page_of_manifests(after):
            yield from page
            after = page[-1].id

    def incomplete(self) -> Iterator[IncompleteManifest]:
        """Every manifest with each reference that its repository lacks."""
        after = 0
        while page := self._read(partial(stored_blobs.list_numbers, after=after, limit=PAGE)):
            yield from self._read(partial(stored_blobs.find_incomplete, numbers=page))
            after = page[-1]

    def size(self, digest: Digest) -> int | None:
        """The recorded size of a blob; None where it is recorded no more."""
        return self._read(lambda connection: blobs.stored_size(connection, digest))

    def stored(self, digests: Collection[Digest]) -> set[Digest]:
        """Find the digests that are recorded as blobs."""
        return self._read(lambda connection: stored_blobs.stored(connection, digests))

    def repositories_with(self, digest: Digest, limit: int) -> list[str]:
        """Paths of the first repositories that a blob is linked to."""
        return self._read(lambda connection: blobs.repositories_with(connection, digest, limit))

    def _page_of_blobs(self, after: str) -> list[RecordedBlob]:
        return self._read(lambda connection: stored_blobs.list_page(connection, after, PAGE))

    def _page_of_manifests(self, after: int) -> list[RecordedManifest]:
        return self._read(lambda connection: stored_blobs.list_manifests(connection, after, MANIFEST_PAGE))

    def _read(self, query: Callable[[Connection], Awaitable[T]]) -> T:
        async def read() -> T:
            async with self._database.read() as connection:
                return await query(connection)

        result: T = self._run(read())
        return result
