"""Small disk: a file system in memory, mounted at the place of a data folder."""

import errno
import os
import subprocess
from pathlib import Path

from tests.parts.processes import PartFailed, wait_until


class SmallDisk:
    """A file system of `size` bytes, mounted at `path` within `with`; it takes at most `files` files and folders. It
    needs root, or sudo without a password prompt."""

    def __init__(self, path: Path, size: int, files: int = 100_000) -> None:
        self.path, self.size, self.files = path, size, files

    @property
    def free(self) -> int:
        state = os.statvfs(self.path)
        return state.f_bavail * state.f_frsize

    @property
    def free_files(self) -> int:
        return os.statvfs(self.path).f_favail

    def fill(self, leave: int = 0) -> Path:
        """Fills the disk except for `leave` bytes; returns the file that takes the space.

        Others may write to the disk and delete from it meanwhile.
        """
        ballast, size = self.path / "not-ours", 0
        with ballast.open("wb") as file:
            room = max(1, self.free - leave)
            while room > 0:
                try:
                    os.posix_fallocate(file.fileno(), size, room)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    room //= 2
                else:
                    size, room = size + room, self.free - leave
        return ballast

    def __enter__(self) -> "SmallDisk":
        self.path.mkdir(parents=True, exist_ok=True)
        owner = f"uid={os.geteuid()},gid={os.getegid()},mode=0700"
        options = f"size={self.size},nr_inodes={self.files},{owner}"
        as_root("mount", "-t", "tmpfs", "-o", options, "small", str(self.path))
        return self

    def __exit__(self, *_: object) -> None:
        wait_until(lambda: as_root("umount", str(self.path), check=False), what=f"{self.path} stays busy")


def as_root(*words: str, check: bool = True) -> bool:
    """Runs a command as root; whether it succeeded. With `check`, raises PartFailed with its output instead of
    returning False."""
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    done = subprocess.run([*sudo, *words], capture_output=True, text=True, timeout=30, check=False)
    if check and done.returncode:
        raise PartFailed(f"{' '.join(words)}: {done.stderr.strip()}; a test limits a disk, which needs root or sudo")
    return done.returncode == 0
