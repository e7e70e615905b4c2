"""Tests of a data folder that is too small for a pull: every client gets all bytes, verified, and the server
continues."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import GatewayFactory
from tests.parts import lies, raw
from tests.parts.disk import SmallDisk
from tests.parts.gateway import Gateway
from tests.parts.images import digest_of, seeded
from tests.parts.liar import Liar
from tests.parts.lies import Lie
from tests.parts.processes import wait_until

from .crowd import at_once
from .datafolder import await_rest, holds, spools
from .test_coalescing import blob_url

DISK, SIZE, CROWD = 32, 48_000_000, 4


@pytest.fixture
def server(scratch: Path, liar: Liar, gateway: GatewayFactory) -> Iterator[Gateway]:
    disk = SmallDisk(scratch / "gateway" / "data", DISK)
    yield gateway({"upstreams": {"docker.io": liar.settings()}, "workers": 2})
    disk.unmount()


def test_a_blob_larger_than_the_disk_comes_whole_to_every_client(liar: Liar, server: Gateway) -> None:
    content = seeded("larger than the disk", SIZE)
    digest = liar.offer_blob(content)
    hold = lies.stalled(20_000_000).hold
    assert hold is not None
    liar.behave(digest, Lie(hold=hold).only(1), "GET")
    streams = at_once(CROWD, lambda _: raw.open_stream("GET", blob_url(server, digest)))
    begun = at_once(CROWD, lambda number: streams[number].read(10_000_000))
    hold.release()
    assert set(at_once(CROWD, lambda number: digest_of(begun[number] + streams[number].read_all()))) == {digest}
    for stream in streams:
        assert stream.complete
        stream.close()
    assert not holds(server, digest)
    wait_until(lambda: spools(server) == [])
    # Content that fits is stored as always; content that does not fit is served again.
    small = liar.offer_blob(seeded("small", 1_000_000))
    assert raw.get(blob_url(server, small)).digest == small
    await_rest(server, "library/tiny", small)
    assert raw.get(blob_url(server, digest)).digest == digest


def test_wrong_bytes_complete_for_nobody_on_a_full_disk_either(liar: Liar, server: Gateway) -> None:
    content = seeded("wrong and larger than the disk", SIZE)
    digest = liar.offer_blob(content)
    liar.behave(digest, lies.flipped(5), "GET")
    for answer in at_once(CROWD, lambda _: raw.get(blob_url(server, digest))):
        assert not answer.complete
    wait_until(lambda: spools(server) == [])
    liar.honest()
    assert raw.get(blob_url(server, digest)).digest == digest
