"""A crowd that pulls one blob at once, in separate processes, so that it does not slow down the rig."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass

from tests.parts.images import digest_of, seeded

from .clients import send_request
from .ledger import Kind, Seen
from .library import Content

TRIES = 30


@dataclass(frozen=True)
class Task:
    """Task of one process: `clients` clients pull the blob of `size` bytes that `seed` makes."""

    url: str
    seed: str
    size: int
    clients: int


def pull_at_once(url: str, seed: str, size: int, clients: int, processes: int = 2) -> list[list[Seen]]:
    """Pulls a blob with many clients; returns the tries of each, the last of which received the rest unless the client
    gave up."""
    tasks = [Task(url, seed, size, clients // processes)] * processes
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        return [tries for group in pool.map(_pull_in_threads, tasks) for tries in group]


def _pull_in_threads(task: Task) -> list[list[Seen]]:
    data = seeded(task.seed, task.size)
    content = Content(digest_of(data), data)
    with ThreadPoolExecutor(task.clients) as threads:
        return list(threads.map(lambda _: _pull(task.url, content), range(task.clients)))


def _pull(url: str, content: Content) -> list[Seen]:
    """Pulls as containerd and podman do: the whole blob, and after an interruption the rest."""
    tries = [send_request(Kind.BLOB, url, "", content)]
    while len(tries) < TRIES and not tries[-1].served:
        rest = range(sum(seen.received for seen in tries), content.size)
        tries.append(send_request(Kind.RANGE, url, "", content, part=rest))
    return tries
