"""Quarantine: what upstreams gave and what must not be passed on, kept for a person to look at; bounded."""

import contextlib
import os
import time
from pathlib import Path

FILES = 16
FILE_BYTES = 64 * 1024 * 1024


class Quarantine:
    """A folder of the last few refused bodies, each named by when it came and what it should have been. It blocks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take_file(self, path: Path, name: str) -> None:
        """Moves a file here, unless it is too big to be kept. Raises nothing: it is not worth a request."""
        with contextlib.suppress(OSError):
            if path.stat().st_size <= FILE_BYTES:
                os.replace(path, self._place(name))

    def take_bytes(self, content: bytes, name: str) -> None:
        with contextlib.suppress(OSError):
            self._place(name).write_bytes(content[:FILE_BYTES])

    def _place(self, name: str) -> Path:
        """A free name, after the oldest files have made room."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for old in sorted(self._folder.iterdir())[: -(FILES - 1)]:
            old.unlink(missing_ok=True)
        safe = "".join(character if character.isalnum() else "-" for character in name)[:150]
        return self._folder / f"{time.time_ns()}-{os.getpid()}-{safe}"
