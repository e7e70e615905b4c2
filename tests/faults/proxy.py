"""Fault proxy in front of a real upstream: it breaks responses by a script, or as a weather of faults decides.

It streams what it forwards. Its lies are those of the Liar, applied to real content.
"""

import contextlib
import http.client
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from tests.parts.liar import Answer, Liar
from tests.parts.lies import Lie
from tests.parts.processes import HOST
from tests.parts.records import Record

HONEST = Lie()
PASSED_ON = ("accept", "authorization", "if-none-match")
HOP_BY_HOP = ("connection", "content-length", "date", "keep-alive", "server", "transfer-encoding")
PATIENCE = 90
CONTENT = re.compile(r"sha256[:/](?:[0-9a-f]{2}/)?([0-9a-f]{64})")
PIECE = re.compile(r"bytes=\d+-\d+")

Weather = Callable[[Record], Lie]


def fair(record: Record) -> Lie:
    """Weather without faults."""
    return HONEST


def subject(path: str) -> str:
    """Subject of a request: a digest, in whatever form the path holds it, or a tag."""
    match = CONTENT.search(path)
    return f"sha256:{match[1]}" if match else path.rpartition("/")[2]


@dataclass(frozen=True)
class ToldLie:
    """A lie that was told: when, about which content, and which."""

    at: float
    about: str
    lie: Lie


class Passing:
    """A body in transit: it has the promised length, and is sliced from start to end, each byte once."""

    def __init__(self, response: http.client.HTTPResponse, size: int) -> None:
        self._response, self._size, self._position = response, size, 0

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        if part.start != self._position:
            raise ValueError(f"a forwarded body cannot be read from {part.start} when it is at {self._position}")
        content = self._response.read(part.stop - part.start)
        if len(content) != part.stop - part.start:
            raise OSError("the upstream broke off by itself")
        self._position = part.stop
        return content

    def whole(self) -> bytes:
        return self[slice(0, self._size)]


class FaultProxy(Liar):
    """One listener in front of the upstream at a port. `behave` scripts lies; if none matches, `weather` decides.

    `renamed` maps a HOST:PORT to another in response headers that hold addresses, so that clients stay behind proxies.
    `stop` refuses connections until `start`. `told` lists the lies that were told.
    """

    def __init__(self, upstream_port: int, renamed: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._upstream_port = upstream_port
        self._renamed = dict(renamed or {})
        self._telling = threading.Lock()
        self._told_lies: list[ToldLie] = []
        self.weather: Weather = fair

    @property
    def refusing(self) -> bool:
        return self._listener is None

    @property
    def told(self) -> list[ToldLie]:
        with self._telling:
            return list(self._told_lies)

    def faults(self) -> Counter[str]:
        """Number of lies that were told about each digest and tag."""
        return Counter(told.about for told in self.told)

    def gets(self, *, pieces: bool = False) -> Counter[str]:
        """Number of requests for each content: from its start, or from the offset at which a download had stopped.

        With `pieces`: number of requests for parts between two offsets, which one download may fetch in parallel.
        """
        asked = self.requests.select(method="GET")
        return Counter(
            subject(record.path)
            for record in asked
            if (PIECE.fullmatch(record.header("range") or "") is not None) == pieces
        )

    def _reply(self, connection: socket.socket, record: Record, *, first: bool) -> bool:
        lie = self._lie_for(record, first=first)
        if lie.status is not None and lie.body is not None:
            return self._deliver(connection, record, lie, Answer(lie.status, {}, b""))
        with self._passed_on(record, ranged=not lie.whole) as (answer, passing):
            if record.method == "HEAD":  # A response to HEAD has no bytes to change.
                lie = replace(lie, flip=None, extra=b"", encode=False)
            changed = lie.flip is not None or lie.body is not None or lie.encode or lie.extra or lie.surplus
            return self._deliver(connection, record, lie, replace(answer, body=passing.whole() if changed else passing))

    def _lie_for(self, record: Record, *, first: bool) -> Lie:
        lie = super()._lie_for(record, first=first)
        if lie == HONEST:
            lie = self.weather(record)
        if lie != HONEST:
            with self._telling:
                self._told_lies.append(ToldLie(time.monotonic(), subject(record.path), lie))
        return lie

    @contextlib.contextmanager
    def _passed_on(self, record: Record, *, ranged: bool) -> Iterator[tuple[Answer, Passing]]:
        """Yields the upstream's own response and its body; raises OSError if there is none, and the connection ends."""
        target = record.path + (f"?{record.query}" if record.query else "")
        wanted = (*PASSED_ON, "range") if ranged else PASSED_ON
        headers = {name: value for name in wanted if (value := record.header(name)) is not None}
        upstream = http.client.HTTPConnection(HOST, self._upstream_port, timeout=PATIENCE)
        try:
            upstream.request(record.method, target, headers={"Accept-Encoding": "identity"} | headers)
            response = upstream.getresponse()
            length = int(response.getheader("content-length") or 0)
            yield Answer(response.status, self._kept(response), b""), Passing(response, length)
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            upstream.close()

    def _kept(self, response: http.client.HTTPResponse) -> dict[str, str]:
        headers = {name: value for name, value in response.getheaders() if name.lower() not in HOP_BY_HOP}
        for name, value in headers.items():
            for old, new in self._renamed.items():
                value = value.replace(old, new)
            headers[name] = value
        return headers
