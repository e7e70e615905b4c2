"""Uploads: how the bytes of a blob arrive, in as many requests as the client likes, on whichever worker they reach.

An upload is a row of gateway.db, which says whose it is, and a file, whose size is what has arrived. Whoever appends or
commits holds its lease, which the kernel releases when a process ends.

                append                          commit              cancel, sweep
lease taken     open the file, hash what another process left unhashed
bytes arrive    written and hashed              -                   -
end             row: received, hash; not        blob linked and     file deleted
                where there are few bytes       row deleted
after that      -                               file deleted        row deleted

A file without a row, and a row without a file, are harmless at every point: the sweep deletes the one, and the other is
an upload of which nothing has arrived. Where the file is there, an append does not read the row.
"""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import structlog

from cache.lease.base import held
from cache.oci.digest import Digest
from cache.oci.errors import (
    Denied,
    DigestInvalid,
    RangeInvalid,
    RegistryError,
    SizeInvalid,
    StorageFull,
    TooLarge,
    TooManyRequests,
    UploadUnknown,
)
from cache.runtime.failpoints import failpoint
from cache.runtime.files import ensure
from cache.sqlite import DatabaseUnusable
from cache.store.sidecar import boot_id
from gateway.db import quotas, uploads
from gateway.db.connection import Connection
from gateway.db.uploads import StoredUpload
from gateway.directory.memory import Memory
from gateway.namespaces.quota import check_room
from gateway.registry.base import Body
from gateway.registry.intake import BlobIntake, NativeBlobs, lease_of, take_lease
from gateway.registry.storage_errors import full_disk_named, storage_error
from gateway.registry.threads import completed
from gateway.registry.upload_file import UploadFile
from gateway.registry.upload_room import UploadRoom
from gateway.registry.upload_writer import UploadWriter

log = structlog.get_logger()

KEPT_ROWS = 10_000
"""Uploads whose rows a process keeps in memory: it has begun them, or gone on with them."""
RECORDED = 1024 * 1024
"""Bytes from which on a row states what has arrived of an upload without a quota: another process hashes fewer in less
time than a transaction takes."""
UNRECORDED_FOR = timedelta(hours=1)
"""How much older than its last request the row of such an upload may be, by which the sweep knows that it rests."""
CLOCK_AHEAD = timedelta(hours=1)
"""Time by which a row may be dated later than now: clocks of two hosts differ."""
SWEPT_AT_ONCE = 100
"""Uploads that are looked at in one transaction of the sweep."""


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """`blob_bytes`: the largest blob, 0 for any. `open_per_owner`: unfinished uploads that one owner may have.
    `abandoned_after`: how long an upload may rest."""

    blob_bytes: int = 100 * 1024**3
    open_per_owner: int = 1000
    abandoned_after: timedelta = timedelta(days=7)


DEFAULT_LIMITS = UploadLimits()


def received_range(received: int) -> str:
    """Value of the header Range for an upload; the specification has no word for nothing, and clients know `0-0`."""
    return f"0-{max(0, received - 1)}"


