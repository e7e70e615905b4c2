"""Tests that one request in is at most one handled, and that every connection ends: alone and behind usual reverse
proxies."""

import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from tests.parts import raw
from tests.parts.gateway import Gateway
from tests.parts.processes import HOST, wait_until
from tests.parts.proxies import RECOMMENDED, FrontProxy, Haproxy, Nginx

from .conftest import descriptors
from .vectors import MARK, VECTORS, Vector

AT_ONCE = 16
BOUND = 8.0
PROXY_BOUND = 2.0
WITHOUT_STATUS = 0
"""The status of a response in HTTP/0.9, by proxies that still speak it."""

MARK_PATTERN = re.compile(r"mark-\d{5}")
_FINAL = re.compile(rb"HTTP/1\.[01] ([2-5]\d\d)")
_numbers = count()

every_vector = pytest.mark.parametrize("vector", [pytest.param(vector, id=vector.name) for vector in VECTORS])


@dataclass(frozen=True)
class Conversation:
    """The result of a vector. `ended`: the other side closed in time. `next_is_own`: a plain request by another client
    then got its own response."""

    mark: str
    answers: tuple[int, ...]
    ended: bool
    next_is_own: bool


def new_mark() -> str:
    return f"mark-{next(_numbers):05}"


def converse(port: int, vector: Vector, bound: float) -> Conversation:
    mark = new_mark()
    received, ended = exchange(port, vector, mark.encode(), bound)
    answers = [int(status) for status in _FINAL.findall(received)]
    if received and not answers:
        answers = [WITHOUT_STATUS]
    return Conversation(mark, tuple(answers), ended, probe(port))


def exchange(port: int, vector: Vector, mark: bytes, bound: float) -> tuple[bytes, bool]:
    deadline = time.monotonic() + bound
    received = b""
    with socket.create_connection((HOST, port), timeout=bound) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):  # it may respond and close before it has read everything
            for piece in vector.pieces(mark):
                connection.sendall(piece)
        if vector.leaves:
            return b"", True
        try:
            while part := connection.recv(65_536):
                received += part
                connection.settimeout(max(0.01, deadline - time.monotonic()))
        except TimeoutError:
            return received, False
        except ConnectionError:
            pass
    return received, True


def probe(port: int) -> bool:
    """Whether a plain request gets its own response; on a connection out of step it would get another's."""
    path = f"/probes/{new_mark()}"
    answer = raw.get(f"http://{HOST}:{port}{path}", timeout=BOUND)
    return answer.complete and path.encode() in answer.body


def converse_all(port: int, bound: float) -> dict[str, Conversation]:
    with ThreadPoolExecutor(AT_ONCE) as threads:
        found = threads.map(lambda vector: converse(port, vector, bound), VECTORS)
        return dict(zip([vector.name for vector in VECTORS], found, strict=True))


def handled(server: Gateway) -> dict[str, list[str]]:
    """Read the requests that reached the application from the log: mark to paths."""
    found: dict[str, list[str]] = {}
    for line in server.log_text().splitlines():
        entry = json.loads(line) if line.startswith("{") and line.endswith("}") else {}
        if entry.get("event") == "request" and (mark := MARK_PATTERN.search(entry["path"])):
            found.setdefault(mark[0], []).append(entry["path"])
    return found


def caught_up(server: Gateway) -> dict[str, list[str]]:
    """Read what was handled until now: a request that is sent now appears in the log after all that ended before."""
    mark = new_mark()
    raw.get(f"{server.url}/{mark}")
    wait_until(lambda: mark in handled(server))
    return handled(server)


def test_there_are_enough_vectors_each_with_a_name_of_its_own() -> None:
    assert len({vector.name for vector in VECTORS}) == len(VECTORS) >= 40
    assert len(new_mark()) == len(MARK)


def settled_descriptors(server: Gateway) -> int:
    """Count the open descriptors, once a server has opened what it opens in its first moments."""
    looks = [-1]

    def unchanged() -> bool:
        looks.append(descriptors(server.worker))
        return len(looks) > 50 and len(set(looks[-50:])) == 1

    wait_until(unchanged, within=30, what="descriptors come and go")
    return looks[-1]


@pytest.fixture(scope="module")
def alone(shared: Gateway) -> tuple[dict[str, Conversation], dict[str, list[str]]]:
    """Send each vector to our server; what came back, and what was handled."""
    before = settled_descriptors(shared)
    conversations = converse_all(shared.port, BOUND)
    wait_until(lambda: descriptors(shared.worker) <= before, within=30, what="descriptors are left behind")
    return conversations, caught_up(shared)


@every_vector
def test_alone_it_is_answered_or_closed_as_the_table_says(
    vector: Vector, alone: tuple[dict[str, Conversation], dict[str, list[str]]], target: Gateway
) -> None:
    found = alone[0][vector.name]
    paths = alone[1].get(found.mark, [])
    assert found.ended
    assert found.next_is_own
    assert len(paths) == vector.handled
    assert sum(path.startswith("/smuggled") for path in paths) == vector.smuggled
    if not vector.leaves:
        assert (found.answers[0] if found.answers else None) in vector.answers
        assert len(found.answers) <= vector.requests


@pytest.fixture(scope="module", params=["nginx", "nginx as recommended", "haproxy"])
def front(
    request: pytest.FixtureRequest, shared: Gateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FrontProxy]:
    directory: Path = tmp_path_factory.mktemp("front")
    proxy: FrontProxy
    if request.param == "haproxy":
        proxy = Haproxy(directory, shared.port)
    else:
        proxy = Nginx(directory, shared.port, RECOMMENDED if "recommended" in request.param else ())
    proxy.start()
    yield proxy
    proxy.stop()


@pytest.fixture(scope="module")
def behind(front: FrontProxy, shared: Gateway) -> tuple[dict[str, Conversation], dict[str, list[str]]]:
    """Send each vector to a proxy before our server; what came back, and what was handled."""
    return converse_all(front.port, PROXY_BOUND), caught_up(shared)


@every_vector
def test_behind_a_proxy_no_more_is_handled_than_was_sent(
    vector: Vector, behind: tuple[dict[str, Conversation], dict[str, list[str]]], target: Gateway
) -> None:
    """The proxy may read the bytes in its own way and wait for more of them as long as it likes; what it passes on is
    answered, once each, and every client gets its own answer."""
    found = behind[0][vector.name]
    paths = behind[1].get(found.mark, [])
    assert found.next_is_own
    assert len(paths) <= vector.requests
    if not vector.leaves:
        assert len(paths) <= len(found.answers)
