"""Tests of damaged cached files, and of a cache that is too small for its use."""

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cache.keeper import evicting
from tests.conftest import GatewayFactory, Publish
from tests.parts import raw
from tests.parts.clients import ClientFailed, Skopeo
from tests.parts.gateway import Gateway
from tests.parts.hub import Hub
from tests.parts.images import seeded
from tests.parts.processes import wait_until
from tests.parts.registry import Registry

from .conftest import LongLived
from .datafolder import await_rest, blob_file, error_of, holds, spools

IMAGE = "library/tiny"
SIZE = 300_000


@pytest.fixture(scope="module")
def server(long_lived: LongLived, plain_hub_servers: Hub, published: Publish) -> Gateway:
    published("tiny")
    return long_lived({"upstreams": {"docker.io": plain_hub_servers.settings()}, "cache": {"scrub_rate": "0"}})


@pytest.fixture
def cached(server: Gateway, registry: Registry, hub: Hub, request: pytest.FixtureRequest) -> tuple[str, bytes]:
    """Digest and bytes of a blob that only this test uses."""
    content = seeded(request.node.nodeid, SIZE)
    digest = registry.put_blob(IMAGE, content)
    assert raw.get(url_of(server, digest)).body == content
    await_rest(server, IMAGE, digest)
    hub.log.clear()
    return digest, content


def url_of(server: Gateway, digest: str) -> str:
    return server.proxied_url(f"{IMAGE}/blobs/{digest}")


def cut(path: Path) -> None:
    os.truncate(path, 1000)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def lengthen(path: Path) -> None:
    os.truncate(path, SIZE + 1)


