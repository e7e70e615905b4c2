"""Healthy client in a process of its own: it pulls cached content, and measures how long a pull takes.

Between two pulls it requests a constant response from a server that nobody attacks. On a busy machine that takes long,
too; what a pull takes longer is the server's own doing.
"""

import multiprocessing
import time
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from types import TracebackType

from tests.parts import raw

PAUSE = 0.02
PATIENCE = 60.0


@dataclass
class Pulled:
    """Seconds of each pull and of each constant response, and sentences about pulls that were not right."""

    pulls: list[float] = field(default_factory=list)
    constants: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class HealthyClient:
    """Pulls these URLs, each with the digest of its content, from `with` to its end; then `pulled` has the result."""

    def __init__(self, contents: dict[str, str], constant: str) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._ending, (self._receiving, sending) = spawn.Event(), spawn.Pipe(duplex=False)
        self._process = spawn.Process(target=_pull, args=(contents, constant, self._ending, sending))
        self.pulled = Pulled()

    @property
    def pid(self) -> int | None:
        """Its process, within `with`."""
        return self._process.pid

    def __enter__(self) -> "HealthyClient":
        self._process.start()
        self._receiving.recv()  # it has begun
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        if self._receiving.poll(2 * PATIENCE):
            self.pulled = self._receiving.recv()
        self._process.join(PATIENCE)
        self._process.kill()


def _pull(contents: dict[str, str], constant: str, ending: Event, sending: Connection) -> None:
    pulled = Pulled()
    sending.send("begun")
    while not ending.wait(PAUSE):
        for url, digest in contents.items():
            begun = time.monotonic()
            try:
                answer = raw.get(url, timeout=PATIENCE)
            except (OSError, raw.BrokenHead) as error:
                pulled.wrong.append(f"{url}: {error!r} after {time.monotonic() - begun:.1f} s")
            else:
                pulled.pulls.append(time.monotonic() - begun)
                if (answer.status, answer.complete, answer.digest) != (200, True, digest):
                    said = answer.body[:300] if answer.status != 200 else answer.digest
                    pulled.wrong.append(f"{url}: {answer.status}, complete: {answer.complete}, {said!r}")
        begun = time.monotonic()
        with suppress(OSError, raw.BrokenHead):
            raw.get(constant, timeout=PATIENCE)
        pulled.constants.append(time.monotonic() - begun)
    sending.send(pulled)
