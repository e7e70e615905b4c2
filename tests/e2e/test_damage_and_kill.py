"""Tests of two faults of one digest: its file is damaged, and the worker that fetches it again is killed."""

import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.conftest import GatewayFactory, Publish
from tests.parts import raw
from tests.parts.gateway import Gateway
from tests.parts.hub import Hub
from tests.parts.processes import wait_until
from tests.parts.registry import Registry

from .crowd import at_once
from .datafolder import await_rest, blob_file, spools
from .test_coalescing import blob_url, offer
from .test_many_workers import begin, filler, worker_of

IMAGE = "library/tiny"
SIZE, HELD_AT, CUT = 8_000_000, 4_000_000, 5_000


def cut(path: Path) -> None:
    os.truncate(path, CUT)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def lengthen(path: Path) -> None:
    os.truncate(path, SIZE + CUT)


def replace(path: Path) -> None:
    """Gives the name to another file, as a person does who copies one."""
    path.unlink(missing_ok=True)
    path.write_bytes(b"\0" * CUT)
    path.chmod(0o400)


def replace_by_the_size(path: Path) -> None:
    """Gives the name to another file of the right size, which only its digest shows to be wrong."""
    path.unlink(missing_ok=True)
    path.write_bytes(b"\0" * SIZE)
    path.chmod(0o400)


def no_more(_: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("harm", "harm_while_followed"),
    [
        (cut, no_more),
        (empty, no_more),
        (lengthen, no_more),
        (replace, no_more),
        (Path.unlink, replace),
        (Path.unlink, replace_by_the_size),
    ],
)
def test_damage_and_a_killed_refetch_leave_the_right_bytes_or_none(
    harm: Callable[[Path], None],
    harm_while_followed: Callable[[Path], None],
    hub: Hub,
    registry: Registry,
    published: Publish,
    gateway: GatewayFactory,
) -> None:
    name = f"damage and kill {harm.__name__} {harm_while_followed.__name__}"
    digest, content = offer(registry, published, name, SIZE)
    config = {"upstreams": {"docker.io": hub.settings()}, "workers": 2, "cache": {"scrub_rate": "0"}}
    server = gateway(config)
    assert raw.get(blob_url(server, digest)).digest == digest
    await_rest(server, IMAGE, digest)

    harm(blob_file(server, digest))
    hold = hub.hold(digest, after=HELD_AT)
    with ExitStack() as crowd:
        streams = begin(server, digest, crowd)
        alive = {number: worker_of(server, stream) for number, stream in enumerate(streams)}
        got = at_once(len(streams), lambda number: streams[number].read(HELD_AT - 100_000))
        harm_while_followed(blob_file(server, digest))
        victim = filler(server, digest)
        os.kill(victim, signal.SIGKILL)
        hub.cdn.release()
        hold.release()
        survivors = [number for number, pid in alive.items() if pid != victim]
        rests = at_once(len(survivors), lambda number: streams[survivors[number]].read_all())
        assert all(got[number] + rest == content for number, rest in zip(survivors, rests, strict=True))
        assert all(streams[number].complete for number in survivors)
    await_rest(server, IMAGE, digest)
    assert_right(server, digest, content)
    wait_until(lambda: spools(server) == [])
    server.stop()
    assert recorded_size(server, digest) == SIZE
    server.start()
    assert_right(server, digest, content)


def assert_right(server: Gateway, digest: str, content: bytes) -> None:
    """Asserts that every worker serves the blob from the cache, whole and right."""
    answers = at_once(10, lambda _: raw.get(blob_url(server, digest)))
    assert {(answer.status, answer.complete, answer.digest) for answer in answers} == {(200, True, digest)}
    assert {answer.headers["x-cache"] for answer in answers} == {"HIT"}
    assert raw.head(blob_url(server, digest)).headers["content-length"] == str(SIZE)
    assert blob_file(server, digest).read_bytes() == content


def recorded_size(server: Gateway, digest: str) -> int:
    with closing(sqlite3.connect(server.data / "cache.db")) as connection:
        [(size,)] = connection.execute("SELECT size FROM blobs WHERE digest = ?", (digest,)).fetchall()
    return int(size)
