"""Leftovers: what ended processes left in the folder of spools. A part that can be gone on with may stay a while."""

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

import structlog

from cache.download.leased_spool import NOTE, leases_of, note_of, part_of
from cache.lease.base import Lease, held
from cache.store.sidecar import Stage, boot, read
from cache.store.spool import PART

log = structlog.get_logger()

YOUNG = 3600.0
FILES = 32
BYTES = 4 * 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Leftover:
    age: float
    size: int
    resumable: bool


def sweep_leftovers(directory: Path) -> int:
    """Deletes the spools that nobody fills and nobody will want; returns how many files. Others may be at work.
    Raises OSError where the folder cannot be read.

    The youngest few of this run of the machine stay, since whoever asks for them next goes on with them; and so does
    what somebody waits for, who is about to go on.
    """
    leases, swept, files, size = leases_of(directory), 0, 0, 0
    for name in _names(directory):
        lease: Lease | None = None
        with contextlib.suppress(OSError):  # a full disk, for one
            lease = leases.take(name)
        if lease is None:
            continue
        with held(lease):
            if leases.has_waiters(name):
                continue
            left = _look_at(directory, name)
            if left.resumable and left.age < YOUNG and files < FILES and size + left.size <= BYTES:
                files, size = files + 1, size + left.size
            else:
                swept += sum(_delete(file) for file in (part_of(directory, name), note_of(directory, name)))
    if swept:
        log.info("spools_swept", count=swept)
    return swept


def _names(directory: Path) -> list[str]:
    """Of which the part or its note is there, the youngest first."""
    files = (path.name.removesuffix(NOTE) for path in directory.iterdir())
    names = {file.removesuffix(PART) for file in files if file.endswith(PART)}
    return sorted(names, key=lambda name: _look_at(directory, name).age)


def _look_at(directory: Path, name: str) -> _Leftover:
    view = read(note_of(directory, name))
    note = view.note if view else None
    try:
        status = part_of(directory, name).lstat()
    except OSError:
        return _Leftover(YOUNG, 0, False)
    known = note is not None and (note.boot, note.inode) == (boot(), status.st_ino)
    resumable = known and note is not None and note.stage in (Stage.STREAMING, Stage.LEAVING) and status.st_size > 0
    return _Leftover(max(0.0, time.time() - status.st_mtime), status.st_size, resumable)


def _delete(file: Path) -> bool:
    with contextlib.suppress(OSError):
        file.unlink()
        return True
    return False