class Uploads:
    """The unfinished uploads of one data folder, as one process uses them.

    `folder`: where files grow, on the file system of the store; it exists. `boot`: this run of the machine.
    """

    def __init__(
        self, native: NativeBlobs, folder: Path, limits: UploadLimits = DEFAULT_LIMITS, boot: str | None = None
    ) -> None:
        self.native = native
        self.folder = folder
        self.limits = limits
        self.boot = boot or boot_id()
        self.intake = BlobIntake(native)
        self._rows: Memory[str, StoredUpload] = Memory(KEPT_ROWS)
        """Rows as this process left them; another one may have changed or deleted them since."""

    async def begin(self, repository_id: int, owner: str) -> "NativeUpload":
        """Begin an upload. `owner`: names the principal who alone goes on with it.

        Raises TooManyRequests, StorageFull, Denied where a quota is used up, DatabaseUnusable.
        """
        with full_disk_named(self.folder):
            upload = await self._insert(repository_id, owner)
        self.remember(upload)
        # A file that is missing later is that of an upload which has ended, unless its row says otherwise.
        with suppress(OSError):
            ensure(self.path(upload.id))
        return NativeUpload(self, upload, 0)

    async def _insert(self, repository_id: int, owner: str) -> StoredUpload:
        now = self.native.clock()

        async def insert(connection: Connection) -> StoredUpload:
            count, most = await uploads.count_of(connection, owner), self.limits.open_per_owner
            if count >= most:
                raise TooManyRequests(
                    f"{count} uploads of yours are unfinished, and {most} may be: finish or cancel some", 60
                )
            levels = await quotas.levels_of(connection, repository_id, now)
            check_room(levels, 1 if levels else 0)
            reserved = 0 if levels else None
            return await uploads.insert(connection, str(uuid.uuid4()), repository_id, owner, now, reserved)

        return await self.native.database.transact(insert, durable=False)

    async def find(self, id: str, repository_id: int, owner: str) -> "NativeUpload":
        """Find an unfinished upload. Raises UploadUnknown.

        One that another process has ended may still be found: whatever is done to it then fails.
        """
        arrived, known = self.arrived(id), self._rows.find(id)
        if known is not None and (known.repository_id, known.owner, known.received) == (repository_id, owner, arrived):
            return NativeUpload(self, known, arrived)
        upload = await self.read(id, repository_id, owner)
        return NativeUpload(self, upload, self.arrived(id))

    async def read(self, id: str, repository_id: int, owner: str) -> StoredUpload:
        """Read the row of an upload as it is now. Raises UploadUnknown, DatabaseUnusable."""
        upload = await self.native.database.query(
            partial(uploads.find, id=id, repository_id=repository_id, owner=owner)
        )
        if upload is None:
            self.forget(id)
            raise UploadUnknown(f"there is no upload {id[:64]!r} of yours in this repository: begin a new one")
        self.remember(upload)
        return upload

    def remember(self, upload: StoredUpload) -> None:
        """Note the row of an upload, which the next request for it then need not read."""
        self._rows.keep(upload.id, upload, self._rows.version)

    def forget(self, id: str) -> None:
        """Forget an upload that has ended."""
        self._rows.drop(id)

    def path(self, id: str) -> Path:
        """File of an upload, whose id stands in a row."""
        return self.folder / id

    def arrived(self, id: str) -> int:
        """Bytes that have arrived of an upload."""
        try:
            return self.path(id).stat().st_size
        except FileNotFoundError:
            return 0

    async def discard(self, id: str) -> bool:
        """End an upload: its file first, whose room may be needed for all else; whether it was there.

        Raises DatabaseUnusable, OSError.
        """
        self.forget(id)
        await self._delete(self.path(id))
        return await self.native.database.transact(partial(uploads.delete, id=id))

    async def sweep(self, now: datetime) -> int:
        """Delete uploads that nobody goes on with, and files whose upload has ended; return how many. Leaves alone what
        is in use. Raises DatabaseUnusable, OSError."""
        await self._date_back(now)
        swept = await self._sweep_files() + await self._sweep_abandoned(now - self.limits.abandoned_after)
        if swept:
            log.info("uploads_swept", count=swept)
        return swept

    async def _date_back(self, now: datetime) -> None:
        """Correct what a clock has written that was ahead: such uploads would keep their room in quotas, and never be
        abandoned, until that time comes."""
        latest = now + CLOCK_AHEAD
        async with self.native.database.read() as connection:
            is_wrong = await uploads.is_any_later(connection, latest)
        if is_wrong:
            async with self.native.database.write() as connection:
                await uploads.date_back(connection, latest, now)

    async def _sweep_files(self) -> int:
        names, swept = [path.name for path in self.folder.iterdir()], 0
        for start in range(0, len(names), SWEPT_AT_ONCE):
            batch = names[start : start + SWEPT_AT_ONCE]
            # The row of a file is older than the file, so an upload without a row has ended.
            async with self.native.database.read() as connection:
                known = await uploads.existing(connection, [upload_of(name) for name in batch])
            for name in batch:
                swept += upload_of(name) not in known and await self._sweep_file(name)
        return swept

    async def _sweep_abandoned(self, before: datetime) -> int:
        swept = 0
        while True:
            async with self.native.database.read() as connection:
                abandoned = await uploads.list_abandoned(connection, before, SWEPT_AT_ONCE)
            ended = 0
            for id in abandoned:
                lease = take_lease(self.native.leases, lease_of(id))
                if lease is not None:
                    with held(lease):
                        if await self._is_abandoned(id, before):  # nobody went on with it in the meantime
                            await self.discard(id)
                            ended += 1
            swept += ended
            if not ended:
                return swept

    async def _is_abandoned(self, id: str, before: datetime) -> bool:
        async with self.native.database.read() as connection:
            return await uploads.is_abandoned(connection, id, before)

    async def _sweep_file(self, name: str) -> bool:
        lease = take_lease(self.native.leases, lease_of(upload_of(name)))
        if lease is None:
            return False
        with held(lease):
            return await self._delete(self.folder / name)

    async def _delete(self, path: Path) -> bool:
        """Delete the file of an upload that has ended, and what a killed commit of it has left in the store.

        Returns False where it is not known what has been left: the file stays, and the sweep comes back to it.
        """
        if _has_another_name(path) and not await self.intake.delete_unrecorded(path):
            return False
        await self.delete_file(path)
        return True

    async def delete_file(self, path: Path) -> None:
        """Delete a file, which may be missing, in a thread: the kernel takes a second for each GiB. Raises OSError."""
        await self.native.threads.run(path.unlink, missing_ok=True)


