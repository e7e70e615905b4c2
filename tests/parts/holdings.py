"""Holdings of a server's processes, seen from outside: descriptors, threads, connections, asyncio tasks, and memory.

A test takes a `Baseline` of a server at rest, does what it does, and waits until the server is back at it:

    base = Baseline(server)
    …
    base.await_return()
"""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from .gateway import Gateway
from .inside.sitecustomize import COUNT_TASKS
from .processes import PartFailed, group_members

RETURNS_WITHIN = 60.0
LONGEST_COUNT = 20.0
STEADY_FOR = 1.0
LISTENS = "0A"  # proc(5), net/tcp: state of a socket that listens
POOLED_THREADS = 26
"""Threads of pools, which grow to their limit with use and stay: the event loop's own on two cores (6), connections of
gateway.db (5) and their writer's turn, readers of the index (2), writers (4) and waiters (8) of uploads. Hundreds of
leaking downloads exceed that soon."""


@dataclass(frozen=True)
class Holdings:
    """Holdings of one process at one moment. `memory`: bytes of anonymous memory that are resident.

    `descriptors` leaves out those of databases, whose pool of connections grows to its limit and stays there.
    `connections` leaves out sockets that listen; it counts those to upstreams, too.
    """

    descriptors: int
    threads: int
    connections: int
    tasks: int
    memory: int

    def more_than(self, base: "Holdings", pooled_threads: int = POOLED_THREADS) -> dict[str, tuple[int, int]]:
        """Map what exceeds the base to its number now and before."""
        allowed = {"descriptors": 0, "threads": pooled_threads, "connections": 0, "tasks": 0}
        pairs = {name: (getattr(self, name), getattr(base, name)) for name in allowed}
        return {name: (now, before) for name, (now, before) in pairs.items() if now > before + allowed[name]}


class Baseline:
    """Holdings of each process of a server at rest, for which it waits.

    Once a process was replaced, every process is compared to the largest: what one did alone, another does now.
    """

    def __init__(self, gateway: Gateway, pooled_threads: int = POOLED_THREADS) -> None:
        self._gateway, self._pooled_threads = gateway, pooled_threads
        self._base = steady_census(gateway)

    def more(self) -> list[str]:
        """List in sentences what the processes hold now and did not hold at first."""
        found, now_held, most = [], census(self._gateway), largest(self._base)
        replaced = now_held.keys() != self._base.keys()
        for pid, held in now_held.items():
            base = most if replaced else self._base[pid]
            for name, (now, before) in held.more_than(base, self._pooled_threads).items():
                found.append(f"process {pid} holds {now} {name}, {before} at first")
        return found

    def await_return(self, within: float = RETURNS_WITHIN) -> None:
        """Wait until no process holds more than at first. Raises AssertionError with what it holds after `within` s."""
        deadline = time.monotonic() + within
        while found := self.more():
            if time.monotonic() > deadline:
                raise AssertionError(f"{within:.0f} s later: {'; '.join(found)}")
            time.sleep(0.1)


def steady_census(gateway: Gateway) -> dict[int, Holdings]:
    """Census of a server at rest. Raises PartFailed for one whose holdings, except for memory, still change."""
    deadline = time.monotonic() + RETURNS_WITHIN
    found, since = census(gateway), time.monotonic()
    while time.monotonic() < since + STEADY_FOR:
        if time.monotonic() > deadline:
            raise PartFailed(f"the server does not come to rest: {found}")
        time.sleep(0.1)
        now = census(gateway)
        if [without_memory(held) for held in now.values()] != [without_memory(held) for held in found.values()]:
            since = time.monotonic()
        found = now
    return found


def without_memory(held: Holdings) -> Holdings:
    return replace(held, memory=0)


def census(gateway: Gateway) -> dict[int, Holdings]:
    """Map every process of a server to its holdings; a process that ends meanwhile is left out."""
    pids = sorted(group_members(gateway.process.pid))
    tasks = count_tasks(gateway, pids)
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            found[pid] = holdings(pid, tasks.get(pid, 0))
    return found


def holdings(pid: int, tasks: int = 0) -> Holdings:
    """Holdings of one process, whose tasks the caller has counted. Raises OSError if it has ended."""
    targets = list(descriptor_targets(pid))
    return Holdings(
        descriptors=sum(".db" not in target for target in targets),
        threads=len(os.listdir(f"/proc/{pid}/task")),
        connections=len(connections_of(pid, targets)),
        tasks=tasks,
        memory=resident(pid),
    )


def largest(base: dict[int, Holdings]) -> Holdings:
    """Highest numbers of any process, each by itself."""
    names = Holdings.__dataclass_fields__
    return Holdings(**{name: max((getattr(held, name) for held in base.values()), default=0) for name in names})


def descriptor_targets(pid: int) -> Iterator[str]:
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            yield str(link.readlink())


def connections_of(pid: int, targets: list[str]) -> list[str]:
    """Inodes of a process's TCP sockets that do not listen, by proc(5): the state is the fourth field of net/tcp, the
    inode is the tenth."""
    own = {target[8:-1] for target in targets if target.startswith("socket:[")}
    found = []
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):
            lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
            fields = [line.split() for line in lines]
            found += [each[9] for each in fields if each[9] in own and each[3] != LISTENS]
    return found


def resident(pid: int) -> int:
    """Bytes of anonymous memory that a process has resident: RssAnon of proc(5)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def count_tasks(gateway: Gateway, pids: list[int]) -> dict[int, int]:
    """Have each process count its asyncio tasks. Raises PartFailed for a process that lives and does not respond."""
    waiting = []
    for pid in pids:
        if counts_tasks(pid):
            (gateway.task_counts / str(pid)).unlink(missing_ok=True)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, COUNT_TASKS)
                waiting.append(pid)
    counts: dict[int, int] = {}
    deadline = time.monotonic() + LONGEST_COUNT
    for pid in waiting:
        path = gateway.task_counts / str(pid)
        while not path.exists() and counts_tasks(pid):
            if time.monotonic() > deadline:
                raise PartFailed(f"process {pid} does not count its tasks")
            time.sleep(0.01)
        if path.exists():
            counts[pid] = int(path.read_text())
    return counts


def counts_tasks(pid: int) -> bool:
    """Whether a process lives and catches the signal to count; it would end another."""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text()
        state, mask = (line_of(status, name) for name in ("State:", "SigCgt:"))
        return state[0] not in "ZX" and bool(int(mask, 16) >> (int(COUNT_TASKS) - 1) & 1)
    return False


def line_of(status: str, name: str) -> str:
    return next(line.removeprefix(name).strip() for line in status.splitlines() if line.startswith(name))
