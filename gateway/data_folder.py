"""Layout of the data folder, and the room in it that a start on a full disk needs."""

import json
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from socket import gethostname

from cache.runtime import files
from cache.runtime.disk import disk_space
from cache.runtime.locks import open_lock_file, try_lock
from cache.store.sidecar import boot_id
from cache.upstream.loops import GATEWAY_PREFIX


@dataclass(frozen=True, slots=True)
class CacheFolder:
    """Paths of pulled-through content, all of which can be fetched again."""

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
        """Lock file of work that only one process of the host does at a time."""
        return self.data / f"{name}.lock"

    def make(self) -> None:
        """Create the folders that are missing."""
        for folder in (self.blobs, self.spools):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)


@dataclass(frozen=True, slots=True)
class NativeFolder:
    """Paths of native content, which is nowhere else."""

    data: Path

    @property
    def blobs(self) -> Path:
        return self.data / "blobs"

    @property
    def uploads(self) -> Path:
        """Files of unfinished uploads, beside the spools of the cache."""
        return self.data / "spool" / "uploads"

    @property
    def leases(self) -> Path:
        """File whose bytes stand for leases of uploads and digests."""
        return self.data / "spool" / "leases"

    @property
    def damaged(self) -> Path:
        """Files that were set aside, apart from the quarantine of the cache, which is emptied for room."""
        return self.data / "damaged"

    def lock(self, name: str) -> Path:
        """Lock file of work on native content that only one process of the host does at a time."""
        return self.data / f"native-{name}.lock"

    def make(self) -> None:
        """Create the folders that are missing."""
        for folder in (self.blobs, self.uploads):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextmanager
def server_lock(data: Path, *, shared: bool = False) -> Iterator[bool]:
    """Whether the lock was free that a server holds from its start to its end; it is held within the block.

    It is a lock of the folder, since a file in it can be deleted while a server holds its lock; and of a lock file, for
    servers of versions that know this one alone, and for file systems that lock no folders. Raises OSError.
    """
    with ExitStack() as held:
        folder = os.open(data, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        held.callback(os.close, folder)
        file = open_lock_file(data / "server.lock")
        held.callback(os.close, file)
        yield _try_lock_folder(folder, shared) and try_lock(file, shared=shared)


def _try_lock_folder(descriptor: int, shared: bool) -> bool:
    try:
        return try_lock(descriptor, shared=shared)
    except OSError:  # as of NFS
        return True


def audit_file(data: Path) -> Path:
    """File of the audit log."""
    return data / "audit.db"


def run_file(data: Path) -> Path:
    """File in which a running server announces itself."""
    return data / "run.json"


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server as it announces itself in the data folder; its main URL is the first one.

    `config`: the absolute path of its settings file; empty where it uses none, None where it does not say.
    """

    pid: int
    urls: tuple[str, ...]
    config: str | None = None

    @property
    def is_alive(self) -> bool:
        """Whether its process exists."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True  # another user's process
        return True


def announced_server(data: Path) -> RunningServer | None:
    """Read the run file; None where there is none, or it is not complete. The server may have been killed since."""
    try:
        document = json.loads(run_file(data).read_text())
        config = document.get("config")
        urls = tuple(map(str, document["addresses"]))
        return RunningServer(int(document["pid"]), urls, config if isinstance(config, str) else None)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def announce_server(data: Path, urls: Sequence[str], workers: Sequence[int], config: Path | None = None) -> None:
    """Write the run file: this process serves `urls`, the main one first, by the processes `workers`.

    `config`: its settings file, if it uses one. Raises OSError; an earlier announcement may be left then.
    """
    document = {
        "pid": os.getpid(),
        "addresses": list(urls),
        "workers": list(workers),
        "config": str(config.absolute()) if config else "",
    }
    files.replace(run_file(data), f"{json.dumps(document)}\n".encode())


def withdraw_server(data: Path) -> None:
    """Delete the run file. Raises nothing."""
    with suppress(OSError):
        run_file(data).unlink(missing_ok=True)


def server_name(data: Path) -> str:
    """Name, a token, that the processes of one server share, and that no other server has."""
    status = data.stat()
    parts = f"{boot_id()} {gethostname()} {status.st_dev} {status.st_ino}"
    return f"{GATEWAY_PREFIX}{sha256(parts.encode()).hexdigest()[:16]}"


def exposed_mode(data: Path) -> str | None:
    """Find the octal mode of the folder if it lets other users in; None if it does not. Raises OSError."""
    mode = stat.S_IMODE(data.stat().st_mode)
    return f"{mode:04o}" if mode & (stat.S_IRWXG | stat.S_IRWXO) else None


BALLAST_FILE = "ballast"
BALLAST_BYTES = 1024 * 1024
"""Size of a file without content that is deleted first when the disk is full."""

NEEDED_BYTES = 512 * 1024
"""Free space with which the databases can be opened."""

NEEDED_FILES = 16
"""Free files with which the databases can be opened, as each has files beside it, and a download can begin."""


def make_room(data: Path) -> list[str]:
    """Delete as few files as let the databases be opened, and return their names. Raises nothing."""
    deleted: list[str] = []
    with suppress(OSError):
        for path in _expendable(data):
            if not disk_space(data).lacks(NEEDED_BYTES, NEEDED_FILES):
                break
            path.unlink(missing_ok=True)
            deleted.append(path.name)
    return deleted


def write_ballast(data: Path) -> None:
    """Write the ballast file if it is missing and there is plenty of room. Raises nothing."""
    path = data / BALLAST_FILE
    with suppress(OSError):
        if path.exists() or disk_space(data).free < 4 * BALLAST_BYTES:
            return
        descriptor = files.create(path)
        try:
            os.posix_fallocate(descriptor, 0, BALLAST_BYTES)
        except OSError:
            path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def _expendable(data: Path) -> Iterator[Path]:
    """Files that may be deleted for room, the least useful first."""
    if (ballast := data / BALLAST_FILE).exists():
        yield ballast
    folder = CacheFolder(data)
    yield from sorted(folder.quarantine.glob("*"))
    yield from sorted(folder.blobs.glob("*/*/*"), key=lambda path: path.stat().st_mtime)
