"""Worker processes of the server under test, seen from outside: which one fills, what they hold, and how to end
them."""

import contextlib
import os
import re
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.parts.forks import FORK_PROGRAM
from tests.parts.gateway import Gateway
from tests.parts.processes import PartFailed, wait_until

FORKED_BY = FORK_PROGRAM.encode()
"""What a process that was forked has for its command line."""

WRITING = os.O_WRONLY | os.O_RDWR
SPOOL = re.compile(r"([0-9a-f]{64})")


@dataclass(frozen=True)
class Filler:
    """A worker that has a spool open for writing."""

    pid: int
    spool: Path
    digest: str
    size: int


@dataclass(frozen=True)
class Holdings:
    """Holdings of a process: descriptors (except those of databases), threads, and files that it should have closed."""

    descriptors: int
    threads: int
    content: tuple[str, ...]


def workers(gateway: Gateway) -> list[int]:
    """Process ids of the workers, which are the processes that listen. With one process it is the server itself."""
    try:
        children = [pid for pid in gateway.process.children() if serves(pid)]
    except PartFailed:  # another thread starts the server again
        return []
    return sorted(children) or ([gateway.process.pid] if gateway.process.running else [])


def serves(pid: int) -> bool:
    """Whether a process is one of the server's, and neither a zombie nor a helper of the interpreter."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return any(b"gateway" in word or b"spawn_main" in word or word == FORKED_BY for word in words)
    return False


def open_files(pid: int) -> Iterator[tuple[str, int]]:
    """Yields every descriptor of a process: its target, and its open mode."""
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                info = Path(f"/proc/{pid}/fdinfo/{link.name}").read_text()
                yield str(link.readlink()), int(re.search(r"flags:\s*([0-7]+)", info)[1], 8)  # type: ignore[index]


def fillers(gateway: Gateway) -> list[Filler]:
    """Workers that fill at this moment, the largest spool first."""
    spools = str(gateway.data / "spool") + "/"
    found = []
    for pid in workers(gateway):
        for target, flags in set(open_files(pid)):
            digest = SPOOL.search(target.removeprefix(spools)) if target.startswith(spools) else None
            if digest is None or not flags & WRITING or not target.endswith(".part"):
                continue
            with contextlib.suppress(OSError):
                found.append(Filler(pid, Path(target), f"sha256:{digest[1]}", os.stat(target).st_size))
    return sorted(found, key=lambda filler: -filler.size)


def receivers(gateway: Gateway) -> list[int]:
    """Workers that have the file of an upload open for writing."""
    uploads = str(gateway.data / "spool" / "uploads") + "/"
    return [
        pid
        for pid in workers(gateway)
        if any(target.startswith(uploads) and flags & WRITING for target, flags in open_files(pid))
    ]


def holdings(gateway: Gateway, pid: int) -> Holdings:
    content = tuple(f"{gateway.data / name}/" for name in ("spool", "cache", "blobs"))
    targets = [target for target, _ in open_files(pid) if ".db" not in target]
    bytes_held = [target for target in targets if target.startswith(content) and not is_lock(target)]
    threads = 0
    with contextlib.suppress(OSError):
        threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
    return Holdings(len(targets), threads, tuple(bytes_held))


def is_lock(target: str) -> bool:
    """Whether a target is the lock file that is never deleted and that a worker may keep open."""
    return target.endswith("/leases")


def end(pid: int) -> bool:
    """Kills a process with SIGKILL; False if it had ended already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def pause(pid: int, seconds: float, ending: threading.Event) -> None:
    """Pauses a process for `seconds`, shorter if the run ends."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        ending.wait(seconds)
        os.kill(pid, signal.SIGCONT)


def clients_of(pid: int, port: int) -> set[int]:
    """Ports of the clients whose connections to `port` a process holds."""
    inodes = {target[8:-1] for target, _ in open_files(pid) if target.startswith("socket:[")}
    found = set()
    # proc(5): addresses are hexadecimal, the inode is the tenth field
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[9] in inodes and int(fields[1].rpartition(":")[2], 16) == port:
            found.add(int(fields[2].rpartition(":")[2], 16))
    return found


def all_stopped(pid: int) -> bool:
    """Whether every thread of a process is stopped, or the process has ended."""
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            if stat.read_text().rpartition(")")[2].split()[0] not in "TtZX":
                return False
    return True


def end_with_clients(pid: int, port: int) -> set[int]:
    """Kills a process with SIGKILL; the ports of the clients that were connected to it at that moment."""
    try:
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: all_stopped(pid), what=f"process {pid} does not stop")
        found = clients_of(pid, port)
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return set()
    return found
