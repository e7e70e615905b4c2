"""ScriptedBody: a body that arrives when a test sends it."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cache.upstream.client import BlobStream
from cache.upstream.errors import Unavailable, UpstreamError
from cache.values import Part, Rest


class ScriptedBody:
    """The body that `fetch` yields. Bytes wait in a queue for the thread that receives them.

    `respond` decides when, and whether, the upstream responds at all; `deaf` makes an abort have no effect. Further
    requests, which `requests` lists, get the bodies of `later` in turn, and after the last one none.
    """

    def __init__(self, size: int | None = None, *, responds: bool = True, deaf: bool = False) -> None:
        self.start = 0
        self.size = size
        self.accepts_ranges = False
        self.opened = 0
        self.requests: list[Part | Rest | None] = []
        self.later: list[ScriptedBody] = []
        self.closed = threading.Event()
        self.aborted = threading.Event()
        self.ended = threading.Event()
        self.receiving = threading.Event()
        self._deaf = deaf
        self._requested = threading.Event()
        self._responded = threading.Event()
        self._refusal: Exception | None = None
        self._queue: queue.SimpleQueue[bytes | Exception | None] = queue.SimpleQueue()
        self._rest = b""
        if responds:
            self._responded.set()

    @classmethod
    def whole(cls, content: bytes) -> "ScriptedBody":
        body = cls(len(content))
        body.send(content)
        body.end()
        return body

    # Called by the test.

    def send(self, *chunks: bytes) -> None:
        for chunk in chunks:
            self._queue.put(chunk)

    def end(self) -> None:
        self._queue.put(None)

    def fail(self, error: Exception) -> None:
        self._queue.put(error)

    def respond(self, refusal: Exception | None = None) -> None:
        self._refusal = refusal
        self._responded.set()

    @property
    def requested(self) -> threading.Event:
        return self._requested

    # Called by the flight.

    @contextmanager
    def fetch(self, part: Part | Rest | None = None, /) -> Iterator[BlobStream]:
        self.opened += 1
        self.requests.append(part)
        if self.opened > 1:
            if not self.later:
                raise Unavailable("the upstream is gone")
            with self.later.pop(0).fetch() as incoming:
                yield incoming
            return
        self._requested.set()
        self._responded.wait(30)
        if self._refusal is not None:
            raise self._refusal
        try:
            yield self
        finally:
            self.closed.set()

    def receive_into(self, buffer: memoryview) -> int:
        self.receiving.set()
        if not self._rest:
            item = self._queue.get(timeout=30)
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
    """An upstream that refuses at once."""
    body = ScriptedBody()
    body.respond(error)
    return body
