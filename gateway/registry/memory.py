"""NativeMemory: what one process remembers of native repositories, which changes of the database take away.

Whoever reads calls `require_newest` first: then nothing is found that a change had taken away before the call, by
whichever process. So an absence is remembered as long as a presence.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.document import OFF_LOOP_BYTES
from cache.oci.errors import Busy
from cache.oci.manifest import Manifest
from cache.oci.names import RepositoryName, Tag
from cache.runtime.fair_queue import Requester
from cache.runtime.turns import NoTurn, Turns
from cache.values import WrittenDescriptor
from gateway.db import blobs, manifests, old_paths, repositories
from gateway.db.changes import Concern, content_key
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.db.manifests import Referrer, StoredManifest
from gateway.db.repositories import StoredRepository
from gateway.db.shared_reads import SharedReads
from gateway.directory.memory import Memory
from gateway.namespaces.old_path import Former
from gateway.registry.referrers import describe

V = TypeVar("V")

KEPT_REPOSITORIES = 10_000
KEPT_TARGETS = 50_000
KEPT_SIZES = 50_000
KEPT_MANIFEST_BYTES = 32 * 1024 * 1024
KEPT_REFERRER_BYTES = 16 * 1024 * 1024

DESCRIBING_WAIT = 30.0
"""Seconds that a reader waits for its turn to have entries of referrers made."""


class NativeMemory:
    """Repositories by path; of each repository's content targets and manifests by tag and digest, and sizes of blobs.

    Content is kept by the repository's id, which never returns: that of a deleted repository is never found again. For
    one event loop. Raises DatabaseUnusable.
    """

    def __init__(self, database: Database, parse: Callable[[StoredManifest], Awaitable[Manifest]]) -> None:
        """`parse`: reads a manifest as the database has it."""
        self._database = database
        self._parse = parse
        self._repositories: Memory[str, StoredRepository] = Memory(KEPT_REPOSITORIES)
        self._formers: Memory[str, Former] = Memory(KEPT_REPOSITORIES)
        self._targets: Memory[str, Descriptor] = Memory(KEPT_TARGETS)
        self._manifests: Memory[str, Manifest] = Memory(KEPT_MANIFEST_BYTES, lambda manifest: manifest.memory)
        self._sizes: Memory[str, int] = Memory(KEPT_SIZES)
        self._referrers: Memory[str, WrittenDescriptor] = Memory(KEPT_REFERRER_BYTES, _weight_of_descriptor)
        self._describing = Turns(1, 1, DESCRIBING_WAIT)
        self._reads = SharedReads()
        database.changes.subscribe(Concern.REPOSITORY, self._drop_repository)
        database.changes.subscribe(Concern.MOVE, self._drop_names)
        database.changes.subscribe(Concern.CONTENT, self._drop_content)

    async def require_newest(self) -> None:
        """Forget what changed before this call, in any process. Raises DatabaseUnusable where that is not known."""
        await self._database.changes.require_newest()

    async def repository(self, name: RepositoryName) -> StoredRepository | None:
        """The repository of a name; None if it does not exist."""

        async def read(connection: Connection) -> StoredRepository | None:
            return await repositories.find(connection, name)

        return await self._recall(self._repositories, name.text, read)

    async def former(self, name: RepositoryName) -> Former | None:
        """What the old name of a repository leads to; None for any other name."""

        async def read(connection: Connection) -> Former | None:
            return (await old_paths.follow_all(connection, [name.text])).get(name.text)

        return await self._recall(self._formers, name.text, read)

    async def manifest(self, repository: StoredRepository, reference: Tag | Digest) -> Manifest | None:
        """The manifest of a digest, or the one that a tag points to; None if there is none."""
        key = _target_key(repository, reference)
        target = self._targets.find(key)
        if target is not None:
            known = self._manifests.find(content_key(repository.id, target.digest))
            if known is not None:
                return known
        elif self._targets.knows_absence(key):
            return None
        version = self._targets.version, self._manifests.version
        read = partial(self._read_manifest, repository, reference)
        return await self._reads.read((id(self._manifests), key), version, read)

    async def _read_manifest(self, repository: StoredRepository, reference: Tag | Digest) -> Manifest | None:
        key, targets, contents = _target_key(repository, reference), self._targets.version, self._manifests.version
        pinned = repository.pinned_at is not None
        find = partial(manifests.find, repository_id=repository.id, reference=reference, pinned=pinned)
        stored = await self._database.query(find)
        if stored is None:
            self._targets.keep(key, None, targets)
            return None
        manifest = await self._parse(stored)
        self._targets.keep(key, manifest.descriptor, targets)
        self._manifests.keep(content_key(repository.id, manifest.descriptor.digest), manifest, contents)
        return manifest

    async def target(self, repository: StoredRepository, reference: Tag | Digest) -> Descriptor | None:
        """The descriptor of the manifest that a reference leads to; None if there is none."""

        async def read(connection: Connection) -> Descriptor | None:
            return await manifests.stat(connection, repository.id, reference, pinned=repository.pinned_at is not None)

        return await self._recall(self._targets, _target_key(repository, reference), read)

    async def referrers(self, repository_id: int, page: Sequence[Referrer], who: Requester) -> list[WrittenDescriptor]:
        """The entries of a page of referrers; those that are deleted meanwhile are left out.

        Those that memory lacks are made for one reader at a time, and one of another group, in turns. So however many
        read, the interpreter is left to others, and who waits for the same entries finds them. Raises Busy.
        """
        if (known := self._known_referrers(repository_id, page)) is not None:
            return known
        try:
            async with self._describing.turn(who):
                return await self._describe(repository_id, page)
        except NoTurn as error:
            raise Busy("too many lists of referrers are read at once: try again") from error

    async def _describe(self, repository_id: int, page: Sequence[Referrer]) -> list[WrittenDescriptor]:
        """Make the entries of a page, unless memory has all of them by now."""
        if (known := self._known_referrers(repository_id, page)) is not None:
            return known
        version = self._referrers.version
        async with self._database.read() as connection:
            stored = await manifests.read_all(connection, [referrer.id for referrer in page])
        if sum(len(manifest.raw) for manifest in stored) > OFF_LOOP_BYTES:
            described = await asyncio.to_thread(describe, stored)
        else:
            described = describe(stored)
        for manifest, entry in zip(stored, described, strict=True):
            self._referrers.keep(content_key(repository_id, manifest.descriptor.digest), entry, version)
        return described

    def _known_referrers(self, repository_id: int, page: Sequence[Referrer]) -> list[WrittenDescriptor] | None:
        """The entries of a page, where memory has all of them."""
        found = [self._referrers.find(content_key(repository_id, referrer.digest)) for referrer in page]
        known = [entry for entry in found if entry is not None]
        return known if len(known) == len(page) else None

    async def size(self, repository_id: int, digest: Digest) -> int | None:
        """The size of a blob of the repository, in bytes; None if it has none of this digest."""

        async def read(connection: Connection) -> int | None:
            return await blobs.size(connection, repository_id, digest)

        return await self._recall(self._sizes, content_key(repository_id, digest), read)

    async def _recall(
        self, memory: Memory[str, V], key: str, read: Callable[[Connection], Coroutine[Any, Any, V | None]]
    ) -> V | None:
        """Find a value in a memory, or else read it from the database and keep it."""
        value = memory.find(key)
        if value is not None or memory.knows_absence(key):
            return value
        return await self._reads.read((id(memory), key), memory.version, partial(self._read, memory, key, read))

    async def _read(
        self, memory: Memory[str, V], key: str, read: Callable[[Connection], Coroutine[Any, Any, V | None]]
    ) -> V | None:
        version = memory.version
        value = await self._database.query(read)
        memory.keep(key, value, version)
        return value

    def _drop_repository(self, path: str | None) -> None:
        if path is None:
            self._repositories.drop_all()
        else:
            self._repositories.drop(path)

    def _drop_names(self, _: str | None) -> None:
        self._repositories.drop_all()
        self._formers.drop_all()

    def _drop_content(self, key: str | None) -> None:
        for memory in (self._targets, self._manifests, self._sizes, self._referrers):
            if key is None:
                memory.drop_all()
            else:
                memory.drop(key)


def _target_key(repository: StoredRepository, reference: Tag | Digest) -> str:
    """The key of what a reference leads to. What a pin shows of a tag never changes: no change drops it."""
    if isinstance(reference, Digest) or repository.pinned_at is None:
        return content_key(repository.id, reference)
    return content_key(repository.id, f"{reference} as of {repository.pinned_at.isoformat()}")


def _weight_of_descriptor(entry: WrittenDescriptor) -> int:
    """Bytes of a descriptor in memory, about: short texts take more than their characters."""
    return 1024 + 4 * len(entry.text)
