"""Ballast: room in the data folder that is kept for the day on which the disk is full.

A database cannot even be opened for reading without a few pages beside it, so a server that was stopped could not start
on a full disk. Then the ballast goes, after it what was quarantined, and last the oldest cached blobs.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from gateway.data_folder import CacheFolder

BALLAST_BYTES = 1024 * 1024
NEEDED_BYTES = 512 * 1024
BALLAST_FILE = "ballast"


def make_room(data: Path) -> list[str]:
    """Takes away as little as lets the databases be opened; the names of what went. Raises nothing."""
    gone: list[str] = []
    with suppress(OSError):
        for path in _least_missed(data):
            if _free(data) >= NEEDED_BYTES:
                break
            path.unlink(missing_ok=True)
            gone.append(path.name)
    return gone


def lay(data: Path) -> None:
    """Puts the ballast where it belongs, if there is plenty of room. Raises nothing."""
    path = data / BALLAST_FILE
    with suppress(OSError):
        if path.exists() or _free(data) < 4 * BALLAST_BYTES:
            return
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, BALLAST_BYTES)
        except OSError:
            path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def _least_missed(data: Path) -> Iterator[Path]:
    if (ballast := data / BALLAST_FILE).exists():
        yield ballast
    folder = CacheFolder(data)
    yield from sorted(folder.quarantine.glob("*"))
    yield from sorted(folder.blobs.glob("*/*/*"), key=lambda path: path.stat().st_mtime)


def _free(folder: Path) -> int:
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize
