"""A body that arrives when a test says so."""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cache.download.incoming import Incoming
from cache.upstream.errors import Unavailable, UpstreamError
from cache.values import Part, Rest


class ScriptedBody:
    """What `fetch` yields. Bytes wait in a queue for the thread that receives them.

    `answer` decides when, and whether, the upstream answers at all; `deaf` lets an abort go unheard. Who asks again, as
    `asked_for` tells, gets the bodies of `later`, one after the other, and after the last none.
    """

    def __init__(self, size: int | None = None, *, answered: bool = True, deaf: bool = False) -> None:
        self.start = 0
        self.size = size
        self.accepts_ranges = False
        self.opened = 0
        self.asked_for: list[Part | Rest | None] = []
        self.later: list[ScriptedBody] = []
        self.closed = threading.Event()
        self.aborted = threading.Event()
        self.ended = threading.Event()
        self.receiving = threading.Event()
        self._deaf = deaf
        self._asked = threading.Event()
        self._answered = threading.Event()
        self._refusal: Exception | None = None
        self._queue: queue.SimpleQueue[bytes | Exception | None] = queue.SimpleQueue()
        self._rest = b""
        if answered:
            self._answered.set()

    @classmethod
    def whole(cls, content: bytes) -> "ScriptedBody":
        body = cls(len(content))
        body.send(content)
        body.end()
        return body

    # What the test says.

    def send(self, *chunks: bytes) -> None:
        for chunk in chunks:
            self._queue.put(chunk)

    def end(self) -> None:
        self._queue.put(None)

    def fail(self, error: Exception) -> None:
        self._queue.put(error)

    def answer(self, refusal: Exception | None = None) -> None:
        self._refusal = refusal
        self._answered.set()

    @property
    def asked(self) -> threading.Event:
        return self._asked

    # What the flight asks.

    @contextmanager
    def fetch(self, part: Part | Rest | None = None, /) -> Iterator[Incoming]:
        self.opened += 1
        self.asked_for.append(part)
        if self.opened > 1:
            if not self.later:
                raise Unavailable("the upstream is gone")
            with self.later.pop(0).fetch() as incoming:
                yield incoming
            return
        self._asked.set()
        self._answered.wait(20)
        if self._refusal is not None:
            raise self._refusal
        try:
            yield self
        finally:
            self.closed.set()

    def receive_into(self, buffer: memoryview) -> int:
        self.receiving.set()
        if not self._rest:
            item = self._queue.get(timeout=20)
            if isinstance(item, Exception):
                raise item
            if item is None:
                self.ended.set()
                return 0
            self._rest = item
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def abort(self) -> None:
        self.aborted.set()
        if not self._deaf:
            self._queue.put(Unavailable("aborted"))


def refusing(error: UpstreamError) -> ScriptedBody:
    """The upstream answers at once, and says no."""
    body = ScriptedBody()
    body.answer(error)
    return body


Fetching = Callable[[], ScriptedBody]