def flip(path: Path) -> None:
    """Flips a byte without changing the size; in a new file, as a bad disk changes a file that nobody writes to."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)


SEEN_IN_SIZE = [Path.unlink, cut, empty, lengthen]


@pytest.mark.parametrize("harm", SEEN_IN_SIZE)
def test_a_damaged_file_is_a_miss_and_is_repaired(
    server: Gateway, cached: tuple[str, bytes], harm: Callable[[Path], None], hub: Hub
) -> None:
    digest, content = cached
    harm(blob_file(server, digest))
    answer = raw.get(url_of(server, digest))
    assert (answer.status, answer.complete, answer.headers["x-cache"]) == (200, True, "MISS")
    assert answer.body == content
    await_rest(server, IMAGE, digest)
    assert blob_file(server, digest).read_bytes() == content
    assert raw.get(url_of(server, digest)).headers["x-cache"] == "HIT"
    assert hub.count("cdn", "GET", digest) == 1


@pytest.mark.parametrize("harm", SEEN_IN_SIZE)
def test_head_and_range_of_a_damaged_file_are_right_as_well(
    server: Gateway, cached: tuple[str, bytes], harm: Callable[[Path], None]
) -> None:
    digest, content = cached
    harm(blob_file(server, digest))
    head = raw.head(url_of(server, digest))
    assert (head.status, head.headers["content-length"], head.headers["x-cache"]) == (200, str(SIZE), "MISS")
    part = raw.get(url_of(server, digest), {"Range": "bytes=1000-1999"})
    assert (part.status, part.body, part.headers["x-cache"]) == (206, content[1000:2000], "MISS")
    await_rest(server, IMAGE, digest)


def test_a_damaged_file_while_the_upstream_is_dead_is_no_empty_answer(
    server: Gateway, cached: tuple[str, bytes], hub: Hub
) -> None:
    digest, content = cached
    empty(blob_file(server, digest))
    hub.stop()
    try:
        answer = raw.get(url_of(server, digest))
        assert (answer.status, error_of(answer)["code"]) == (503, "UNAVAILABLE")
    finally:
        hub.start()
    assert raw.get(url_of(server, digest)).body == content


def verified(server: Gateway, *words: str) -> tuple[int, dict[str, Any]]:
    done = server.cli("cache", "verify", "--json", *words)
    return done.returncode, json.loads(done.stdout)


def test_verify_finds_what_sizes_do_not_show_and_heals_it(server: Gateway, cached: tuple[str, bytes], hub: Hub) -> None:
    digest, content = cached
    assert verified(server)[0] == 0
    flip(blob_file(server, digest))
    status, said = verified(server)
    assert (status, said["damaged"], said["missing"], said["healed"]) == (1, 1, 0, 1)
    assert blob_file(server, digest).read_bytes() == content
    assert hub.count("cdn", "GET", digest) == 1
    assert raw.get(url_of(server, digest)).headers["x-cache"] == "HIT"
    assert verified(server)[0] == 0
    assert [path for path in (server.data / "quarantine").iterdir() if digest[7:] in path.name]


def test_verify_heals_nothing_where_it_is_told_so(server: Gateway, cached: tuple[str, bytes], hub: Hub) -> None:
    digest, content = cached
    flip(blob_file(server, digest))
    status, said = verified(server, "--no-heal", "--rate", "100MiB")
    assert (status, said["damaged"], said["healed"]) == (1, 1, 0)
    assert not holds(server, digest)
    assert hub.count("cdn", "GET", digest) == 0
    answer = raw.get(url_of(server, digest))
    assert (answer.body, answer.headers["x-cache"]) == (content, "MISS")
    await_rest(server, IMAGE, digest)


def test_verify_refuses_a_rate_that_is_none(server: Gateway) -> None:
    assert server.cli("cache", "verify", "--rate", "fast").returncode == 2


def test_a_damaged_manifest_is_found_and_healed_without_a_server(
    hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    layout = published("tiny")
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    assert raw.get(server.proxied_url(f"{IMAGE}/manifests/latest")).status == 200
    server.stop()
    with closing(sqlite3.connect(server.data / "cache.db")) as connection, connection:
        connection.execute("UPDATE manifests SET raw = x'7b7d'")
    status, said = verified(server)
    assert (status, said["damaged"], said["healed"]) == (1, 1, 1)
    server.start()
    answer = raw.get(server.proxied_url(f"{IMAGE}/manifests/{layout.digest}"))
    assert (answer.body, answer.headers["x-cache"]) == (layout.manifest_bytes, "HIT")


def test_the_scrub_finds_and_heals_in_the_background(
    hub: Hub, registry: Registry, published: Publish, gateway: GatewayFactory
) -> None:
    published("tiny")
    content = seeded("scrubbed", SIZE)
    digest = registry.put_blob(IMAGE, content)
    server = gateway({"upstreams": {"docker.io": hub.settings()}, "cache": {"scrub_rate": "64MiB"}})
    assert raw.get(url_of(server, digest)).body == content
    await_rest(server, IMAGE, digest)
    server.stop()
    flip(blob_file(server, digest))
    with closing(sqlite3.connect(server.data / "usage.db")) as connection, connection:
        connection.execute("UPDATE usage SET checked_at = 0")
    server.start()
    wait_until(lambda: "healed" in server.log_text(), what="the scrub healed nothing")
    await_rest(server, IMAGE, digest)
    assert blob_file(server, digest).read_bytes() == content
    assert 'gateway_cache_damaged_total{damage="digest"} 1.0' in raw.get(f"{server.url}/-/metrics").body.decode()


def found_broken(skopeo: Skopeo, reference: str, directory: Path) -> bool:
    """Whether a client refuses what it pulls because of its digest."""
    try:
        skopeo.pull(reference, directory, every_platform=False)
    except ClientFailed as failed:
        assert "Digest did not match" in failed.stderr
        return True
    return False


@pytest.mark.parametrize("workers", [1, 3])
def test_a_pull_that_is_tried_again_has_its_damaged_layer_fetched_again(
    hub: Hub, published: Publish, gateway: GatewayFactory, tmp_path: Path, workers: int
) -> None:
    """The scrub is slow here: what finds the damage is that one client receives one blob twice."""
    layout = published("tiny")
    config = {"workers": workers, "upstreams": {"docker.io": hub.settings()}, "cache": {"scrub_rate": "1KiB"}}
    server, skopeo = gateway(config), Skopeo(tmp_path / "skopeo")
    reference = server.proxied(f"{IMAGE}:latest")
    assert not found_broken(skopeo, reference, tmp_path / "cold")
    layer = json.loads(layout.manifest_bytes)["layers"][0]["digest"]
    await_rest(server, IMAGE, layer)
    content = blob_file(server, layer).read_bytes()
    flip(blob_file(server, layer))
    server.stop()  # its memory of the pull ends with it
    server.start()
    hub.log.clear()
    assert found_broken(skopeo, reference, tmp_path / "first")
    assert "blob_damaged" not in server.log_text()
    assert found_broken(skopeo, reference, tmp_path / "second")
    wait_until(lambda: "healed" in server.log_text(), what="nothing was healed")
    await_rest(server, IMAGE, layer)
    assert not found_broken(skopeo, reference, tmp_path / "third")
    assert blob_file(server, layer).read_bytes() == content
    [line] = [line for line in server.log_text().splitlines() if "blob_damaged" in line]
    assert all(part in line for part in (layer, "damage=digest", str(blob_file(server, layer)), "next pull fetches"))
    assert hub.count("cdn", "GET", layer) == 1


# A small cache.


def test_a_pinned_image_stays_where_others_make_room(
    hub: Hub, registry: Registry, published: Publish, gateway: GatewayFactory
) -> None:
    layout = published("tiny")
    config = {"upstreams": {"docker.io": hub.settings()}, "cache": {"max_size": "2MiB", "scrub_rate": "0"}}
    server = gateway(config)
    assert server.json("cache", "explain", "tiny")["pinned"] is False
    assert server.json("cache", "pin", "tiny:latest")["pinned"] is True
    assert raw.get(server.proxied_url(f"{IMAGE}/manifests/latest")).status == 200
    blobs = [digest for digest in layout.blobs if digest not in layout.manifests]
    for digest in blobs:
        assert raw.get(url_of(server, digest)).complete
    await_rest(server, IMAGE, *blobs)
    for number in range(10):
        other = registry.put_blob(IMAGE, seeded(f"other {number}", 400_000))
        assert raw.get(url_of(server, other)).complete
    wait_until(lambda: "evicted" in server.log_text(), what="nothing was evicted")
    wait_until(lambda: server.json("cache", "status")["bytes"] <= 2 * 1024 * 1024, what="the cap was not kept")
    assert holds(server, *blobs)
    [row] = [row for row in server.json("cache", "list") if row["image"] == IMAGE]
    assert row["pinned"] is True
    assert server.cli("cache", "unpin", "tiny").returncode == 1
    assert server.json("cache", "unpin", "tiny:latest")["pinned"] is False


READERS = 60
BLOBS = 12


@pytest.fixture
def blobs(registry: Registry, published: Publish) -> Iterator[list[tuple[str, bytes]]]:
    published("tiny")
    contents = [seeded(f"crowded {number}", 500_000) for number in range(BLOBS)]
    yield [(registry.put_blob(IMAGE, content), content) for content in contents]


def test_many_readers_of_a_tiny_cache_that_evicts_all_the_time_get_what_they_asked_for(
    hub: Hub, gateway: GatewayFactory, blobs: list[tuple[str, bytes]]
) -> None:
    """No response is ever short, empty or wrong, though files vanish between any two of its steps."""
    config = {"upstreams": {"docker.io": hub.settings()}, "cache": {"max_size": "1MiB", "scrub_rate": "0"}}
    server = gateway(config)
    stop = False

    def evict() -> int:
        """Evicts as the sweep does, from another process, every few milliseconds."""
        rounds = 0
        with evicting(server.data) as once:
            while not stop:
                once()
                rounds += 1
        return rounds

    def read(number: int) -> list[tuple[int, bool, bool]]:
        answers = []
        for step in range(5):
            digest, content = blobs[(number + step) % BLOBS]
            answer = raw.get(url_of(server, digest))
            answers.append((answer.status, answer.complete, answer.body == content))
        return answers

    with ThreadPoolExecutor(READERS + 1) as threads:
        evictions = threads.submit(evict)
        reading = [threads.submit(read, number) for number in range(READERS)]
        seen = {answer for future in reading for answer in future.result()}
        stop = True
        assert evictions.result() > 5
    assert seen == {(200, True, True)}
    wait_until(lambda: spools(server) == [], what="spools were left")