def _has_another_name(path: Path) -> bool:
    try:
        return os.stat(path).st_nlink > 1
    except FileNotFoundError:
        return False


def upload_of(name: str) -> str:
    """Id of the upload that a file in the folder belongs to."""
    return name.partition(".")[0]


class NativeUpload:
    """UploadSession of the native store."""

    def __init__(self, store: Uploads, upload: StoredUpload, received: int) -> None:
        """`upload`: its row, which may be older than what other requests have done since."""
        self.id = upload.id
        self.received = received
        self._upload = upload
        self._uploads = store
        self._native = store.native

    async def append(self, body: Body, start: int | None = None, length: int | None = None) -> int:
        async with self._open() as (file, room):
            if start is not None and start != file.size:
                raise self._range_invalid(file.size, f"the next byte is that at {file.size}, not at {start}")
            room.require_size(file.size + (length or 0))
            writer = UploadWriter(file, self._native.threads)
            before = file.size
            try:
                await self._copy(body, writer, room, before, length)
                await writer.finish()
            except asyncio.CancelledError as error:
                with suppress(RegistryError):
                    await completed(self._settle(file, writer, before, error))
                raise
            except Exception as error:
                await completed(self._settle(file, writer, before, error))
                raise
            await completed(self._keep(file))
        return self.received

    async def commit(self, digest: Digest) -> None:
        async with self._open() as (file, _):
            found = file.hashed(digest.algorithm) or await self._native.threads.run(file.digest, digest.algorithm)
            if found != digest:
                await completed(self._uploads.discard(self.id))
                raise DigestInvalid(f"the {file.size} bytes that arrived have the digest {found}, not {digest}")
            try:
                with full_disk_named(self._uploads.folder):
                    await self._uploads.intake.link_file(
                        self._upload.repository_id, digest, file.size, file.path, self.id
                    )
            except (StorageFull, Denied, UploadUnknown):
                await completed(self._give_up())
                raise
            except OSError as error:
                if isinstance(error, FileNotFoundError) and not file.path.exists():  # cancelled meanwhile
                    self._uploads.forget(self.id)
                    raise UploadUnknown(f"the upload {self.id} has ended meanwhile") from error
                await completed(self._fail(error))
            self._uploads.forget(self.id)
            with suppress(OSError):
                file.path.unlink(missing_ok=True)  # not its last name; what is left, the sweep deletes
            self.received = file.size

    async def cancel(self) -> None:
        """End the upload and forget what has arrived. A request that still appends to it fails at its end."""
        if not await completed(self._uploads.discard(self.id)):
            raise UploadUnknown(f"the upload {self.id} has ended already")

    async def require_unfinished(self) -> None:
        upload = self._upload
        self._upload = await self._uploads.read(self.id, upload.repository_id, upload.owner)

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[tuple[UploadFile, UploadRoom]]:
        """Hold the lease of the upload, and open its file; with the room that it has.

        Raises RangeInvalid where another request holds it, UploadUnknown where it has ended, StorageFull.
        """
        lease = take_lease(self._native.leases, lease_of(self.id))
        if lease is None:
            raise self._range_invalid(self._uploads.arrived(self.id), "another request is writing to this upload")
        room = UploadRoom(
            self._native, self.id, self._uploads.limits.blob_bytes, limited=self._upload.reserved is not None
        )
        file = UploadFile(self._uploads.path(self.id), self._uploads.boot, self._native.make_room)
        with held(lease):
            try:
                try:
                    # The row may be old: what it says of the beginning of the file stays true as long as there is one.
                    if not file.open_unread(self._upload.received, self._upload.hash_state):
                        if not file.path.exists():
                            await self.require_unfinished()
                        await self._native.threads.run(file.open, self._upload.received, self._upload.hash_state)
                except OSError as error:
                    await completed(self._fail(error))
                if file.size < self._upload.received:
                    await self._require_row(file)
                self.received = file.size
                yield file, room
            finally:
                if file.frees():
                    await self._native.threads.run(file.close)
                else:
                    file.close()

    async def _require_row(self, file: UploadFile) -> None:
        """Check whether an upload whose bytes are missing goes on. Raises UploadUnknown; deletes its file then."""
        try:
            await self.require_unfinished()
        except UploadUnknown:
            await self._uploads.delete_file(file.path)
            raise

    async def _copy(self, body: Body, writer: UploadWriter, room: UploadRoom, before: int, length: int | None) -> None:
        """Write a body behind the bytes that arrived before.

        Raises SizeInvalid, TooLarge, Denied, DatabaseUnusable, OSError, and what the body raises.
        """
        count = 0
        async for piece in body:
            if length is not None and count + len(piece) > length:
                raise SizeInvalid(f"more than the {length} bytes arrived that were stated")
            await room.reserve(before + count, len(piece), None if length is None else length - count)
            await writer.write(piece)
            count += len(piece)
        if length is not None and count != length:
            raise SizeInvalid(f"{count} bytes arrived where {length} were stated")

    async def _settle(self, file: UploadFile, writer: UploadWriter, before: int, error: BaseException) -> None:
        """Bring the upload to a state from which it goes on, after a body that failed.

        A body that was refused counts as never sent; of one that broke off, what has arrived stays.
        """
        await writer.stop()
        if writer.failure is not None:
            await self._fail(writer.failure)
        if isinstance(error, TooLarge | Denied):
            await self._give_up()
        elif isinstance(error, SizeInvalid):
            await self._native.threads.run(file.cut, before)
        else:
            with suppress(DatabaseUnusable, UploadUnknown):  # the file alone says what has arrived
                await self._record(file)

    async def _record(self, file: UploadFile) -> None:
        """Record what has arrived. Raises UploadUnknown where the upload has ended meanwhile, DatabaseUnusable."""
        failpoint("upload.received")
        self.received, state = file.size, file.save()
        now, changed = self._native.clock(), replace(self._upload, received=file.size, hash_state=state)
        if self._upload.reserved is None and file.size < RECORDED and now - changed.updated_at < UNRECORDED_FOR:
            exists = file.is_named()
        else:
            # Between its requests an upload keeps no room beyond what has arrived: most never go on.
            reserved = None if self._upload.reserved is None else file.size
            advance = partial(
                uploads.advance, id=self.id, received=file.size, hash_state=state, now=now, reserved=reserved
            )
            exists = await self._native.database.transact(advance, durable=False)
            changed = replace(changed, updated_at=now)
        self._upload = changed
        if not exists:
            self._uploads.forget(self.id)
            await self._uploads.delete_file(file.path)
            raise UploadUnknown(f"the upload {self.id} has ended meanwhile")
        self._uploads.remember(self._upload)
        failpoint("upload.recorded")

    async def _keep(self, file: UploadFile) -> None:
        """Record what has arrived, or end the upload where there is no room even for that.

        Raises UploadUnknown, StorageFull, DatabaseUnusable.
        """
        try:
            with full_disk_named(self._uploads.folder):
                await self._record(file)
        except StorageFull:
            await self._give_up()
            raise

    async def _fail(self, error: OSError) -> None:
        """End an upload whose file can not be trusted, or has no room. Raises StorageFull, or StoreUnavailable."""
        await self._give_up()
        raise storage_error(error) from error

    async def _give_up(self) -> None:
        """End an upload for the room that it takes. Raises nothing: a row that is left is an upload of which nothing
        has arrived, and the sweep deletes it."""
        try:
            await self._uploads.discard(self.id)
        except (DatabaseUnusable, OSError) as error:
            log.warning("upload_not_discarded", reason=str(error))

    def _range_invalid(self, received: int, detail: str) -> RangeInvalid:
        return RangeInvalid(detail, {"Range": received_range(received), "Docker-Upload-UUID": self.id})
