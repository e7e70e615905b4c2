"""SqlIndex: the index in an SQLite file, with recently requested rows in memory.

A lookup in memory needs neither a thread nor a statement. A commit by another process changes the file's version; the
rows of `changes` after the last seen one then say what to drop.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from cachetools import LRUCache
from sqlalchemy import Connection, Engine, Row, create_engine, delete, func, select
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.pool import QueuePool

from cache.index.ancestors import select_ancestors
from cache.index.base import Fact, Holdings
from cache.index.change_log import CHANGES_KEPT, ChangeLog
from cache.index.documents import closure, select_manifest
from cache.index.facts import is_known, is_linked, record_facts, select_size
from cache.index.holdings import is_recorded, select_holdings
from cache.index.image_memory import ImageMemory
from cache.index.images import find_image
from cache.index.lists import SqlLists, delete_lists
from cache.index.queries import READERS, Queries
from cache.index.removal import remove_rows
from cache.index.schema import changes, gone, links, pins, pointers
from cache.index.sightings import select_sightings
from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.oci.media_types import OCI_INDEX
from cache.oci.names import RepositoryName, Tag, parse_reference
from cache.sqlite import WRITES, DatabaseUnusable, Watcher, alone, explained, listen, set_up, url
from cache.values import Ancestor, BlobInfo, CredentialId, Link, Origin, Registry, Sighting, Source, TagPointer

T = TypeVar("T")
MIGRATIONS = "cache.index:migrations"
_POINTERS = 50_000
_LINKS = 100_000
_SIZES = 100_000
_MANIFEST_BYTES = 64 * 1024 * 1024
_CHANGES = "SELECT seq, writer, origin, credential, name, tag FROM changes WHERE seq > ? ORDER BY seq LIMIT ?"


class _Rehearsed(Exception):
    """Rolls back the transaction of a rehearsal."""


class SqlIndex:
    """Index in an SQLite file, which is created if it is missing. For one event loop. Raises DatabaseUnusable."""

    def __init__(
        self,
        path: Path,
        look_every: float = 0.0,
        changes_kept: int = CHANGES_KEPT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`look_every`: seconds for which commits of other processes may go unnoticed. `changes_kept`: rows of the log
        of changes that are kept, and that are read at once."""
        set_up(path, MIGRATIONS)
        self.path = path
        self._clock = clock
        self._engine = create_engine(url("sqlite", path), poolclass=QueuePool)
        listen(self._engine, synchronous="NORMAL")
        self._writers = self._engine.execution_options(**WRITES)
        self._queries = Queries(lambda query: self._transact(query, self._engine))
        self._writer = ThreadPoolExecutor(1, "index-write")
        self._log = ChangeLog(secrets.token_hex(8), changes_kept)
        self._pointers: ImageMemory[Tag, TagPointer] = ImageMemory(_POINTERS)
        self._links: ImageMemory[Digest, bool] = ImageMemory(_LINKS)
        self._sizes: LRUCache[Digest, int] = LRUCache(_SIZES)
        self._manifests = _manifest_memory()
        self._unwritten: set[tuple[Source, RepositoryName, Tag | Digest | None]] = set()
        self._reading: dict[Hashable, asyncio.Future[Any]] = {}
        self.lists = SqlLists(self._read, self._write, lambda *image: (*image, None) in self._unwritten)
        self._watcher = Watcher(path, look_every)
        self._version = self._watcher.version()
        self._generation = 0
        self._changes_seen = 0
        with self._engine.connect() as connection:
            self._seen = connection.scalar(select(func.coalesce(func.max(changes.c.seq), 0))) or 0

    async def prepare(self) -> None:
        """Prepare what would delay the first pull by 30 ms: every connection that it uses, with the text of every
        statement."""
        nobody, name = Source(Origin("https", "localhost", 1)), RepositoryName("nobody")
        manifest = Manifest.parse(OCI_INDEX, b'{"schemaVersion": 2, "manifests": []}')
        digest = manifest.descriptor.digest
        link, blob = Link(nobody, name, digest), BlobInfo(digest, manifest.descriptor.size)
        pointer = TagPointer(nobody, name, Tag("none"), manifest.descriptor, datetime.now(UTC))
        await asyncio.gather(
            self.find_pointer(nobody, name, pointer.tag),
            self.find_manifest(digest),
            self.linked(link),
            self.known_at(nobody.registry, digest),
            self.find_size(digest),
        )

        def rehearse() -> None:
            with explained(self.path), alone(self.path), ExitStack() as opened:
                for connection in [opened.enter_context(self._writers.connect()) for _ in range(READERS + 1)]:
                    with suppress(_Rehearsed), connection.begin():
                        is_linked(connection, link)
                        is_known(connection, nobody.registry, digest)
                        record_facts(connection, [manifest, link, blob, pointer], self._log, self._clock())
                        raise _Rehearsed

        with suppress(DatabaseUnusable):  # a full disk is reported by the first real write
            await asyncio.get_running_loop().run_in_executor(self._writer, rehearse)

    def close(self) -> None:
        self._queries.close()
        self._writer.shutdown()
        self._watcher.close()
        self._engine.dispose()

    async def check(self) -> None:
        """Raise DatabaseUnusable if the file cannot be read, whatever is in memory."""
        await self._read(lambda connection: connection.scalar(select(func.max(changes.c.seq))), "check")

    def mark(self) -> Hashable:
        self._drop_what_others_changed()
        return self._generation, self._version

    async def find_pointer(self, source: Source, image: RepositoryName, tag: Tag) -> TagPointer | None:
        key = (source, image, tag)
        if self._unwritten and not self._unwritten.isdisjoint({key, (source, image, None)}):
            return None
        self._drop_what_others_changed()
        if (held := self._pointers.get((source, image), tag)) is not None:
            return held
        generation = self._generation
        found = await self._read(lambda connection: _select_pointer(connection, *key), key)
        if found is not None and generation == self._generation:
            self._pointers.put((source, image), tag, found)
        return found

    async def find_manifest(self, digest: Digest) -> Manifest | None:
        self._drop_what_others_changed()
        if (held := self._manifests.get(digest)) is not None:
            return held
        generation = self._generation
        found = await self._read(lambda connection: select_manifest(connection, digest), ("manifest", digest))
        if found is not None and generation == self._generation:
            self._hold(found)
        return found

    async def linked(self, link: Link) -> bool:
        image = (link.source, link.image)
        if self._unwritten and not self._unwritten.isdisjoint({(*image, link.digest), (*image, None)}):
            return False
        self._drop_what_others_changed()
        if self._links.get(image, link.digest):
            return True
        generation = self._generation
        found = await self._read(lambda connection: is_linked(connection, link), link)
        if found and generation == self._generation:
            self._links.put(image, link.digest, True)
        return found

    async def known_at(self, registry: Registry, digest: Digest) -> bool:
        return await self._read(lambda connection: is_known(connection, registry, digest), (registry, digest))

    async def find_size(self, digest: Digest) -> int | None:
        # The size of a digest never changes, so this memory is right even if the row was deleted.
        if (held := self._sizes.get(digest)) is not None:
            return held
        found = await self._read(lambda connection: select_size(connection, digest), ("size", digest))
        if found is not None:
            self._sizes[digest] = found
        return found

    async def recorded_size(self, digest: Digest) -> int | None:
        found = await self._read(lambda connection: select_size(connection, digest))
        if found is None:
            self._forget_size(digest)
        return found

    async def drop(self, digest: Digest, unless: Callable[[], bool]) -> None:
        await self._write(
            lambda connection: None if unless() else remove_rows(connection, [str(digest)]),
            lambda: self._forget_size(digest),
        )

    def _forget_size(self, digest: Digest) -> None:
        self._sizes.pop(digest, None)

    async def sightings(self, source: Source, image: RepositoryName, tag: Tag | None = None) -> list[Sighting]:
        return await self._read(
            lambda connection: select_sightings(connection, find_image(connection, source, image), self._clock(), tag)
        )

    async def ancestors(self, source: Source, image: RepositoryName, digest: Digest) -> list[Ancestor]:
        return await self._read(
            lambda connection: select_ancestors(
                connection, find_image(connection, source, image), digest, self._clock()
            ),
            ("ancestors", source, image, digest),
        )

    async def holdings(self, source: Source, image: RepositoryName) -> Holdings:
        return await self._read(lambda connection: select_holdings(connection, find_image(connection, source, image)))

    async def record(self, *facts: Fact) -> None:
        changes_seen = self._changes_seen
        await self._write(
            lambda connection: record_facts(connection, facts, self._log, self._clock()),
            lambda: self._remember(facts, self._changes_seen == changes_seen),
        )

    def _remember(self, facts: Iterable[Fact], still_so: bool) -> None:
        """Hold the facts in memory, unless others have changed something since: their change of these facts may be
        newer."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        for fact in facts:
            match fact:
                case TagPointer() if not still_so:
                    self._pointers.pop((fact.source, fact.image), fact.tag)
                case Link() if not still_so:
                    self._links.pop((fact.source, fact.image), fact.digest)
                case TagPointer():
                    held = self._pointers.get((fact.source, fact.image), fact.tag)
                    if held is None or not fact.checked_at < held.checked_at <= now:
                        self._pointers.put((fact.source, fact.image), fact.tag, fact)
                case Link():
                    self._links.put((fact.source, fact.image), fact.digest, True)
                case Manifest():
                    self._hold(fact)
                case BlobInfo():
                    self._sizes[fact.digest] = fact.size

    async def forget(self, source: Source, image: RepositoryName, reference: Tag | Digest | None = None) -> None:
        """Forget a tag, a digest or an image at once in this process. If that cannot be written, the next write tries
        it again.

        Nothing is written, and nobody's memory is dropped, for a name that was never recorded: clients can invent any
        number of them.
        """
        self._unwritten.add((source, image, reference))
        if self._holds(source, image, reference):
            self._drop(source, image, reference)
        await self._write(
            lambda connection: None,
            lambda: self._drop(source, image, reference),
            unless=lambda connection: not is_recorded(connection, find_image(connection, source, image), reference),
            spared=lambda: self._unwritten.discard((source, image, reference)),
        )

    def _holds(self, source: Source, image: RepositoryName, reference: Tag | Digest | None) -> bool:
        """Whether a pointer or a link of a tag, a digest or an image is in memory."""
        match reference:
            case Tag():
                return self._pointers.get((source, image), reference) is not None
            case Digest():
                return self._links.get((source, image), reference) is not None
            case None:
                return self._pointers.holds((source, image)) or self._links.holds((source, image))

    async def _read(self, query: Callable[[Connection], T], of: Hashable = None) -> T:
        """Run a query in a thread; concurrent queries with the same key `of` share the result while nothing changes.

        Without this, sixteen clients of one new blob waited 35 ms for identical statements.
        """
        if of is None:
            return await self._queries.run(query)
        key = (self._generation, self._version, of)
        reading = self._reading.get(key)
        if reading is None:
            reading = self._reading[key] = self._queries.run(query)
            reading.add_done_callback(lambda _: self._reading.pop(key, None))
        return await asyncio.shield(reading)

    async def _write(
        self,
        statements: Callable[[Connection], None],
        written: Callable[[], None],
        unless: Callable[[Connection], bool] | None = None,
        spared: Callable[[], None] = lambda: None,
    ) -> None:
        """Run statements in the writer thread, then `written` in the loop; both complete even if the caller is
        cancelled. `unless`: a query in the same thread; where it is true, `spared` is called, and nothing else is
        done."""
        if unless is None:
            self._generation += 1
        lost = set(self._unwritten)

        def all_statements(connection: Connection) -> None:
            for forgotten in lost:
                _forget(connection, *forgotten, self._log)
            statements(connection)

        def write() -> bool:
            if unless is not None and self._transact(unless, self._engine):
                return False
            self._transact(all_statements, self._writers)
            return True

        writing = asyncio.get_running_loop().run_in_executor(self._writer, write)

        def ended(_: object) -> None:
            if writing.cancelled() or writing.exception() is not None:
                self._generation += 1
                self._unwritten |= lost
            elif writing.result():
                self._generation += 1
                self._unwritten -= lost
                written()
            else:
                spared()

        writing.add_done_callback(ended)
        await asyncio.shield(writing)

    def _transact(self, work: Callable[[Connection], T], engine: Engine) -> T:
        """Do work in a transaction of the engine of readers, or alone in one of the engine of writers."""
        turn = alone(self.path) if engine is self._writers else nullcontext()
        with explained(self.path), turn, engine.begin() as connection:
            return work(connection)

    def _hold(self, manifest: Manifest) -> None:
        if manifest.memory * 16 <= _MANIFEST_BYTES:
            self._manifests[manifest.descriptor.digest] = manifest

    def _drop_what_others_changed(self) -> None:
        version = self._watcher.version()
        if version == self._version:
            return
        rows = self._watcher.fetch(_CHANGES, self._seen, self._log.kept)
        self._version = version
        if rows and (rows[0][0] > self._seen + 1 or len(rows) == self._log.kept):
            self._drop_all()
        for seq, writer, origin, credential, name, tag in rows:
            self._seen = seq
            if writer != self._log.writer:
                self._changes_seen += 1
                reference = parse_reference(tag) if tag is not None else None
                source = Source.at(Registry.parse(origin), CredentialId.parse(credential))
                self._drop(source, RepositoryName(name), reference)
                if reference is None:  # a command may have deleted the image's manifests
                    self._manifests = _manifest_memory()

    def _drop(self, source: Source, image: RepositoryName, reference: Tag | Digest | None) -> None:
        self._generation += 1
        match reference:
            case Tag():
                self._pointers.pop((source, image), reference)
            case Digest():
                self._links.pop((source, image), reference)
            case None:
                self._pointers.forget((source, image))
                self._links.forget((source, image))

    def _drop_all(self) -> None:
        self._generation += 1
        self._changes_seen += 1
        self._pointers.clear()
        self._links.clear()
        self._manifests = _manifest_memory()


def _manifest_memory() -> LRUCache[Digest, Manifest]:
    return LRUCache(_MANIFEST_BYTES, getsizeof=lambda manifest: manifest.memory)


def _select_pointer(connection: Connection, source: Source, image: RepositoryName, tag: Tag) -> TagPointer | None:
    row = connection.execute(
        select(pointers).where(pointers.c.image_id == find_image(connection, source, image), pointers.c.tag == tag.text)
    ).one_or_none()
    return to_pointer(row, source, image, tag) if row else None


def to_pointer(row: Row[Any], source: Source, image: RepositoryName, tag: Tag) -> TagPointer:
    target = Descriptor(row.media_type, Digest.parse(row.digest), row.size)
    return TagPointer(source, image, tag, target, datetime.fromtimestamp(row.checked_at, UTC))


def _forget(
    connection: Connection,
    source: Source,
    image: RepositoryName,
    reference: Tag | Digest | None,
    log: ChangeLog,
) -> None:
    image_id = find_image(connection, source, image)
    if image_id is None:
        return
    unpointed = delete(pointers).where(pointers.c.image_id == image_id)
    unlinked = delete(links).where(links.c.image_id == image_id)
    match reference:
        case Tag():
            _note_gone(connection, image_id, reference)
            connection.execute(unpointed.where(pointers.c.tag == reference.text))
        case Digest():
            connection.execute(unlinked.where(links.c.digest == str(reference)))
        case None:
            connection.execute(unpointed)
            connection.execute(unlinked)
            delete_lists(connection, image_id)
    log.note(connection, source, image, reference)


def _note_gone(connection: Connection, image_id: int, tag: Tag) -> None:
    """Mark the tag's target as gone upstream, so that it is evicted last; a pinned one is not evicted at all."""
    of_tag = (pointers.c.image_id == image_id, pointers.c.tag == tag.text)
    digest = connection.scalar(select(pointers.c.digest).where(*of_tag))
    if digest is None:
        return
    rows = [{"digest": str(found), "gone_at": time.time()} for found in closure(connection, [Digest.parse(digest)])]
    connection.execute(upsert(gone).on_conflict_do_nothing(), rows)
    pinned = select(pins).where(pins.c.image_id == image_id, pins.c.reference == tag.text)
    if connection.execute(pinned).one_or_none():
        connection.execute(upsert(pins).values(image_id=image_id, reference=digest).on_conflict_do_nothing())
