"""NativeRepository: a repository of a project; its content is in the native store, and nowhere else.

Reads answer from memory, after a look for changes. Each write is one transaction: it is durable, and seen by every
process, when the method returns.
"""

from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from cache.oci.digest import Digest
from cache.oci.errors import BlobUnknown, Denied, ManifestBlobUnknown, ManifestUnknown, NameUnknown, UploadUnknown
from cache.oci.manifest import Manifest
from cache.oci.names import RepositoryName, Tag
from cache.repository import (
    UNCACHED,
    FoundBlob,
    FoundManifest,
    FoundReferrers,
    FoundSize,
    FoundTags,
    FoundTarget,
)
from cache.runtime.fair_queue import NOBODY, Requester
from cache.store.base import LocalBlob
from cache.values import BEGINNING, PageStart, ReferrersPage, TagPage
from gateway.auth.protection import TagGuard
from gateway.db import (
    blobs,
    deleted_manifests,
    manifests,
    pins,
    projects,
    protections,
    repositories,
    reviews,
    webhook_events,
)
from gateway.db import tags as tag_rows
from gateway.db.connection import Connection
from gateway.db.manifests import NewManifest, Reference
from gateway.db.repositories import StoredRepository
from gateway.namespaces.errors import PathReserved
from gateway.namespaces.project import Project
from gateway.registry.base import DeletedTag, UploadSession
from gateway.registry.parts import NativeParts
from gateway.registry.pushed import (
    Readable,
    ReferencesMissing,
    explain_missing,
    find_references,
    read_pushed,
)
from gateway.registry.referrers import PAGE_COUNT, cut_page
from gateway.registry.storage_errors import database_errors, full_disk_named

T = TypeVar("T")

TAGS_LIMIT = 10_000
"""Names on a page of tags whose size the client does not state; a Link leads to the next one."""
FEW_TAGS = 100
"""Names that take no longer to read than a manifest, so that nobody takes turns for them."""
FEW_REFERENCES = 127
"""References of a manifest that are looked up within the writer's turn alone: images have no more layers."""
NO_REPOSITORY = 0
"""An id that no repository has."""


