"""Restore: puts the files of a backup in place of those of a data folder, all of them or none.

1. The files are written to the folder `restore.draft`, checked and upgraded; of the blobs those alone that are not in
   the store already. Until then nothing has changed.
2. The folder is renamed to `restore.pending`: from now on the restore is completed, by this process or by the next one
   that uses the data folder, which first calls `finish_restore`.
3. The blobs join those of the store: a blob that no row names is not served. The old database and keys move to a folder
   `before-restore-TIME`, which is kept, and the new ones take their places. The index of the cache is deleted: content
   in it belongs to ids of groups, which the restored database may give to other groups.
4. `restore.pending` is deleted.

A file of the backup that is still in `restore.pending` has not taken its place, so each step can be repeated. The lock
of the server and that of the writers of the database are held from step 1 on.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from cache import sqlite
from cache.oci.digest import Digest
from cache.runtime import files
from cache.runtime.disk import sync_folder
from cache.runtime.failpoints import failpoint
from cache.runtime.locks import locked
from cache.store.paths import blob_path
from gateway.data_folder import CacheFolder, NativeFolder, server_lock
from gateway.db.engine import DATABASE_FILE, DatabaseUnusable, migrate
from gateway.db.restored import renew
from gateway.keys.sealing import KEYS_DIRECTORY
from gateway.maintenance.archive import BLOBS_DIRECTORY, ArchiveUnusable, BackupManifest, extract

STAGE = "restore.draft"
PENDING = "restore.pending"
ASIDE_PREFIX = "before-restore-"
_ASIDE_NAME = "aside"
"""File of a pending restore with the name of the folder for what was there before."""

_CHUNK = 1024 * 1024

_BESIDE_DATABASE = ("-wal", "-shm", "-journal")
"""Ends of the names of files that belong to an SQLite file."""


class DataFolderBusy(Exception):
    """A server, or another restore, uses the data folder."""


def restore(file: BinaryIO, manifest: BackupManifest, data: Path, now: datetime) -> Path | None:
    """Restore a data folder, which is made if it is missing, from a backup whose manifest has been read.

    Returns the folder with what was there before, None if nothing was. Raises DataFolderBusy, ArchiveUnusable,
    DatabaseUnusable, OSError.
    """
    with _made(data), _exclusively(data):
        if (data / PENDING).is_dir():
            _complete(data)
        stage = data / STAGE
        _delete_folder(stage)
        try:
            aside = f"{ASIDE_PREFIX}{now:%Y%m%dT%H%M%S.%fZ}"
            _stage(file, manifest, stage, aside, NativeFolder(data).blobs)
            failpoint("restore.staged")
            stage.rename(data / PENDING)
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise
        sync_folder(data)
        failpoint("restore.decided")
        return _complete(data)


def finish_restore(data: Path) -> None:
    """Complete a restore that was interrupted, if there is one. Raises DataFolderBusy, DatabaseUnusable, OSError."""
    if not (data / PENDING).is_dir():
        return
    with _exclusively(data):
        if (data / PENDING).is_dir():
            _complete(data)


def drop_draft(data: Path) -> None:
    """Delete what a restore has left that replaced nothing; the caller holds the lock of the server."""
    shutil.rmtree(data / STAGE, ignore_errors=True)


@contextmanager
def _made(data: Path) -> Iterator[None]:
    """Make the data folder if it is missing; deleted again, with its lock files, if the block fails."""
    made = not data.exists()
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if made and not (data / PENDING).is_dir():
            with suppress(OSError):
                for lock in data.glob("*.lock"):
                    lock.unlink()
                data.rmdir()
        raise


@contextmanager
def _exclusively(data: Path) -> Iterator[None]:
    """Hold the locks of the server and of the writers, and that by which no file of a deleted blob goes: a blob that is
    stored already is not written again. Raises DataFolderBusy, DatabaseUnusable, OSError."""
    with ExitStack() as held:
        if not held.enter_context(server_lock(data)):
            raise DataFolderBusy(f"a server uses the data folder {data.absolute()}")
        held.enter_context(locked(NativeFolder(data).lock("backup"), shared=True))
        held.enter_context(sqlite.alone(data / DATABASE_FILE, sqlite.MIGRATION_TURN_SECONDS))
        yield


def _stage(file: BinaryIO, manifest: BackupManifest, stage: Path, aside: str, store: Path) -> None:
    """Write and check everything that the restore needs. Raises ArchiveUnusable, OSError."""
    stage.mkdir(mode=0o700)
    extract(file, manifest, stage, lambda digest, size: _holds(blob_path(store, digest), digest, size))
    if manifest.holds_database:
        database = stage / DATABASE_FILE
        try:
            if sqlite.read_revision(database) != manifest.revision:
                raise ArchiveUnusable(f"{DATABASE_FILE} does not have the revision {manifest.revision}: it is damaged")
            migrate(database)
            renew(database, datetime.now(UTC))
            sqlite.check(database)
        except DatabaseUnusable as error:
            raise ArchiveUnusable(str(error).replace(str(database), f"its {DATABASE_FILE}")) from error
        files.sync_file(database)
    files.write_new(stage / _ASIDE_NAME, aside.encode(), durable=True)
    sync_folder(stage / KEYS_DIRECTORY)
    sync_folder(stage)


def _holds(path: Path, digest: Digest, size: int) -> bool:
    """Whether a file has this digest and size; False where it cannot be read."""
    hasher = digest.hasher()
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size != size:
                return False
            while chunk := file.read(_CHUNK):
                hasher.update(chunk)
    except OSError:
        return False
    return hasher.hexdigest() == digest.hex


def _complete(data: Path) -> Path | None:
    """Put what is pending in place; returns the folder with what was there before, None if nothing was."""
    pending, aside = data / PENDING, None
    _place_blobs(pending / BLOBS_DIRECTORY, NativeFolder(data).blobs)
    places = [name for name in (DATABASE_FILE, KEYS_DIRECTORY) if (pending / name).exists()]
    if places:
        aside = data / (pending / _ASIDE_NAME).read_text()
        aside.mkdir(mode=0o700, exist_ok=True)
        for name in places:
            for old in (name, *(name + end for end in _BESIDE_DATABASE)):
                with suppress(FileNotFoundError):
                    (data / old).rename(aside / old)
                failpoint("restore.aside")
            sync_folder(aside)
            (pending / name).rename(data / name)
            failpoint("restore.placed")
        with suppress(OSError):
            aside.rmdir()  # nothing was there
    index = CacheFolder(data).index
    for end in ("", *_BESIDE_DATABASE):
        index.with_name(index.name + end).unlink(missing_ok=True)
    sync_folder(data)
    failpoint("restore.completed")
    _delete_folder(pending)
    return aside if aside is not None and os.path.lexists(aside) else None


def _place_blobs(source: Path, store: Path) -> None:
    """Move the blobs of a folder into the store, in place of damaged files of the same names. Raises OSError."""
    for folder in sorted(source.glob("*/*")):
        target = store / folder.relative_to(source)
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        for blob in folder.iterdir():
            blob.rename(target / blob.name)
            failpoint("restore.blob")
        for made in (target, target.parent, store, store.parent):
            sync_folder(made)


def _delete_folder(folder: Path) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)
