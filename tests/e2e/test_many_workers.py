"""Tests of several workers on one host: one downloads a blob, and another continues when that one is killed."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.conftest import GatewayFactory, Publish
from tests.parts import raw
from tests.parts.gateway import Gateway
from tests.parts.hub import Hub
from tests.parts.images import digest_of
from tests.parts.processes import wait_until
from tests.parts.raw import RawStream
from tests.parts.registry import Registry

from .crowd import at_once
from .datafolder import blob_file, holds, spools
from .test_coalescing import TAIL, blob_url, offer

CROWD, WORKERS = 20, 4
SIZE, HELD_AT = 12_000_000, 4_000_000


@pytest.fixture
def server(hub: Hub, gateway: GatewayFactory) -> Gateway:
    return gateway({"upstreams": {"docker.io": hub.settings()}, "workers": WORKERS})


def filler(server: Gateway, digest: str) -> int:
    """Process id of the worker that writes the spool of a blob."""
    hex_digits = digest.partition(":")[2]
    for pid in server.workers:
        for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
            try:
                opened = Path(f"/proc/{pid}/fd/{entry.name}").readlink().name
                flags = int(entry.read_text().split("flags:")[1].split()[0], 8)
            except FileNotFoundError:  # closed in the meantime
                continue
            if opened.endswith(".part") and hex_digits in opened and flags & os.O_ACCMODE == os.O_RDWR:
                return pid
    raise AssertionError(f"no worker fills {digest}")


@pytest.fixture
def crowd() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def begin(server: Gateway, digest: str, crowd: ExitStack, workers: int = 2) -> list[RawStream]:
    """Starts clients of a blob, until they are spread over `workers` workers."""
    streams: list[RawStream] = []
    while len({worker_of(server, stream) for stream in streams}) < workers:
        assert len(streams) < 10 * CROWD
        new = at_once(CROWD, lambda _: raw.open_stream("GET", blob_url(server, digest)))
        streams += [crowd.enter_context(stream) for stream in new]
    return streams


def worker_of(server: Gateway, stream: RawStream) -> int:
    """Process id at the other end of a connection."""
    local, remote = stream.addresses
    wanted = f"{hex_address(remote)} {hex_address(local)}"
    lines = Path("/proc/net/tcp").read_text().splitlines()
    [inode] = {line.split()[9] for line in lines if wanted in line}  # a line can be listed twice while others change
    for pid in server.workers:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed in the meantime
                if str(link.readlink()) == f"socket:[{inode}]":
                    return pid
    raise AssertionError("no worker has that connection")


def test_twenty_clients_of_four_workers_cost_one_download_and_read_while_it_runs(
    hub: Hub, registry: Registry, published: Publish, server: Gateway, crowd: ExitStack
) -> None:
    digest, content = offer(registry, published, "many workers", SIZE)
    hold = hub.hold(digest, after=HELD_AT)
    streams = begin(server, digest, crowd)
    beginnings = at_once(len(streams), lambda number: streams[number].read(HELD_AT - 100_000))
    assert not hold.released
    assert set(beginnings) == {content[: HELD_AT - 100_000]}
    hold.release()
    rests = at_once(len(streams), lambda number: digest_of(beginnings[number] + streams[number].read_all()))
    assert set(rests) == {digest}
    assert all(stream.complete for stream in streams)
    assert sorted(stream.headers["x-cache"] for stream in streams) == ["COALESCED"] * (len(streams) - 1) + ["MISS"]
    assert hub.count("cdn", "GET", digest) == 1
    wait_until(lambda: spools(server) == [])
    assert holds(server, digest)
    wait_until(lambda: {raw.get(blob_url(server, digest)).headers["x-cache"] for _ in range(CROWD)} == {"HIT"})
    assert hub.count("cdn", "GET", digest) == 1


def test_nobody_in_another_worker_gets_the_tail_before_the_digest_holds(
    hub: Hub, registry: Registry, published: Publish, server: Gateway, crowd: ExitStack
) -> None:
    digest, content = offer(registry, published, "tail of many", SIZE)
    hold = hub.hold(digest, after=SIZE - 1)
    streams = begin(server, digest, crowd)
    for stream in streams:
        assert stream.read(SIZE - TAIL) == content[:-TAIL]
    assert all(stream.idle(0.02) for stream in streams)
    hold.release()
    assert {stream.read_all() for stream in streams} == {content[-TAIL:]}


@pytest.mark.parametrize("kills", [1, 2])
def test_a_killed_filler_costs_its_own_clients_their_answer_and_nobody_else(
    kills: int, hub: Hub, registry: Registry, published: Publish, server: Gateway, crowd: ExitStack
) -> None:
    hub.cdn.url_lifetime = hub.tokens.lifetime = 1
    digest, content = offer(registry, published, f"killed {kills}", SIZE)
    hold = hub.hold(digest, after=HELD_AT)
    streams = begin(server, digest, crowd, kills + 1)
    alive = {number: worker_of(server, stream) for number, stream in enumerate(streams)}
    got = at_once(len(streams), lambda number: streams[number].read(HELD_AT - 100_000))
    for number in range(kills):
        next_hold = hub.hold(digest, after=HELD_AT + (number + 1) * 1_000_000)
        expires = time.monotonic() + 1
        wait_until(lambda: time.monotonic() > expires)  # noqa: B023  so do the token and the address of the blob
        victim = filler(server, digest)
        os.kill(victim, signal.SIGKILL)
        alive = {place: pid for place, pid in alive.items() if pid != victim}
        wait_until(next_hold.reached.is_set, within=30, what="no worker took over")
    hub.cdn.release()
    hold.release()
    whole = at_once(len(streams), lambda number: got[number] + streams[number].read_all())
    assert alive
    assert all(whole[number] == content and streams[number].complete for number in alive)
    assert all(content.startswith(body) for body in whole)
    assert all(whole[number] == content for number, stream in enumerate(streams) if stream.complete)
    assert hub.count("cdn", "GET", digest) <= 1 + kills
    assert {record.status for record in hub.log.select("cdn", "GET", digest)[1:]} == {206}
    assert hub.count("hub", "GET", digest, status=307) == hub.count("cdn", "GET", digest)
    wait_until(lambda: spools(server) == [])
    assert blob_file(server, digest).read_bytes() == content


def test_an_image_without_the_right_gets_nothing_from_another_worker_either(
    hub: Hub, registry: Registry, published: Publish, server: Gateway, crowd: ExitStack
) -> None:
    digest, content = offer(registry, published, "rights of many", SIZE)
    published("big")
    hold = hub.hold(digest, after=HELD_AT)
    streams = begin(server, digest, crowd)
    answers = at_once(CROWD, lambda _: raw.get(blob_url(server, digest, "library/big")))
    assert {answer.status for answer in answers} == {404}
    hold.release()
    assert {stream.read_all() for stream in streams} == {content}
    assert {raw.get(blob_url(server, digest, "library/big")).status for _ in range(CROWD)} == {404}


def hex_address(address: tuple[str, int]) -> str:
    """Formats an address as /proc/net/tcp does."""
    octets = reversed([int(octet) for octet in address[0].split(".")])
    return "".join(f"{octet:02X}" for octet in octets) + f":{address[1]:04X}"
