"""Quarantine: bodies that upstreams sent and that must not be passed on, and damaged files, for a person to look at."""

import contextlib
import os
import time
from pathlib import Path

from cache.runtime.files import write_new

FILES = 16
FILE_BYTES = 64 * 1024 * 1024


class Quarantine:
    """A folder of the last few refused bodies, each named by its time and the content it claimed to be. It blocks."""

    def __init__(self, folder: Path, *, bounded: bool = True) -> None:
        """`bounded`: whether large and old files are dropped; otherwise every file is kept until a person deletes it,
        since there may be no other copy."""
        self._folder = folder
        self._bounded = bounded

    def take_file(self, path: Path, name: str) -> None:
        """Move a file into the folder, unless it is too large to keep. Raises nothing: evidence is not worth a
        request."""
        with contextlib.suppress(OSError):
            if not self._bounded or path.stat().st_size <= FILE_BYTES:
                os.replace(path, self._place(name))

    def take_bytes(self, content: bytes, name: str) -> None:
        """Write the first FILE_BYTES of a body into the folder. Raises nothing."""
        with contextlib.suppress(OSError):
            write_new(self._place(name), content[:FILE_BYTES])

    def size(self) -> int:
        """Bytes of all files. Raises nothing."""
        total = 0
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir():
                with contextlib.suppress(OSError):
                    total += path.lstat().st_size
        return total

    def make_room(self, wanted: int) -> int:
        """Delete the oldest files until `wanted` bytes are freed or none is left; return the bytes. Raises nothing."""
        freed = 0
        with contextlib.suppress(OSError):
            for path in sorted(self._folder.iterdir()) if wanted > 0 else ():
                with contextlib.suppress(OSError):
                    size = path.lstat().st_size
                    path.unlink()
                    freed += size
                if freed >= wanted:
                    break
        return freed

    def _place(self, name: str) -> Path:
        """Path of a new file, after the oldest files have been deleted."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for old in sorted(self._folder.iterdir())[: -(FILES - 1)] if self._bounded else ():
            old.unlink(missing_ok=True)
        safe = "".join(character if character.isalnum() else "-" for character in name)[:150]
        return self._folder / f"{time.time_ns()}-{os.getpid()}-{safe}"