class NativeRepository:
    """A repository of a project; implements WritableRepository. Raises only RegistryError.

    It comes into being with the first push. What a request may do is decided before it is opened.
    """

    def __init__(
        self,
        parts: NativeParts,
        project: Project,
        name: RepositoryName,
        readable: Readable | None = None,
        who: Requester = NOBODY,
        actor: str = "",
        found: StoredRepository | None = None,
        guard: TagGuard | None = None,
    ) -> None:
        """`readable`: which other repositories whoever pushes may read; None if no other one may be named to them.
        `who`: takes turns with others. `actor`: whom the history of tags names. `found`: the row of the repository, if
        the request has found it already. `guard`: None where nobody has decided what whoever uses it may do to tags:
        then what the project's rules protect at all is refused."""
        self._parts = parts
        self._project = project
        self._name = name
        self._readable = readable
        self._who = who
        self._actor = actor
        self._found = found
        self._guard = guard

    # Reading

    async def manifest(self, reference: Tag | Digest) -> FoundManifest:
        with database_errors():
            repository = await self._find()
            found = await self._parts.memory.manifest(repository, reference) if repository else None
        if found is None:
            raise self._no_manifest(reference)
        return FoundManifest(found, UNCACHED)

    async def stat_manifest(self, reference: Tag | Digest) -> FoundTarget:
        with database_errors():
            repository = await self._find()
            found = await self._parts.memory.target(repository, reference) if repository else None
        if found is None:
            raise self._no_manifest(reference)
        return FoundTarget(found, UNCACHED)

    async def blob(self, digest: Digest) -> FoundBlob:
        blob = await self._parts.files.open(digest, await self._size_of(digest))
        return FoundBlob(blob, UNCACHED)

    async def stat_blob(self, digest: Digest) -> FoundSize:
        size = await self._size_of(digest)
        await self._parts.files.check(digest, size)
        return FoundSize(size, UNCACHED)

    async def confirm_manifest(self, digest: Digest) -> FoundTarget:
        found = await self._confirmed(digest, manifests.stat, reviews.is_manifest_reviewed, reviews.postpone_manifest)
        if found is None:
            raise self._no_manifest(digest)
        return FoundTarget(found, UNCACHED)

    async def confirm_blob(self, digest: Digest) -> FoundSize:
        size = await self._confirmed(digest, blobs.size, reviews.is_blob_reviewed, reviews.postpone_blob)
        if size is None:
            raise self._no_blob(digest)
        await self._parts.files.check(digest, size)
        return FoundSize(size, UNCACHED)

    async def _confirmed(
        self,
        digest: Digest,
        find: Callable[[Connection, int, Digest], Coroutine[Any, Any, T | None]],
        is_reviewed: Callable[[Connection, int, Digest], Coroutine[Any, Any, bool]],
        postpone: Callable[[Connection, int, Digest, datetime], Coroutine[Any, Any, None]],
    ) -> T | None:
        """Read from the database what is there; where a review of it is pending, read it again in the transaction that
        postpones the review."""

        async def read(connection: Connection) -> tuple[T | None, bool]:
            repository = await repositories.find(connection, self._name)
            if repository is None:
                return None, False
            found = await find(connection, repository.id, digest)
            return found, found is not None and await is_reviewed(connection, repository.id, digest)

        async def read_and_postpone(connection: Connection) -> T | None:
            repository = await repositories.find(connection, self._name)
            if repository is None:
                return None
            await postpone(connection, repository.id, digest, self._parts.clock())
            return await find(connection, repository.id, digest)

        with self._writing():
            found, is_pending = await self._parts.database.query(read)
            return await self._parts.database.transact(read_and_postpone, durable=False) if is_pending else found

    async def tags(self, count: int | None, start: PageStart = BEGINNING) -> FoundTags:
        with database_errors():
            repository = await self._find()
            if repository is None:
                raise self._no_repository()
            if count == 0:
                return FoundTags(TagPage([]), UNCACHED)  # no Link then (distribution-spec, "Listing Tags")
            limit = TAGS_LIMIT if count is None else count
            listed = tag_rows.list_page if repository.pinned_at is None else tag_rows.list_pinned
            page = partial(listed, repository_id=repository.id, after=start.after, limit=limit + 1)
            async with self._parts.listing(self._who) if limit > FEW_TAGS else nullcontext():
                names = await self._parts.database.query(page)
        following = PageStart(after=names[limit - 1]) if len(names) > limit else None
        return FoundTags(TagPage(names[:limit], following), UNCACHED)

    async def referrers(self, digest: Digest, artifact_type: str | None, after: int = 0) -> FoundReferrers:
        with database_errors():
            repository = await self._find()
            if repository is None:
                return FoundReferrers(ReferrersPage([], filtered=True), UNCACHED)
            async with self._parts.database.read() as connection:
                found = await manifests.list_referrers(
                    connection, repository.id, digest, artifact_type, after=after, limit=PAGE_COUNT + 1
                )
            page = cut_page(found)
            entries = await self._parts.memory.referrers(repository.id, page, self._who)
        following = page[-1].id if len(found) > len(page) else None
        return FoundReferrers(ReferrersPage(list(entries), filtered=True, next=following), UNCACHED)

    # Writing

    async def begin_upload(self, owner: str) -> UploadSession:
        with self._writing():
            repository = await self._find_unpinned() or await self._create()
            return await self._parts.uploads.begin(repository.id, owner)

    async def find_upload(self, id: str, owner: str) -> UploadSession:
        with database_errors():
            repository = await self._find()
            if repository is None:
                raise UploadUnknown(f"there is no repository {self._name}: begin a new upload")
            return await self._parts.uploads.find(id, repository.id, owner)

    async def mount(self, digest: Digest, source: LocalBlob | None) -> bool:
        intake, folder = self._parts.uploads.intake, self._parts.uploads.folder
        with self._writing():
            size = await self._parts.database.query(partial(blobs.stored_size, digest=digest))
            if size is None and source is None:
                return False
            repository = await self._find_unpinned() or await self._create()
            is_whole = size is not None and await self._parts.sources.is_whole(digest, size)
            if is_whole and await intake.link_stored(repository.id, digest):
                return True
            return source is not None and await intake.link_open(repository.id, source, folder)

    async def put_manifest(
        self, manifest: Manifest, tags: tuple[Tag, ...], guard: TagGuard | None = None
    ) -> Mapping[Tag, Digest]:
        guard = guard or self._guard or await self._strictest()
        for tag in tags:
            guard.check_push(tag)
        pushed = await read_pushed(manifest)
        if len(manifest.references()) > FEW_REFERENCES:
            await self._require_references(manifest)
        return await self._put_manifest(manifest, pushed, tags, guard)

    async def _strictest(self) -> TagGuard:
        """The guard of somebody without a level, by the rules as the database has them."""
        with database_errors():
            found = await self._parts.database.query(partial(protections.of_project, project_id=self._project.id))
        return TagGuard(found)

    async def _require_references(self, manifest: Manifest) -> None:
        """Check that the repository has what a manifest refers to, without a writer's turn, for which others wait.

        Raises ManifestBlobUnknown. What is deleted after this, the transaction that writes notices.
        """
        with database_errors():
            repository = await self._find()
            try:
                async with self._parts.database.read() as connection:
                    await find_references(connection, repository.id if repository else NO_REPOSITORY, manifest)
            except ReferencesMissing as error:
                raise await self._explained(error) from error

    async def _put_manifest(
        self, manifest: Manifest, pushed: NewManifest, tags: tuple[Tag, ...], guard: TagGuard
    ) -> Mapping[Tag, Digest]:
        now = self._parts.clock()

        async def put(connection: Connection) -> Mapping[Tag, Digest]:
            former: dict[Tag, Digest] = {}
            repository = await self._find_or_create(connection)
            found = await find_references(connection, repository.id, manifest)
            number = await manifests.put(connection, repository.id, replace(pushed, references=found), now)
            for tag in dict.fromkeys(tags):
                if before := await tag_rows.point(connection, repository.id, tag, number, now, self._actor):
                    guard.check_move(tag, before, manifest.descriptor.digest)
                    former[tag] = before
            await webhook_events.note_push(connection, number, dict.fromkeys(tags), now, self._actor)
            return former

        with self._writing():
            try:
                return await self._parts.database.transact(put)
            except ReferencesMissing as error:
                raise await self._explained(error) from error

    async def _explained(self, error: ReferencesMissing) -> ManifestBlobUnknown:
        return await explain_missing(error.missing, self._name, self._parts.database, self._readable)

    async def delete_manifest(self, digest: Digest) -> datetime:
        now, guard = self._parts.clock(), self._guard or await self._strictest()
        with self._writing():
            if (repository := await self._find()) is None:
                raise self._no_manifest(digest)
            async with self._parts.database.write() as connection:
                await pins.require_unpinned(connection, repository.id)
                index = await manifests.find_needing(connection, repository.id, Reference(digest, True))
                if index is not None:
                    raise Denied(f"the index {index} of {self._name} lists {digest}: delete that first")
                if guard.has_rules:
                    for tag in await tag_rows.list_of_manifest(connection, repository.id, digest):
                        guard.check_delete(tag)
                await webhook_events.note_manifest_deletion(connection, repository.id, digest, now, self._actor)
                await deleted_manifests.keep(connection, repository.id, digest, now)
                if not await manifests.delete(connection, repository.id, digest, now, self._actor):
                    raise self._no_manifest(digest)
        return now + self._parts.kept

    async def delete_tag(self, tag: Tag) -> DeletedTag:
        now, guard = self._parts.clock(), self._guard or await self._strictest()
        with self._writing():
            if (repository := await self._find()) is None:
                raise self._no_manifest(tag)
            async with self._parts.database.write() as connection:
                await pins.require_unpinned(connection, repository.id)
                found = await manifests.stat(connection, repository.id, tag)
                if found is None:
                    raise self._no_manifest(tag)
                guard.check_delete(tag)
                await tag_rows.delete(connection, repository.id, tag, now, self._actor)
            return DeletedTag(found.digest, now + self._parts.kept)

    async def delete_blob(self, digest: Digest) -> None:
        with self._writing():
            if (repository := await self._find()) is None:
                raise self._no_blob(digest)
            async with self._parts.database.write() as connection:
                await pins.require_unpinned(connection, repository.id)
                manifest = await manifests.find_needing(connection, repository.id, Reference(digest, False))
                if manifest is not None:
                    raise Denied(f"the manifest {manifest} of {self._name} needs {digest}: delete that first")
                now = self._parts.clock()
                if not await blobs.unlink(connection, repository.id, digest, now):
                    raise self._no_blob(digest)
                await webhook_events.note_blob_deletion(connection, repository.id, digest, now, self._actor)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Translate failures of the database within the block.

        Raises StorageFull, StoreUnavailable, and NameUnknown where the repository was deleted meanwhile.
        """
        with database_errors(), full_disk_named(self._parts.uploads.folder), repositories.adding_to_repository():
            yield

    async def _find(self) -> StoredRepository | None:
        """The row of the repository, after a look for changes."""
        if self._found is not None:
            return self._found
        memory = self._parts.memory
        await memory.require_newest()
        return await memory.repository(self._name)

    async def _find_unpinned(self) -> StoredRepository | None:
        """The row of the repository, which is about to be changed. Raises Denied where a pin keeps it as it is."""
        repository = await self._find()
        if repository is not None and repository.pinned_at is not None:
            await self._parts.database.query(partial(pins.require_unpinned, repository_id=repository.id))
        return repository

    async def _create(self) -> StoredRepository:
        return await self._parts.database.transact(self._find_or_create)

    async def _find_or_create(self, connection: Connection) -> StoredRepository:
        """Find or create the repository in a transaction that writes.

        Raises NameUnknown where its project has been deleted or moved meanwhile, Denied where the name is an old
        one, or a pin keeps the project as it is.
        """
        found = await repositories.find(connection, self._name)
        if found is not None:
            if found.pinned_at is not None:
                await pins.require_unpinned(connection, found.id)
            return found
        project = await projects.find_by_id(connection, self._project.id)
        if project is None:
            raise NameUnknown(f"project {self._project.path!r} was deleted: create it again")
        if project.path != self._project.path:
            raise NameUnknown(f"project {self._project.path!r} has just moved to {project.path!r}: push there")
        if project.pinned_at is not None:
            await pins.refuse(connection, project.path, project.pinned_at)
        try:
            return await repositories.find_or_create(connection, project.id, self._name, self._parts.clock())
        except PathReserved as error:
            raise Denied(
                f"{self._name} is the old name of a repository that has moved, and stays reserved for it: "
                "push to the new one, or choose another name"
            ) from error

    async def _size_of(self, digest: Digest) -> int:
        with database_errors():
            repository = await self._find()
            size = await self._parts.memory.size(repository.id, digest) if repository else None
        if size is None:
            raise self._no_blob(digest)
        return size

    def _no_manifest(self, reference: Tag | Digest) -> ManifestUnknown:
        kind = "manifest" if isinstance(reference, Digest) else "tag"
        return ManifestUnknown(f"{self._name} has no {kind} {reference}")

    def _no_blob(self, digest: Digest) -> BlobUnknown:
        return BlobUnknown(f"{self._name} has no blob {digest}")

    def _no_repository(self) -> NameUnknown:
        return NameUnknown(f"project {self._project.path!r} holds no repository {self._name.text!r}")
