"""Where things lie in the data folder."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cache.runtime.disk import disk_space


@dataclass(frozen=True, slots=True)
class CacheFolder:
    """Pulled-through content: all of it can be fetched again."""

    data: Path

    @property
    def index(self) -> Path:
        return self.data / "cache.db"

    @property
    def usage(self) -> Path:
        return self.data / "usage.db"

    @property
    def quota(self) -> Path:
        return self.data / "quota.json"

    @property
    def blobs(self) -> Path:
        return self.data / "cache"

    @property
    def spools(self) -> Path:
        return self.data / "spool"

    @property
    def quarantine(self) -> Path:
        return self.data / "quarantine"

    def lock(self, name: str) -> Path:
        """Of work that one process of the host does."""
        return self.data / f"{name}.lock"

    def make(self) -> None:
        for folder in (self.blobs, self.spools):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)


BALLAST_BYTES = 1024 * 1024
NEEDED_BYTES = 512 * 1024
BALLAST_FILE = "ballast"


def make_room(data: Path) -> list[str]:
    """Takes away as little as lets the databases be opened; the names of what went. Raises nothing."""
    gone: list[str] = []
    with suppress(OSError):
        for path in _least_missed(data):
            if disk_space(data).free >= NEEDED_BYTES:
                break
            path.unlink(missing_ok=True)
            gone.append(path.name)
    return gone


def lay(data: Path) -> None:
    """Puts the ballast where it belongs, if there is plenty of room. Raises nothing."""
    path = data / BALLAST_FILE
    with suppress(OSError):
        if path.exists() or disk_space(data).free < 4 * BALLAST_BYTES:
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
