"""Backup: copies the database, the keys and native content into one file, while servers and commands use them.

The cache is left out, since all of it can be fetched again, and so are counts and limits. The database is copied first:
keys are only added, so those in the file open every secret of the database in it; and a blob that a row names was in
the store before the row, and stays for a while when nothing names it any more.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import mkdtemp

from cache import sqlite
from cache.oci.digest import Digest
from cache.runtime import files
from cache.runtime.disk import sync_folder
from cache.runtime.locks import locked
from cache.store.paths import blob_path
from gateway.data_folder import NativeFolder
from gateway.db.engine import DATABASE_FILE
from gateway.db.stored_blobs import RecordedBlob, read_copy
from gateway.keys.sealing import KEYS_DIRECTORY
from gateway.maintenance.archive import ArchiveWriter, BackupManifest, list_members
from gateway.maintenance.restore import DataFolderBusy
from gateway.namespaces.expiry import format_moment

_LEFT_OUT = (".lock",)
"""Ends of the names of key files that hold nothing."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was written. `left_out`: blobs that the database names, whose files are damaged or missing."""

    manifest: BackupManifest
    left_out: tuple[Digest, ...]


def back_up(
    data: Path, target: Path, database: Path | None, now: datetime, blobs: Iterable[RecordedBlob] = ()
) -> Backup:
    """Write a backup of a data folder to a new file.

    `database`: the SQLite file; None if the database lies elsewhere, and names `blobs` in the order of their digests.
    Nothing is left beside the
    target, except by a process that is killed. Raises FileExistsError, ArchiveUnusable for a key file whose name no
    backup holds, DataFolderBusy if database and keys were replaced meanwhile, DatabaseUnusable, OSError.
    """
    # Meanwhile no file of a deleted blob goes: the copy of the database may still name it.
    with _workshop(target) as workshop, locked(NativeFolder(data).lock("backup"), shared=True):
        stage = workshop / "files"
        (stage / KEYS_DIRECTORY).mkdir(parents=True)
        names, revision = [], None
        if database is not None:
            copy = stage / DATABASE_FILE
            copied = database.stat().st_ino
            sqlite.copy(database, copy)
            revision = sqlite.read_revision(copy)
            names.append(DATABASE_FILE)
            blobs = read_copy(copy)
        names += _copy_keys(data / KEYS_DIRECTORY, stage / KEYS_DIRECTORY)
        if database is not None and database.stat().st_ino != copied:
            raise DataFolderBusy(f"data folder {data.absolute()} was restored meanwhile")
        manifest = BackupManifest(format_moment(now), revision, list_members(stage, names))
        draft, store, left_out = workshop / "backup", NativeFolder(data).blobs, []
        with open(files.create(draft), "wb") as file:
            archive = ArchiveWriter(file, manifest, stage)
            for blob in blobs:
                if not archive.add_blob(blob_path(store, blob.digest), blob.digest, blob.size):
                    left_out.append(blob.digest)
            manifest = archive.finish()
            file.flush()
            os.fsync(file.fileno())
        _publish(draft, target)
    return Backup(manifest, tuple(left_out))


@contextmanager
def _workshop(target: Path) -> Iterator[Path]:
    """Make a folder beside the target, on the same disk, for this user alone; it is deleted in the end."""
    folder = Path(mkdtemp(prefix=f".{target.name[:100]}.", dir=target.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy_keys(source: Path, target: Path) -> list[str]:
    """Copy the key files; returns their names in the data folder. Raises OSError."""
    if not source.is_dir():
        return []
    names = sorted(
        path.name for path in source.iterdir() if not path.name.startswith(".") and not path.name.endswith(_LEFT_OUT)
    )
    for name in names:
        files.write_new(target / name, (source / name).read_bytes())
    return [f"{KEYS_DIRECTORY}/{name}" for name in names]


def _publish(draft: Path, target: Path) -> None:
    """Give the finished file its name, which nothing has. Raises FileExistsError, OSError."""
    try:
        os.link(draft, target)
    except FileExistsError:
        raise
    except OSError:  # some file systems know no links
        if os.path.lexists(target):
            raise FileExistsError(target) from None
        draft.rename(target)
    with suppress(OSError):
        sync_folder(target.parent)
