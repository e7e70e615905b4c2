"""A crowd that pulls one blob at once, in processes of its own, so that it does not slow the rig."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass

from tests.parts.images import digest_of, seeded

from .clients import ask
from .ledger import Kind, Seen
from .library import Content

TRIES = 30


@dataclass(frozen=True)
class Task:
    """So many clients pull the blob of `size` bytes that `seed` makes."""

    url: str
    seed: str
    size: int
    clients: int


def pull_at_once(url: str, seed: str, size: int, clients: int, processes: int = 2) -> list[list[Seen]]:
    """The tries of each client, the last of which brought the rest, unless it gave up."""
    tasks = [Task(url, seed, size, clients // processes)] * processes
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        return [tries for group in pool.map(_pull_in_threads, tasks) for tries in group]


def _pull_in_threads(task: Task) -> list[list[Seen]]:
    data = seeded(task.seed, task.size)
    content = Content(digest_of(data), data)
    with ThreadPoolExecutor(task.clients) as threads:
        return list(threads.map(lambda _: _pull(task.url, content), range(task.clients)))


def _pull(url: str, content: Content) -> list[Seen]:
    """As containerd and podman do: whole, and after a break from where it was."""
    tries = [ask(Kind.BLOB, url, "", content)]
    while len(tries) < TRIES and not tries[-1].served:
        rest = range(sum(seen.received for seen in tries), content.size)
        tries.append(ask(Kind.RANGE, url, "", content, part=rest))
    return tries
