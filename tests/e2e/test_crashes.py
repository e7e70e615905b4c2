"""Tests of crashes: a worker that dies at any step of a fill leaves the whole blob or nothing, and no stray file."""

import sqlite3
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import GatewayFactory, Publish
from tests.parts import raw
from tests.parts.gateway import Gateway
from tests.parts.hub import Hub
from tests.parts.processes import wait_until
from tests.parts.registry import Registry

from .datafolder import await_rest, blob_file, spools
from .test_coalescing import blob_url, offer

SIZE = 6_000_000
STEPS = [
    "lease.taken",
    "spool.create",
    "sidecar.create",
    "sidecar.written@1",
    "sidecar.written@2",
    "spool.write@1",
    "spool.write@4",
    "spool.marked",
    "spool.sealed",
    "spool.synced",
    "spool.adopted",
    "flight.committed",
    "flight.recorded",
]
"""Steps of one fill, in the order in which it passes them."""

AT_REST = ("spool.write@4", "spool.marked", "spool.synced", "spool.adopted")


def armed(step: str) -> str:
    name, at, number = step.partition("@")
    return f"{name}=exit{at}{number}" if at else f"{name}=exit*1"


def assert_sound(server: Gateway, digest: str, content: bytes) -> None:
    """Asserts that every file with a final name is complete, and that the databases are intact."""
    folder = server.data / "cache"
    for file in folder.rglob("*"):
        if file.is_file():
            assert (file, file.read_bytes()) == (blob_file(server, digest), content)
    for database in (server.data / "cache.db", server.data / "gateway.db"):
        with sqlite3.connect(database) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


@pytest.mark.parametrize(
    ("step", "restart"),
    [(step, "worker") for step in STEPS] + [(step, "server") for step in STEPS if step in AT_REST],
)
def test_a_death_at_any_step_leaves_the_blob_or_nothing(
    step: str, restart: str, hub: Hub, registry: Registry, published: Publish, gateway: GatewayFactory
) -> None:
    digest, content = offer(registry, published, f"crash {step} {restart}", SIZE)
    server = gateway({"upstreams": {"docker.io": hub.settings()}}, environment={"FAILPOINTS": armed(step)})
    pid = server.worker
    with suppress(raw.BrokenHead, ConnectionError), raw.open_stream("GET", blob_url(server, digest)) as stream:
        got = stream.read_all()
        assert content.startswith(got)
        assert stream.complete == (got == content)  # a step after verification may come when all bytes were sent
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), what=f"no worker died at {step}")
    if restart == "server":
        server.kill()
        assert_sound_files(server, digest, content)
        server = gateway({"upstreams": {"docker.io": hub.settings()}})
    answer = raw.get(blob_url(server, digest))
    assert (answer.status, answer.complete, answer.digest) == (200, True, digest)
    await_rest(server, "library/tiny", digest)
    wait_until(lambda: spools(server) == [], what=f"left behind: {spools(server)}")
    assert hub.count("cdn", "GET", digest) <= 2
    server.stop()
    assert_sound(server, digest, content)


def assert_sound_files(server: Gateway, digest: str, content: bytes) -> None:
    file = blob_file(server, digest)
    assert not file.exists() or file.read_bytes() == content
