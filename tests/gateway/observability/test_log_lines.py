"""Log files that nobody reads, that are closed, or whose disk is full: nothing waits, and lost lines are counted."""

import fcntl
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.observability import log_lines
from gateway.observability.log_lines import BriefLines, QueuedLines
from tests.conftest import GatewayFactory
from tests.parts import raw
from tests.parts.gateway import Gateway
from tests.parts.images import seeded
from tests.parts.liar import Liar
from tests.parts.processes import wait_until

SMALLEST_PIPE = 4096


class Gate:
    """A log file that takes lines when it is open, and can be full."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.full = False
        self.entered, self.opened = threading.Event(), threading.Event()

    def write(self, text: str, /) -> int:
        self.entered.set()
        assert self.opened.wait(60)
        if self.full:
            raise OSError("no space left")
        self.written.append(text)
        return len(text)

    def flush(self) -> None: ...


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


def test_lines_beyond_the_queue_are_dropped_and_counted(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_lines, "QUEUE_CHARACTERS", 100)
    dropped: list[int] = []
    lines = QueuedLines(gate, dropped.append)
    lines.write("first\n")
    assert gate.entered.wait(60)
    for number in range(20):
        lines.write(f"{number:09}\n")
    gate.opened.set()
    lines.close()
    assert "".join(gate.written) == "first\n" + "".join(f"{number:09}\n" for number in range(10))
    assert dropped == [10]


def test_lines_that_a_full_disk_refuses_are_counted_when_it_takes_some_again(gate: Gate) -> None:
    counted: list[int] = []
    reported = threading.Event()

    def report(count: int) -> None:
        counted.append(count)
        reported.set()

    lines = QueuedLines(gate, report)
    gate.full = True
    gate.opened.set()
    for _ in range(3):
        gate.entered.clear()
        lines.write("one\ntwo\n")
        assert gate.entered.wait(60)
    gate.full = False
    wait_until(lambda: lines.write("last\n") == 5 and reported.wait(0.05))
    assert 1 <= counted[0] <= 8
    lines.close()


def test_the_last_lines_are_not_waited_for_if_nothing_takes_them(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_lines, "CLOSE_SECONDS", 0.01)
    lines = QueuedLines(gate, lambda _: None)
    lines.write("stuck\n")
    assert gate.entered.wait(60)
    lines.close()
    assert gate.written == []


@pytest.fixture
def full_pipe() -> Iterator[tuple[int, int]]:
    """A pipe that takes nothing more; the ends for reading and writing."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    yield reading, writing
    for end in (reading, writing):
        with suppress(OSError):
            os.close(end)


def test_a_process_without_threads_does_not_wait_for_a_full_pipe(full_pipe: tuple[int, int]) -> None:
    reading, writing = full_pipe
    dropped: list[int] = []
    with os.fdopen(writing, "w", closefd=False) as file:
        lines = BriefLines(file, dropped.append)
        lines.write("one\n")
        lines.write("two\nthree\n")
        assert dropped == []
        while os.read(reading, 65536)[-1:] == b"x" and not room(writing):
            pass
        lines.write("four\n")
    assert dropped == [3]


def room(writing: int) -> bool:
    os.set_blocking(writing, False)
    try:
        return bool(os.write(writing, b"\n"))
    except BlockingIOError:
        return False
    finally:
        os.set_blocking(writing, True)


def test_a_write_whose_room_another_process_took_is_given_up(
    full_pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_lines, "WRITE_SECONDS", 0.05)
    with os.fdopen(full_pipe[1], "w", closefd=False) as file:
        lines = BriefLines(file, lambda _: None)
        assert not lines._written("there was room a moment ago\n")
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_pipe_that_was_closed_is_no_error(full_pipe: tuple[int, int]) -> None:
    reading, writing = full_pipe
    os.close(reading)
    with os.fdopen(writing, "w", closefd=False) as file:
        BriefLines(file, lambda _: None).write("nobody reads this\n")


# Servers.


@pytest.fixture
def pipe(scratch: Path) -> Iterator[tuple[Path, int]]:
    """A pipe with a name, and a descriptor for reading, which holds little."""
    path = scratch / "stderr"
    os.mkfifo(path)
    descriptor = os.open(path, os.O_RDWR)
    fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, SMALLEST_PIPE)
    yield path, descriptor
    with suppress(OSError):
        os.close(descriptor)


@pytest.fixture
def server(gateway: GatewayFactory, liar: Liar, pipe: tuple[Path, int]) -> Gateway:
    """A server with one worker, whose stderr is the pipe."""
    server = gateway({"upstreams": {"docker.io": liar.settings()}}, start=False)
    server.process.argv = ["sh", "-c", 'exec "$@" 2>"$0"', str(pipe[0]), *server.process.argv]
    server.start()
    return server


def fill(descriptor: int) -> None:
    """Write into the pipe until it takes nothing more."""
    while room(descriptor):
        pass


def assert_it_works(server: Gateway, liar: Liar, name: str) -> None:
    """Pull a blob, kill the worker, and pull another one from the next worker."""
    for number in range(2):
        content = seeded(f"{name} {number}", 100_000)
        url = server.proxied_url(f"library/one/blobs/{liar.offer_blob(content)}")
        for _ in range(2):
            assert raw.get(url).body == content
        worker = server.worker
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda worker=worker: server.workers not in ([], [worker]))  # type: ignore[misc]


def test_a_log_that_nobody_reads_stops_nothing(server: Gateway, liar: Liar, pipe: tuple[Path, int]) -> None:
    fill(pipe[1])
    assert_it_works(server, liar, "full")
    assert server.stop() == 0


def test_a_log_that_nobody_reads_takes_bounded_memory_and_tells_what_is_missing(
    server: Gateway, pipe: tuple[Path, int]
) -> None:
    fill(pipe[1])
    long = f"{server.url}/v2/{'x' * 8000}"
    for _ in range(2 * log_lines.QUEUE_CHARACTERS // 8000):
        raw.get(long)
    found = bytearray()

    def read() -> None:
        while part := os.read(pipe[1], 65536):
            found.extend(part)
            if b"end of the test" in part:
                return

    reader = threading.Thread(target=read)
    reader.start()
    wait_until(lambda: raw.get(f"{server.url}/nothing").status == 404 and b"log_lines_dropped" in found)
    os.write(pipe[1], b"end of the test")
    reader.join(60)
    count = re.search(rb"log_lines_dropped +count=(\d+)", found)
    assert count
    assert int(count[1]) > 100
    assert len(found) < 1.5 * log_lines.QUEUE_CHARACTERS


def test_a_log_whose_reader_has_left_stops_nothing(server: Gateway, liar: Liar, pipe: tuple[Path, int]) -> None:
    os.close(pipe[1])
    assert_it_works(server, liar, "closed")
    assert server.stop() == 0
