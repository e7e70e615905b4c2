"""Prefetching: which downloads start when a manifest was given, and that none happens twice."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cache.index.base import Fact
from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.oci.media_types import OCI_MANIFEST
from cache.proxy.prefetch import BLOBS, PER_SOURCE, Prefetcher, chosen
from cache.proxy.repository import ProxiedRepository
from cache.upstream.errors import Unavailable
from cache.values import Source
from tests.cache.download.scripted import ScriptedBody
from tests.cache.proxy.bench import HIT, MISS, Bench, content, until
from tests.cache.proxy.test_gated import index_over
from tests.cache.samples import ANONYMOUS, APP, LATEST, WEB


def image(name: str, layers: int, media_type: str = "application/x") -> tuple[Manifest, dict[Digest, bytes]]:
    contents = [f"{name} {number}".encode() * 100 for number in range(layers + 1)]
    blobs = {Digest.of(blob): blob for blob in contents}
    config, *others = [{"mediaType": "application/c", "digest": str(d), "size": len(b)} for d, b in blobs.items()]
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config,
        "layers": [other | {"mediaType": media_type} for other in others],
    }
    return Manifest.parse(OCI_MANIFEST, json.dumps(document).encode()), blobs


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    bench.shared.prefetcher = Prefetcher(bench.tasks)
    yield bench
    await bench.tasks.close()
    bench.index.close()


def publish(bench: Bench, name: str = "one", layers: int = 2) -> tuple[Manifest, list[Digest]]:
    manifest, blobs = image(name, layers)
    bench.script.publish(manifest)
    bench.script.blobs |= blobs
    return manifest, list(blobs)


async def give(bench: Bench, repository: ProxiedRepository | None = None) -> None:
    """Give a client the manifest, and start the downloads that may start with it, as the handler does."""
    repository = repository or bench.open()
    repository.blobs.prefetch(await repository.manifest(LATEST))


def gets(bench: Bench) -> int:
    return bench.script.calls.count("get blob")


async def arrived(bench: Bench, *digests: Digest) -> None:
    await until(lambda: all(bench.store.stat(digest) for digest in digests) and not bench.flights)


async def test_config_and_layers_start_with_a_new_manifest(bench: Bench) -> None:
    _, digests = publish(bench)
    await give(bench)
    await arrived(bench, *digests)
    assert gets(bench) == 3
    for digest in digests:
        found = await bench.open().blob(digest)
        assert (found.status, Digest.of(await content(found))) == (HIT, digest)
    assert gets(bench) == 3


async def test_what_nothing_can_refuse_is_fetched_while_its_manifest_is_recorded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, digests = publish(bench)
    record, recordable = bench.index.record, asyncio.Event()

    async def held(*facts: Fact) -> None:
        if any(isinstance(fact, Manifest) for fact in facts):
            await recordable.wait()
        await record(*facts)

    monkeypatch.setattr(bench.index, "record", held)
    given = asyncio.create_task(give(bench, bench.open(ahead=True)))
    await until(lambda: gets(bench) == 3)
    assert not given.done()
    recordable.set()
    await given
    await arrived(bench, *digests)
    assert gets(bench) == 3


async def test_a_head_and_a_refresh_fetch_nothing_ahead(bench: Bench) -> None:
    publish(bench)
    bench.script.tells_digest = False
    await bench.open(ahead=True).stat_manifest(LATEST)
    await bench.index.forget(ANONYMOUS, APP)
    await bench.open(ahead=True).refresh(LATEST)
    await until(lambda: len(bench.tasks) == 0)
    assert bench.script.calls == ["get", "get"]


async def test_the_first_request_for_a_prefetched_blob_is_a_miss_and_later_ones_coalesce(bench: Bench) -> None:
    _, digests = publish(bench, layers=0)
    bench.script.bodies[APP] = body = ScriptedBody(len(bench.script.blobs[digests[0]]))
    await give(bench)
    await until(lambda: body.opened == 1)
    found = [await bench.open().blob(digests[0]) for _ in range(3)]
    assert [one.status.outcome.value for one in found] == ["MISS", "COALESCED", "COALESCED"]
    body.send(bench.script.blobs[digests[0]])
    body.end()
    assert {Digest.of(await content(one)) for one in found} == {digests[0]}
    assert gets(bench) == 1
    await bench.landed()


async def test_a_blob_whose_download_was_begun_ahead_is_opened_without_a_lookup(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lookup(*_: object) -> None:
        raise AssertionError("looked up")

    _, digests = publish(bench, layers=0)
    bench.script.bodies[APP] = body = ScriptedBody(len(bench.script.blobs[digests[0]]))
    await give(bench)
    await until(lambda: body.opened == 1)
    with monkeypatch.context() as patched:
        for name in ("linked", "known_at", "find_size"):
            patched.setattr(bench.index, name, lookup)
        assert (found := await bench.open().blob(digests[0])).status == MISS
        with pytest.raises(AssertionError, match="looked up"):
            await bench.open(WEB).blob(digests[0])  # of another image, whose right is not proved
    body.send(bench.script.blobs[digests[0]])
    body.end()
    assert Digest.of(await content(found)) == digests[0]
    await bench.landed()


async def test_a_cached_manifest_starts_nothing(bench: Bench) -> None:
    publish(bench)
    await bench.open().manifest(LATEST)
    await give(bench)
    assert (len(bench.flights), gets(bench)) == (0, 0)


async def test_a_cached_blob_is_not_downloaded_again(bench: Bench) -> None:
    _, digests = publish(bench)
    for digest in digests:
        await content(await bench.open().blob(digest))
    await bench.landed()
    assert gets(bench) == 3
    await give(bench)
    await give(bench, bench.open(WEB))  # stored for another image: a HEAD is enough, once a client requests it
    await until(lambda: len(bench.tasks) == 0)
    assert gets(bench) == 3
    assert "head blob" not in bench.script.calls


async def test_a_short_quota_is_left_for_what_clients_request(bench: Bench) -> None:
    def spare(source: Source) -> bool:
        assert source == ANONYMOUS
        return False

    bench.shared.prefetcher = Prefetcher(bench.tasks, spare)
    publish(bench)
    await give(bench)
    assert (len(bench.tasks), gets(bench)) == (0, 0)


async def test_an_upstream_that_fails_meanwhile_troubles_nobody(bench: Bench) -> None:
    _, digests = publish(bench)
    bench.script.failures["get blob", APP] = Unavailable("down")
    await give(bench)
    await until(lambda: len(bench.tasks) == 0)
    bench.script.failures.clear()
    found = await bench.open().blob(digests[0])
    assert found.status == MISS
    await content(found)
    await bench.landed()


async def test_what_nobody_requests_does_not_hold_its_place_for_long(bench: Bench) -> None:
    bench.shared.prefetcher = Prefetcher(bench.tasks, hold_seconds=0.01)
    _, digests = publish(bench, layers=0)
    bench.script.bodies[APP] = body = ScriptedBody(1_000_000_000)
    await give(bench)
    await until(lambda: body.opened == 1)
    await until(lambda: bench.shared.prefetcher is not None and not bench.shared.prefetcher._running)
    assert bench.flights.find(ANONYMOUS, digests[0]) is not None  # the flight waits for readers as long as any other
    body.fail(Unavailable("over"))
    await bench.landed()


async def test_only_so_many_start_at_once_per_source(bench: Bench) -> None:
    bench.script.bodies[APP] = body = ScriptedBody(1_000_000, responds=False)
    later = [ScriptedBody(1_000_000, responds=False) for _ in range(4 * 10)]
    body.later = list(later)
    for name in ("one", "two", "three", "four"):
        publish(bench, name, layers=9)
        await bench.index.forget(ANONYMOUS, APP)
        await give(bench)
    await until(lambda: body.opened == PER_SOURCE)
    assert len(bench.flights) == PER_SOURCE == 2 * BLOBS
    for each in (body, *later):
        each.respond(Unavailable("over"))
    await bench.landed()


def test_of_an_image_the_config_and_the_first_layers_are_chosen_and_of_an_index_nothing() -> None:
    manifest, blobs = image("one", 9)
    assert chosen(manifest) == list(blobs)[:BLOBS]
    assert chosen(index_over(manifest)) == []
    huge = json.loads(manifest.raw)
    huge["layers"][1]["size"] = 64 * 1024 * 1024 + 1
    first, second, _, fourth = list(blobs)[:BLOBS]
    assert chosen(Manifest.parse(OCI_MANIFEST, json.dumps(huge).encode())) == [first, second, fourth]
    foreign, blobs = image("one", 2, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
    assert chosen(foreign) == list(blobs)[:1]
    restricted, blobs = image("one", 2, "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")
    assert chosen(restricted) == list(blobs)[:1]
