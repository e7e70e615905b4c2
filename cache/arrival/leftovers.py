"""Leftovers: what ended processes left in the folder of spools. A part that can be gone on with may stay a while."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from cache.arrival.claim import LEASES, NOTE, leases_of
from cache.lease.base import Lease, held
from cache.store.sidecar import Stage, boot, read
from cache.store.spool import PART

log = structlog.get_logger()

YOUNG = 3600.0
FILES = 32
BYTES = 4 * 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Leftover:
    part: Path
    age: float
    size: int
    resumable: bool

    @property
    def files(self) -> tuple[Path, Path]:
        return self.part, self.part.with_name(self.part.name + NOTE)


def sweep_leftovers(directory: Path) -> int:
    """Deletes the spools that nobody fills and nobody will want; returns how many files. Others may be at work.
    Raises OSError where the folder cannot be read.

    The youngest few of this run of the machine stay, since whoever asks for them next goes on with them.
    """
    leases, swept, files, size = leases_of(directory), 0, 0, 0
    for leftover in sorted(_leftovers(directory), key=lambda leftover: leftover.age):
        lease: Lease | None = None
        with contextlib.suppress(OSError):  # a full disk, for one
            lease = leases.take(leftover.part.name.removesuffix(PART))
        if lease is None:
            continue
        with held(lease):
            files, size = files + 1, size + leftover.size
            if not (leftover.resumable and leftover.age < YOUNG and files <= FILES and size <= BYTES):
                files, size = files - 1, size - leftover.size
                swept += sum(_delete(file) for file in leftover.files)
    if swept:
        log.info("spools_swept", count=swept)
    return swept


def _leftovers(directory: Path) -> Iterator[_Leftover]:
    names = {path.name.removesuffix(NOTE) for path in directory.iterdir() if path.name != LEASES}
    for name in names:
        part = directory / name
        if part.suffix != PART:
            continue
        view = read(directory / (name + NOTE))
        note = view.note if view else None
        age, size, resumable = YOUNG, 0, False
        with contextlib.suppress(OSError):
            status = part.lstat()
            age, size = max(0.0, time.time() - status.st_mtime), status.st_size
            resumable = note is not None and (note.boot, note.inode) == (boot(), status.st_ino) and bool(size)
            resumable = resumable and note is not None and note.stage in (Stage.STREAMING, Stage.LEAVING)
        yield _Leftover(part, age, size, resumable)


def _delete(file: Path) -> bool:
    with contextlib.suppress(OSError):
        file.unlink()
        return True
    return False
