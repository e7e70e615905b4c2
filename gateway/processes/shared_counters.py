"""The folder in which all workers count, in memory; made at each start and deleted at the end.

Counts are written through a memory mapping, which on a full disk would end the process: the folder therefore lies in
memory, or where there is room for it.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from cache.runtime.disk import disk_space
from cache.runtime.locks import try_lock

log = structlog.get_logger()

ROOM_BYTES = 8 * 1024 * 1024
YOUNG_SECONDS = 60.0
_PREFIX = "registry-gateway-counts-"


@contextmanager
def count_folder() -> Iterator[Path | None]:
    """Make the folder; None if there is no room, so that every worker counts for itself."""
    root = next((root for root in (Path("/dev/shm"), Path(tempfile.gettempdir())) if _has_room(root)), None)
    if root is None:
        log.warning("counts_not_shared", reason="there is no room in /dev/shm", remedy="make some, and restart")
        yield None
        return
    _sweep(root)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
    lock = _lock(folder)  # the workers inherit it
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _has_room(root: Path) -> bool:
    try:
        return os.access(root, os.W_OK | os.X_OK) and disk_space(root).free >= ROOM_BYTES
    except OSError:
        return False


def _sweep(root: Path) -> None:
    """Delete the folders of servers that were killed."""
    for folder in root.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            state = folder.lstat()
            if state.st_uid == os.getuid() and time.time() - state.st_mtime > YOUNG_SECONDS:
                lock = _lock(folder)
                if lock is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                    os.close(lock)


def _lock(folder: Path) -> int | None:
    """Lock a folder; None while another server uses it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    if try_lock(descriptor):
        return descriptor
    os.close(descriptor)
    return None
