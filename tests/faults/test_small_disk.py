"""Tests of a small or full disk: all content is served verified, and content that cannot be kept is not."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import GatewayFactory
from tests.e2e.datafolder import await_rest, holds
from tests.parts import raw
from tests.parts.gateway import Gateway
from tests.parts.images import MB, digest_of, seeded
from tests.parts.liar import Liar
from tests.parts.processes import wait_until
from tests.parts.registry import Registry

from .clients import send_request
from .disk import SmallDisk
from .ledger import Kind, Seen
from .library import MIB, Image, make, publish
from .push_ledger import PushLedger
from .push_uploads import OCTETS
from .pushers import PROJECT, create_pusher
from .remains import leftovers, unrest

SIZE = 64 * MIB
UNLIMITED = {"descriptors": 1 << 30, "threads": 1 << 30}


@pytest.fixture
def disk(scratch: Path) -> Iterator[SmallDisk]:
    """Mounts 64 MiB at the data folder of the server `small`; it is requested before `gateway`, so it outlives the
    server."""
    with SmallDisk(scratch / "small" / "data", SIZE) as disk:
        yield disk


@pytest.fixture(scope="session")
def middling(registry: Registry) -> list[Image]:
    """Publishes eight images of 12 MB; some fit on the disk, not all."""
    images = [make(f"faults/middling-{number}", seeded(f"middling {number}", 12 * MB)) for number in range(8)]
    for image in images:
        publish(image, registry)
    return images


def pull(server: Gateway, image: Image) -> Seen:
    url = server.proxied_url(f"{image.name}/blobs/{image.layer.digest}")
    return send_request(Kind.BLOB, url, image.name, image.layer)


def right(seen: Seen) -> bool:
    return seen.status == 200 and seen.complete and seen.right


def unexplained(server: Gateway) -> list[str]:
    """Leftovers without an explanation. On a full disk a file is deleted before its row, for lack of room; that row is
    a miss."""
    return [each for each in leftovers(server) if "has a row" not in each]


def test_what_is_larger_than_the_disk_is_served_verified_and_not_kept(
    disk: SmallDisk, gateway: GatewayFactory, registry: Registry, large: Image, middling: list[Image]
) -> None:
    server = gateway({"upstreams": {"docker.io": registry.settings()}}, name="small")
    assert right(pull(server, middling[0]))
    with ThreadPoolExecutor(3) as threads:
        pulled = list(threads.map(lambda _: pull(server, large), range(3)))
    assert all(map(right, pulled)), pulled
    assert right(pull(server, middling[0]))
    wait_until(lambda: unrest(server, UNLIMITED) == [], within=30, what="the server does not come to rest")
    assert server.stop() == 0
    assert unexplained(server) == []


def test_more_than_fits_is_served_and_the_disk_stays_usable(
    disk: SmallDisk, gateway: GatewayFactory, registry: Registry, middling: list[Image]
) -> None:
    server = gateway({"upstreams": {"docker.io": registry.settings()}}, name="small")
    for image in [*middling, *middling]:
        assert right(pull(server, image))
    with ThreadPoolExecutor(len(middling)) as threads:
        pulled = list(threads.map(lambda image: pull(server, image), middling))
    assert all(map(right, pulled)), pulled
    wait_until(lambda: unrest(server, UNLIMITED) == [], within=30, what="the server does not come to rest")
    assert server.stop() == 0
    assert unexplained(server) == []


FILES, BLOBS = 330, 260
"""Blobs take a file each, and folders: 160 of them for so many blobs."""


@pytest.fixture
def disk_of_few_files(scratch: Path) -> Iterator[SmallDisk]:
    """Mounts a disk with much space for few files; it is requested before `gateway`, so it outlives the server."""
    with SmallDisk(scratch / "few" / "data", SIZE, FILES) as disk:
        yield disk


def pull_blobs(server: Gateway, digests: list[str]) -> None:
    for digest in digests:
        assert raw.get(server.proxied_url(f"library/tiny/blobs/{digest}")).digest == digest


def test_a_disk_without_inodes_evicts_and_keeps_what_is_new(
    disk_of_few_files: SmallDisk, gateway: GatewayFactory, liar: Liar
) -> None:
    digests = [liar.offer_blob(seeded(f"small {number}", 1000)) for number in range(BLOBS)]
    config = {"upstreams": {"docker.io": liar.settings()}, "cache": {"scrub_rate": "0", "prefetch": False}}
    server = gateway(config, name="few")
    pull_blobs(server, digests)
    await_rest(server, "library/tiny", digests[-1])
    wait_until(lambda: disk_of_few_files.free_files >= FILES // 20, what="too few files were deleted")
    kept = [digest for digest in digests if holds(server, digest)]
    assert 10 < len(kept) < BLOBS
    assert server.stop() == 0
    assert unexplained(server) == []


def test_a_server_starts_on_a_disk_without_inodes(
    disk_of_few_files: SmallDisk, gateway: GatewayFactory, liar: Liar
) -> None:
    digests = [liar.offer_blob(seeded(f"small {number}", 1000)) for number in range(BLOBS)]
    config = {"upstreams": {"docker.io": liar.settings()}, "cache": {"scrub_rate": "0", "prefetch": False}}
    server = gateway(config, name="few")
    pull_blobs(server, digests[:100])
    assert server.stop() == 0
    while disk_of_few_files.free_files:
        (disk_of_few_files.path / f"not-ours-{disk_of_few_files.free_files}").touch()
    server.start()
    pull_blobs(server, digests[100:])
    await_rest(server, "library/tiny", digests[-1])
    assert server.stop() == 0
    assert unexplained(server) == []


def test_a_server_starts_and_serves_on_a_full_disk(
    disk: SmallDisk, gateway: GatewayFactory, registry: Registry, large: Image, middling: list[Image]
) -> None:
    server = gateway({"upstreams": {"docker.io": registry.settings()}}, name="small")
    assert right(pull(server, middling[0]))
    assert right(pull(server, middling[1]))
    assert server.stop() == 0
    disk.fill()
    server.start()
    for image in (middling[0], middling[2], large):
        assert right(pull(server, image))
    assert server.stop() == 0
    assert unexplained(server) == []


def test_a_first_push_to_a_disk_full_of_cached_images_is_kept(
    disk: SmallDisk, gateway: GatewayFactory, registry: Registry, middling: list[Image]
) -> None:
    server = gateway({"upstreams": {"docker.io": registry.settings()}}, name="small")
    client = create_pusher(server).client(PushLedger())
    assert right(pull(server, middling[0]))
    await_rest(server, middling[0].name, middling[0].layer.digest)
    disk.fill()
    fill_log(server.data / "gateway.db")
    content = seeded("pushed to a full disk", 2 * MB)
    path = f"{PROJECT}/full/blobs/uploads/?digest={digest_of(content)}"
    answer = client.send("POST with a blob", "POST", path, (201,), OCTETS, content)
    assert answer.status == 201, answer.body
    assert server.stop() == 0
    assert unexplained(server) == []


def fill_log(database: Path) -> None:
    """Fill the write-ahead log of a database, so that its next transaction finds no room either."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        with pytest.raises(sqlite3.OperationalError):
            connection.execute("CREATE TABLE filler (bytes BLOB)")
            for _ in range(1000):
                connection.execute("INSERT INTO filler VALUES (zeroblob(3000))")
