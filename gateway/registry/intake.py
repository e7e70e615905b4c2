"""BlobIntake: makes verified bytes a blob of a repository, in one order that a crash at any point leaves whole.

Under the lease of the digest, which whoever deletes a blob's file takes too:

1. The file is made durable, and gets its name in the store as a second name. A crash leaves a file without a row, which
   is no blob, and what it came from is as it was: the same commit may be tried again.
2. One transaction links the blob, and ends the upload. A crash from here on leaves a blob, and at most the first name
   of its file, which the sweep deletes.

Where the blob is stored already, the first step is left out, and the other file of the same bytes is not needed.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import structlog

from cache.lease.base import Lease, Leases, held
from cache.oci.digest import Digest
from cache.oci.errors import StoreUnavailable, UploadUnknown
from cache.runtime.exhaustion import is_exhausted
from cache.runtime.failpoints import failpoint
from cache.sqlite import DatabaseUnusable
from cache.store.base import BlobStore, LocalBlob, is_stored
from cache.store.hashing import whole_digest
from cache.store.spool import MakeRoom, no_room, with_room
from cache.values import Damage
from gateway.db import blobs, quotas, reviews, uploads
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.namespaces.quota import check_room
from gateway.registry.base import SourceDamaged
from gateway.registry.digest_turns import DigestTurns
from gateway.registry.storage_errors import storage_error
from gateway.registry.threads import UploadThreads, completed

log = structlog.get_logger()

TURN_SECONDS = 60.0
"""How long a blob waits for another commit of the same digest, which may be waiting for the disk."""
LOOK_SECONDS = (0.005, 0.1)
"""The first and the longest interval at which the lease of a digest is tried: no event of another process says that it
is free."""


@dataclass(frozen=True, slots=True)
class NativeBlobs:
    """Native blobs at rest: their rows, the store of their files, and the leases of their digests.

    `make_room` frees disk space; see MakeRoom. `damaged` is called with each damage that a mount finds.
    """

    database: Database
    store: BlobStore
    leases: Leases
    threads: UploadThreads
    clock: Callable[[], datetime]
    make_room: MakeRoom = no_room
    damaged: Callable[[Damage], None] = lambda _: None


def lease_of(name: str) -> str:
    """Name of the lease of an upload, or of another file among them."""
    return f"upload {name}"


def blob_lease(digest: Digest) -> str:
    """Name of the lease under which the file of a blob is given its name, and loses it."""
    return f"blob {digest}"


def take_lease(leases: Leases, name: str) -> Lease | None:
    """Take a lease; None while another holds it. Raises StoreUnavailable where no lease can be taken at all."""
    try:
        return leases.take(name)
    except OSError as error:
        raise storage_error(error) from error


class BlobIntake:
    """Adds blobs to repositories."""

    def __init__(self, native: NativeBlobs) -> None:
        self._native = native
        self._turns = DigestTurns()

    async def link_stored(self, repository_id: int, digest: Digest) -> bool:
        """Link a blob that is stored for some repository already; whether it is.

        Where the repository has it already, nobody is waited for, and a review that is pending begins anew. Raises
        StoreUnavailable where others keep the digest's lease, DatabaseUnusable.
        """
        size, is_reviewed = await self._native.database.query(
            partial(_linked_size, repository_id=repository_id, digest=digest)
        )
        if is_reviewed:
            confirm = partial(blobs.confirm, repository_id=repository_id, digest=digest, now=self._native.clock())
            size = await self._native.database.transact(confirm, durable=False)
        if is_stored(self._native.store, digest, size):
            return True
        return await completed(self._link_stored(repository_id, digest))

    async def _link_stored(self, repository_id: int, digest: Digest) -> bool:
        async def link(connection: Connection) -> bool:
            size = await blobs.stored_size(connection, digest)
            if size is None or not is_stored(self._native.store, digest, size):
                return False
            await blobs.link(connection, repository_id, digest, size, self._native.clock())
            return True

        async with self._exclusive(digest):
            return await self._native.database.transact(link)

    async def link_open(self, repository_id: int, blob: LocalBlob, folder: Path) -> bool:
        """Link a complete blob of another store on the same file system, by a second name of its file; whether that
        was possible. It is hashed first: what happened to the file since it was stored is not known.

        `folder`: that of the uploads, where the file gets a name first. Raises SourceDamaged, Denied where a quota has
        no room for it, StorageFull, StoreUnavailable, DatabaseUnusable.
        """
        size = blob.size
        if size is None:
            return False
        await blob.verified()
        await self._native.database.query(
            partial(self._require_room, repository_id=repository_id, digest=blob.digest, size=size)
        )
        try:
            found = await self._native.threads.sources.digest(blob.fileno(), blob.digest.algorithm)
        except OSError as error:
            if is_exhausted(error):
                raise storage_error(error) from error
            log.error("mount_source_unreadable", digest=str(blob.digest), reason=error.strerror)
            raise SourceDamaged(Damage.UNREADABLE) from error
        if found is None:
            return False
        if found != blob.digest:
            log.error("mount_source_damaged", digest=str(blob.digest), found=str(found))
            raise SourceDamaged(Damage.DIGEST)
        name = folder / f"mount-{secrets.token_hex(16)}"
        lease = take_lease(self._native.leases, lease_of(name.name))
        if lease is None:
            return False
        with held(lease):
            try:
                await self._native.threads.run(_link_descriptor, blob.fileno(), name)
            except OSError as error:  # deleted meanwhile, or on another file system
                log.info("mount_not_linked", digest=str(blob.digest), reason=str(error))
                return False
            try:
                await self.link_file(repository_id, blob.digest, size, name)
            except OSError as error:
                raise storage_error(error) from error
            with suppress(OSError):
                name.unlink()
        return True

    async def _require_room(self, connection: Connection, repository_id: int, digest: Digest, size: int) -> None:
        """Check that a blob fits into the quotas that apply to a repository, unless it is stored. Raises Denied."""
        if await blobs.stored_size(connection, digest) is None:
            check_room(await quotas.levels_of(connection, repository_id, self._native.clock()), size)

    async def link_file(
        self, repository_id: int, digest: Digest, size: int, path: Path, upload: str | None = None
    ) -> None:
        """Link a blob whose verified bytes are the file at `path`, which keeps its name; durable when this returns.

        `upload`: id of the upload that ends with it. Raises UploadUnknown where it has ended meanwhile,
        StoreUnavailable where others keep the digest's lease, DatabaseUnusable, OSError.
        """
        await completed(self._link_file(repository_id, digest, size, path, upload))

    async def _link_file(self, repository_id: int, digest: Digest, size: int, path: Path, upload: str | None) -> None:
        native = self._native

        async def link(connection: Connection) -> None:
            if upload is not None and not await uploads.delete(connection, upload):
                raise UploadUnknown(f"the upload {upload} has ended meanwhile")
            await blobs.link(connection, repository_id, digest, size, native.clock())

        leads_nowhere = True
        try:
            async with self._exclusive(digest):
                try:
                    # Also where the store has the file: that may have been damaged since, this one was just verified.
                    await native.threads.run(self._give_name, path, digest)
                    await native.database.transact(link)
                except BaseException:
                    leads_nowhere = await self._withdraw(digest)
                    raise
                failpoint("upload.linked")
        except BaseException:
            # An upload may go on. A mounted file is only kept where it alone leads the sweep to what is in the store:
            # no limit counts it, and it keeps the bytes of a blob that the cache has given up.
            if upload is None and leads_nowhere:
                with suppress(OSError):
                    await native.threads.run(path.unlink)
            raise

    def _give_name(self, path: Path, digest: Digest) -> None:
        """Make a file durable, and give it its name in the store as a second one. Raises OSError."""
        failpoint("upload.verified")
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        failpoint("upload.synced")
        second = path.with_name(f"{path.name}.commit")
        try:
            with_room(lambda: _link_anew(path, second), self._native.make_room)
            failpoint("upload.named")
            with_room(lambda: self._native.store.adopt(second, digest), self._native.make_room)
        finally:
            # A rename between two names of one file leaves both: one is left of a commit that was killed.
            second.unlink(missing_ok=True)
        failpoint("upload.adopted")

    async def delete_unrecorded(self, path: Path) -> bool:
        """Delete the blob's file that is another name of an upload's file, if it has no row: the commit was killed that
        gave it the name. Returns False where something fails: the file stays, which is no blob, and `path` alone leads
        to it."""
        try:
            for algorithm in ("sha256", "sha512"):
                digest = await self._native.threads.run(_digest_at, path, algorithm)
                if self._native.store.stat(digest) is not None:
                    async with self._exclusive(digest):
                        await self._delete_without_row(digest)
        except (StoreUnavailable, DatabaseUnusable, OSError) as error:
            log.warning("unrecorded_blob_not_deleted", reason=str(error))
            return False
        return True

    async def _withdraw(self, digest: Digest) -> bool:
        """Delete the file of a digest that has no row; False where it is not known whether it has one: the file stays,
        as it does where it cannot be deleted. Raises nothing."""
        try:
            await self._delete_without_row(digest)
        except (DatabaseUnusable, OSError):
            return False
        return True

    async def _delete_without_row(self, digest: Digest) -> None:
        """Delete the file of a digest unless it has a row. Raises DatabaseUnusable, OSError."""
        async with self._native.database.read() as connection:
            recorded = await blobs.stored_size(connection, digest)
        if recorded is None:
            await self._native.threads.run(self._native.store.delete, digest)

    @asynccontextmanager
    async def _exclusive(self, digest: Digest) -> AsyncIterator[None]:
        """Hold the lease of a digest within the block. Raises StoreUnavailable."""
        async with AsyncExitStack() as having:
            try:
                async with asyncio.timeout(TURN_SECONDS):
                    await having.enter_async_context(self._turns.turn(digest))
                    having.enter_context(held(await self._lease_of(digest)))
            except TimeoutError as error:
                raise StoreUnavailable(
                    f"other clients have been storing {digest} for {TURN_SECONDS:.0f} s: try again"
                ) from error
            yield

    async def _lease_of(self, digest: Digest) -> Lease:
        """Take the lease of a digest once it is free. Raises StoreUnavailable where no lease can be taken at all."""
        interval, longest = LOOK_SECONDS
        while (lease := take_lease(self._native.leases, blob_lease(digest))) is None:
            await asyncio.sleep(interval)
            interval = min(longest, interval * 2)
        return lease


async def _linked_size(connection: Connection, repository_id: int, digest: Digest) -> tuple[int | None, bool]:
    """The size of a blob of a repository, None where it has none; and whether a review of it is pending."""
    is_reviewed = await reviews.is_blob_reviewed(connection, repository_id, digest)
    return await blobs.size(connection, repository_id, digest), is_reviewed


def _digest_at(path: Path, algorithm: str) -> Digest:
    """Hash a file. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return whole_digest(descriptor, algorithm)
    finally:
        os.close(descriptor)


def _link_anew(path: Path, second: Path) -> None:
    """Give a file a second name, also where a killed process has left that. Raises OSError."""
    try:
        os.link(path, second)
    except FileExistsError:
        second.unlink(missing_ok=True)
        os.link(path, second)


def _link_descriptor(descriptor: int, name: Path) -> None:
    """Give an open file a second name. Raises OSError where it has none left, or `name` is on another file system."""
    # Without a `src_dir_fd`, which an absolute path makes no use of, Python calls link(2), which follows no link.
    os.link(f"/proc/self/fd/{descriptor}", name, src_dir_fd=descriptor, follow_symlinks=True)
