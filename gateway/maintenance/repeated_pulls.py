"""Repeated pulls: a client that pulls a whole stored blob again within a minute has most often found it damaged.

A file that rots and keeps its size is sent as it is, and only its readers, who check digests, notice. They tell nobody:
they fail, and are started again. So a blob that a client has received whole, and requests again from its beginning
soon after, is read again at once, long before the scrub would come to it.

Clients that share an address, and jobs of one host, pull the same blobs for good reasons, and an attacker may as often
as it likes. So one blob is read at a time, each at most every ten minutes, few wait, and all processes of a server
together spend a tenth of the time on it.
"""

import mmap
import queue
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

import structlog

from cache.oci.digest import Digest
from cache.sqlite import DatabaseUnusable

log = structlog.get_logger()

AGAIN_SECONDS = 60.0
"""Seconds after a complete response within which the next request for the blob counts as repeated."""
RECHECK_SECONDS = 600.0
"""Seconds after which a blob is read again, at the earliest."""
REMEMBERED = 4096
"""Complete responses that the processes of a server remember together; two in one place replace each other."""
MOST_WAITING = 8
"""Blobs that wait in a process to be read; further ones are not."""
REST = 9.0
"""Time without reading after each blob, as a multiple of the time that it took, and at least REST_SECONDS."""
REST_SECONDS = 1.0
GUARD_SECONDS = 60.0
"""How long other processes wait for one that reads; it may have died."""

_MOMENT = struct.Struct("=d")
_PLACE = struct.Struct("=8sd")


@dataclass(frozen=True, slots=True)
class Suspect:
    """A stored blob that may be damaged. `is_native`: whether it was pushed; else it is cached."""

    digest: Digest
    is_native: bool


class PullMemory:
    """What the processes of a server know of recent pulls, in memory that the process makes which forks them.

    Moments are those of the monotonic clock, which processes share. Nothing is locked: where two processes write at
    once, a blob is read without need, or is not.
    """

    def __init__(self) -> None:
        self._memory = memoryview(mmap.mmap(-1, _MOMENT.size + REMEMBERED * _PLACE.size))

    @property
    def next_reading(self) -> float:
        """The moment before which no process begins to read a blob."""
        moment: float = _MOMENT.unpack_from(self._memory)[0]
        return moment

    @next_reading.setter
    def next_reading(self, moment: float) -> None:
        self._memory[: _MOMENT.size] = _MOMENT.pack(moment)

    def note(self, mark: bytes, moment: float) -> None:
        """Remember a response, by a mark of 8 bytes."""
        at = self._place(mark)
        self._memory[at : at + _PLACE.size] = _PLACE.pack(mark, moment)

    def noted(self, mark: bytes) -> float | None:
        """When a response was remembered; None where it was not, or another one has taken its place."""
        found, moment = _PLACE.unpack_from(self._memory, self._place(mark))
        return moment if found == mark else None

    def _place(self, mark: bytes) -> int:
        return _MOMENT.size + int.from_bytes(mark, "big") % REMEMBERED * _PLACE.size


class SuspectReader:
    """The thread that reads suspects, one after the other."""

    def __init__(
        self,
        check: Callable[[Suspect], None],
        stopped: threading.Event,
        memory: PullMemory,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`check` reads a suspect, in the thread; it should end early once `stopped` is set."""
        self._check = check
        self._stopped = stopped
        self._memory = memory
        self._clock = clock
        self._waiting: queue.SimpleQueue[Suspect | None] = queue.SimpleQueue()
        self._taken: dict[Suspect, float] = {}
        self._thread = threading.Thread(target=self._run, name="suspects", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop the thread, and wait for its end."""
        self._stopped.set()
        self._waiting.put(None)
        self._thread.join()

    def add(self, suspect: Suspect) -> bool:
        """Have a suspect read, unless it was, or too many wait; whether it will be. For one event loop."""
        now = self._clock()
        for taken, at in list(self._taken.items()):  # the oldest is the first
            if now - at < RECHECK_SECONDS:
                break
            del self._taken[taken]
        if suspect in self._taken or self._waiting.qsize() >= MOST_WAITING:
            return False
        self._taken[suspect] = now
        mark = _mark("read", suspect.digest)
        noted = self._memory.noted(mark)
        if noted is not None and 0 <= now - noted < RECHECK_SECONDS:  # by another process
            return False
        self._memory.note(mark, now)
        self._waiting.put(suspect)
        return True

    def _run(self) -> None:
        while (suspect := self._waiting.get()) is not None and self._turn_came():
            began = self._clock()
            self._memory.next_reading = began + GUARD_SECONDS
            try:
                self._check(suspect)
            except (DatabaseUnusable, OSError) as error:
                log.warning("suspect_not_checked", digest=str(suspect.digest), reason=str(error))
            except Exception:  # a thread's last resort: no blob would be read any more
                log.exception("suspect_not_checked", digest=str(suspect.digest))
            finally:
                ended = self._clock()
                self._memory.next_reading = ended + max(REST_SECONDS, REST * (ended - began))

    def _turn_came(self) -> bool:
        """Wait until all processes have rested; False once the thread is stopped."""
        while (left := self._memory.next_reading - self._clock()) > 0:
            if self._stopped.wait(left):
                break
        return not self._stopped.is_set()


class RepeatedPulls:
    """Notices repeated pulls of stored blobs; `suspect` is called with the blob of each."""

    def __init__(
        self,
        suspect: Callable[[Suspect], object],
        memory: PullMemory,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._suspect = suspect
        self._memory = memory
        self._clock = clock

    def watch(self, client: str, digest: Digest) -> "WatchedPull":
        """Watch one request for a whole blob. `client`: what tells clients apart, of any length."""
        return WatchedPull(self, digest, _mark(client, digest))

    def began(self, mark: bytes, suspect: Suspect) -> None:
        """A request begins to receive a stored blob."""
        noted = self._memory.noted(mark)
        if noted is not None and 0 <= self._clock() - noted < AGAIN_SECONDS:
            self._suspect(suspect)

    def completed(self, mark: bytes) -> None:
        """A request has received a stored blob to its end."""
        self._memory.note(mark, self._clock())


def _mark(who: str, digest: Digest) -> bytes:
    """The mark by which a blob and whoever reads it are remembered."""
    return blake2b(f"{digest} {who}".encode(), digest_size=8).digest()


@dataclass(frozen=True, slots=True)
class WatchedPull:
    """A request for a whole blob, by one client."""

    pulls: RepeatedPulls
    digest: Digest
    mark: bytes

    def began(self, *, is_native: bool) -> None:
        """The blob is stored, and its first byte is about to be sent."""
        self.pulls.began(self.mark, Suspect(self.digest, is_native))

    def completed(self) -> None:
        """The last byte was sent."""
        self.pulls.completed(self.mark)
