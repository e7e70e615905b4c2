"""Small disk: a file system in memory that a test may fill or make read-only. It needs root."""

import os
import subprocess
from pathlib import Path

from .processes import PartFailed


class SmallDisk:
    """Mounts a file system at `place`, which it creates; `unmount` ends it, even while it is in use."""

    def __init__(self, place: Path, megabytes: int = 16) -> None:
        self.place = place
        place.mkdir(parents=True, exist_ok=True)
        self._run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place))

    def fill(self, name: str = "filler") -> None:
        """Takes all free space, to the last page."""
        with (self.place / name).open("ab", buffering=0) as filler:
            for size in (1024 * 1024, 4096):
                try:
                    while True:
                        filler.write(os.urandom(size))
                except OSError:
                    continue
        assert os.statvfs(self.place).f_bavail == 0

    def make_read_only(self) -> None:
        self._run("mount", "-o", "remount,ro", str(self.place))

    def unmount(self) -> None:
        self._run("umount", "--lazy", str(self.place))

    def _run(self, *words: str) -> None:
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode:
            raise PartFailed(f"{' '.join(words)}: {done.stderr.strip()}; tests that fill a disk run as root")
