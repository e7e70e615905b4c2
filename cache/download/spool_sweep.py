"""Sweep of the spool folder: deletes the files that ended processes left, except a few that can be resumed."""

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

import structlog

from cache.download.leased_spool import NOTE, leases_of, note_of, part_of
from cache.download.limits import DEFAULT_LIMITS, DownloadLimits
from cache.lease.base import Lease, held
from cache.store.sidecar import FillState, boot_id, read
from cache.store.spool import PART

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Leftover:
    """Files of one name. `age` in seconds; `size` in bytes."""

    name: str
    age: float
    size: int
    resumable: bool


def sweep_spools(folder: Path, *, limits: DownloadLimits = DEFAULT_LIMITS, boot: str | None = None) -> int:
    """Delete the spools that no process fills and none will resume; return the number of files deleted.

    Other processes may be at work. The youngest few of this run of the machine stay, since the next request for them
    resumes them; so does a spool that a waiter is about to take over. Raises OSError where the folder cannot be read.
    """
    leases, swept, files, size = leases_of(folder), 0, 0, 0
    for leftover in sorted(_leftovers(folder, boot or boot_id()), key=lambda leftover: leftover.age):
        name = leftover.name
        lease: Lease | None = None
        with contextlib.suppress(OSError):  # a full disk, for one
            lease = leases.take(name)
        if lease is None:
            continue
        with held(lease):
            if leases.has_waiters(name):
                continue
            # examined again under the lease, so that no other process changes it
            left = _examine(folder, name, boot or boot_id())
            young = left.age < limits.kept_age
            if left.resumable and young and files < limits.kept_files and size + left.size <= limits.kept_size:
                files, size = files + 1, size + left.size
            else:
                swept += sum(_delete(file) for file in (part_of(folder, name), note_of(folder, name)))
    if swept:
        log.info("spools_swept", count=swept)
    return swept


def _leftovers(folder: Path, boot: str) -> list[_Leftover]:
    """Every name of which a part or a note exists."""
    files = (path.name.removesuffix(NOTE) for path in folder.iterdir())
    names = {file.removesuffix(PART) for file in files if file.endswith(PART)}
    return [_examine(folder, name, boot) for name in names]


def _examine(folder: Path, name: str, boot: str) -> _Leftover:
    view = read(note_of(folder, name))
    note = view.note if view else None
    try:
        status = part_of(folder, name).lstat()
    except OSError:
        return _Leftover(name, float("inf"), 0, False)
    known = note is not None and (note.boot, note.inode) == (boot, status.st_ino)
    streamed = note is not None and note.state in (FillState.STREAMING, FillState.LEAVING)
    age = abs(time.time() - status.st_mtime)  # one of the future was written by a clock that was wrong
    return _Leftover(name, age, status.st_size, known and streamed and status.st_size > 0)


def _delete(file: Path) -> bool:
    with contextlib.suppress(OSError):
        file.unlink()
        return True
    return False
