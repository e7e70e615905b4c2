"""A secret that the processes of one host share through a sealed file, such as a password that a command printed."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from cache.runtime import files
from cache.runtime.locks import open_lock_file, try_lock
from gateway.keys.sealing import SealBroken, Sealer

SUFFIX = ".shared"
_SIZE_LIMIT = 256 * 1024
_LOCK_STEP = 0.05


class SharedSecret:
    """One secret in one file. Nothing is raised: where the file fails, each process has only its own knowledge.

    `context`: what the secret is for; a file that was sealed for anything else counts as empty.
    """

    def __init__(self, path: Path, sealer: Sealer, context: str) -> None:
        self._path, self._sealer, self._context = path, sealer, context

    def read(self) -> str | None:
        """Read the secret; None without one."""
        try:
            if self._path.stat().st_size > _SIZE_LIMIT:
                return None
            return self._sealer.open(self._path.read_text(), self._context)
        except (OSError, ValueError, SealBroken):
            return None

    def write(self, secret: str) -> None:
        """Put a secret in the place of the one before."""
        with suppress(OSError, SealBroken):
            files.replace(self._path, self._sealer.seal(secret, self._context).encode())

    @contextmanager
    def exclusively(self, seconds: float) -> Iterator[None]:
        """Hold the file's lock, so that one process at a time obtains the secret. Blocks; a process that stopped while
        it held the lock is waited for so many seconds."""
        with ExitStack() as held:
            with suppress(OSError):
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                descriptor = open_lock_file(self._path.with_suffix(".lock"))
                held.callback(os.close, descriptor)
                until = time.monotonic() + seconds
                while not try_lock(descriptor) and time.monotonic() < until:
                    time.sleep(_LOCK_STEP)
            yield


def delete_shared_secrets(folder: Path) -> None:
    """Delete the secrets that an earlier server has left: a new one obtains its own. Raises OSError."""
    for left in folder.glob(f"*{SUFFIX}"):
        left.unlink(missing_ok=True)
