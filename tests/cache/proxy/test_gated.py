"""GatedRepository over a real index and store: what is served in a cooldown, and what is withheld."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cache.oci.digest import Digest
from cache.oci.errors import Denied, UpstreamUnavailable
from cache.oci.manifest import Manifest
from cache.oci.media_types import OCI_INDEX, OCI_MANIFEST
from cache.oci.names import RepositoryName, Tag
from cache.policy.gate import CooldownAction, Gate
from cache.proxy.gated import GatedImage, GatedRepository
from cache.proxy.repository import ProxiedRepository
from cache.repository import FoundBlob
from cache.upstream.errors import Unavailable
from cache.values import Ancestor, Outcome, Source, TagPointer
from tests.cache.proxy.bench import TTL, Bench, ScriptedClient, content
from tests.cache.samples import ANONYMOUS, APP, LATEST

DAY = timedelta(days=1)
COOL = Gate(cooldown=3 * DAY)
V1 = Tag("v1")


def image(seed: str, *layers: bytes, created: str | None = None) -> tuple[Manifest, dict[Digest, bytes]]:
    """A manifest, and the blobs that it refers to; the config says when it was made."""
    config = json.dumps({"seed": seed} | ({"created": created} if created else {})).encode()
    blobs = {Digest.of(blob): blob for blob in (config, *layers)}
    first, *others = [{"mediaType": "application/x", "digest": str(d), "size": len(b)} for d, b in blobs.items()]
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": first, "layers": others}
    return Manifest.parse(OCI_MANIFEST, json.dumps(document).encode()), blobs


def index_over(*children: Manifest, media_type: str = OCI_MANIFEST) -> Manifest:
    entries = [
        {"mediaType": media_type, "digest": str(child.descriptor.digest), "size": len(child.raw)} for child in children
    ]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    return Manifest.parse(OCI_INDEX, json.dumps(document).encode())


SHARED, OWN = b"base layer", b"new layer"
OLD, OLD_BLOBS = image("old", SHARED)
NEW, NEW_BLOBS = image("new", SHARED, OWN)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    bench.script.blobs |= OLD_BLOBS | NEW_BLOBS
    yield bench
    await bench.tasks.close()
    bench.index.close()


class NotedRepository(ProxiedRepository):
    """Notes the blobs that are opened, in a list that several repositories may share."""

    def __init__(self, bench: Bench, opened: list[Digest]) -> None:
        super().__init__(bench.shared, ScriptedClient(bench.script, ANONYMOUS), APP)
        self._opened = opened

    async def blob(self, digest: Digest) -> FoundBlob:
        self._opened.append(digest)
        return await super().blob(digest)


def gated(
    bench: Bench, gate: Gate = COOL, *, pins: dict[Tag, Digest] | None = None, opened: list[Digest] | None = None
) -> GatedRepository:
    """A repository opened anew; `opened` is where it notes the blobs that it opens."""
    subject = GatedImage(ANONYMOUS, APP, pins or {})
    return GatedRepository(
        NotedRepository(bench, [] if opened is None else opened), gate, subject, bench.shared, bench.index
    )


async def move(bench: Bench) -> None:
    """Let `latest` point to OLD for days, and to NEW since a moment ago; a group without a gate pulled both."""
    for manifest in (OLD, NEW):
        bench.script.publish(manifest)
        await bench.open().manifest(LATEST)
        bench.clock.advance(4 * DAY if manifest is OLD else TTL)


async def test_a_tag_that_moved_too_lately_is_answered_with_what_it_meant_before(bench: Bench) -> None:
    await move(bench)
    found = await gated(bench).manifest(LATEST)
    assert found.manifest == OLD
    target = await gated(bench).stat_manifest(LATEST)
    assert target.descriptor == OLD.descriptor
    for status in (found.status, target.status):
        assert f"{OLD.descriptor.digest} is served, which it pointed to before" in status.warning
        assert status.age is None
    assert not (await gated(bench, Gate()).manifest(LATEST)).status.warning
    assert (await bench.open().manifest(LATEST)).manifest == NEW


async def test_once_it_is_old_enough_it_is_served_as_it_is(bench: Bench) -> None:
    await move(bench)
    bench.clock.advance(3 * DAY)
    assert (await gated(bench).manifest(LATEST)).manifest == NEW
    assert await content(await gated(bench).blob(Digest.of(OWN))) == OWN


async def test_a_tag_that_was_moved_for_a_moment_makes_nothing_older(bench: Bench) -> None:
    """One pull sees NEW, which OLD then replaces for longer than the cooldown, before NEW comes back."""
    await move(bench)
    for _ in range(4):
        bench.script.publish(OLD)
        await bench.open().manifest(LATEST)
        bench.clock.advance(DAY)
    bench.script.publish(NEW)
    assert (await gated(bench).manifest(LATEST)).manifest == OLD
    with pytest.raises(Denied):
        await gated(bench).manifest(NEW.descriptor.digest)
    bench.clock.advance(3 * DAY)
    assert (await gated(bench).manifest(LATEST)).manifest == NEW
    assert (await gated(bench).manifest(NEW.descriptor.digest)).manifest == NEW


async def test_a_tag_with_nothing_older_is_refused_until_it_is_old_enough_and_its_age_begins(bench: Bench) -> None:
    bench.script.publish(NEW)
    for _ in range(2):
        with pytest.raises(Denied, match="no older digest"):
            await gated(bench).manifest(LATEST)
        with pytest.raises(Denied, match="no older digest"):
            await gated(bench).stat_manifest(LATEST)
    bench.clock.advance(3 * DAY)
    assert (await gated(bench).manifest(LATEST)).manifest == NEW


async def test_refusing_says_until_when(bench: Bench) -> None:
    await move(bench)
    with pytest.raises(Denied, match="until 2024-05-08"):
        await gated(bench, Gate(cooldown=3 * DAY, action=CooldownAction.REFUSE)).manifest(LATEST)


@pytest.mark.parametrize("wrong", [-1000 * DAY, 1000 * DAY])
async def test_a_pull_under_a_wrong_clock_neither_ends_a_cooldown_nor_makes_it_longer(
    bench: Bench, wrong: timedelta
) -> None:
    bench.script.publish(OLD, V1)
    await bench.open().manifest(V1)
    bench.script.publish(NEW)
    bench.clock.advance(wrong)
    await bench.open().manifest(LATEST)
    bench.clock.advance(-wrong + DAY)
    with pytest.raises(Denied):
        await gated(bench).blob(Digest.of(OWN))
    with pytest.raises(Denied):
        await gated(bench).manifest(LATEST)
    bench.clock.advance(3 * DAY)
    assert (await gated(bench).manifest(LATEST)).manifest == NEW


async def test_in_an_outage_what_is_old_enough_is_served_stale(bench: Bench) -> None:
    await move(bench)
    bench.clock.advance(DAY)
    bench.script.failure = Unavailable("down")
    found = await gated(bench).manifest(LATEST)
    assert (found.manifest, found.status.outcome) == (OLD, Outcome.STALE)


async def test_what_only_a_withheld_manifest_refers_to_is_withheld_and_what_is_shared_is_not(bench: Bench) -> None:
    await move(bench)
    repository = gated(bench)
    for digest in (Digest.of(OWN), next(iter(NEW_BLOBS))):
        with pytest.raises(Denied):
            await repository.blob(digest)
        with pytest.raises(Denied):
            await repository.stat_blob(digest)
    with pytest.raises(Denied):
        await repository.manifest(NEW.descriptor.digest)
    with pytest.raises(Denied):
        await repository.stat_manifest(NEW.descriptor.digest)
    with pytest.raises(Denied):
        await repository.referrers(NEW.descriptor.digest, None)
    assert await content(await repository.blob(Digest.of(SHARED))) == SHARED
    assert (await repository.manifest(OLD.descriptor.digest)).manifest == OLD


@pytest.mark.parametrize("media_type", [OCI_MANIFEST, "application/x"])
async def test_the_parts_of_a_withheld_index_are_withheld(bench: Bench, media_type: str) -> None:
    bench.script.publish(OLD)
    await bench.open().manifest(LATEST)
    bench.clock.advance(4 * DAY)
    bench.script.publish(NEW, V1)
    bench.script.publish(index_over(NEW, OLD, media_type=media_type))
    await bench.open().manifest(LATEST)
    await bench.open().manifest(NEW.descriptor.digest)
    for refused in (gated(bench).manifest(NEW.descriptor.digest), gated(bench).blob(Digest.of(OWN))):
        with pytest.raises(Denied):
            await refused
    assert (await gated(bench).manifest(OLD.descriptor.digest)).manifest == OLD


async def test_a_flood_of_tags_costs_requests_by_digest_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tags were requested by HEAD: their digests are known, and none of their manifests is here."""
    await move(bench)
    targets = (replace(NEW.descriptor, digest=Digest.of(str(number).encode())) for number in range(300))
    pointers = (TagPointer(ANONYMOUS, APP, Tag(f"t{n}"), target, bench.clock()) for n, target in enumerate(targets))
    await bench.index.record(*pointers)
    reads = 0
    read = bench.index._read

    async def counted(*given: Any) -> Any:
        nonlocal reads
        reads += 1
        return await read(*given)

    monkeypatch.setattr(bench.index, "_read", counted)
    for gate in (COOL, TRUSTING):
        await gated(bench, gate).stat_blob(Digest.of(SHARED))
    assert reads <= 2 * 4


async def test_what_was_let_through_is_remembered_while_the_index_stays_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await move(bench)
    repository, asked = gated(bench), list[Digest]()
    find = bench.index.ancestors

    async def noted(source: Source, image: RepositoryName, digest: Digest) -> list[Ancestor]:
        asked.append(digest)
        return await find(source, image, digest)

    monkeypatch.setattr(bench.index, "ancestors", noted)
    await repository.manifest(OLD.descriptor.digest)
    asked.clear()
    for _ in range(3):
        await repository.manifest(OLD.descriptor.digest)
    assert len(asked) <= 1
    await bench.index.record(TagPointer(ANONYMOUS, APP, V1, NEW.descriptor, bench.clock()))
    await repository.manifest(OLD.descriptor.digest)
    assert asked[-1:] == [OLD.descriptor.digest]
    for _ in range(2):
        with pytest.raises(Denied):
            await repository.manifest(NEW.descriptor.digest)


async def test_a_digest_that_somebody_names_and_no_tag_leads_to_is_served(bench: Bench) -> None:
    other, blobs = image("other", OWN)
    bench.script.publish(other, V1)
    bench.script.blobs |= blobs
    await move(bench)
    assert (await gated(bench).manifest(other.descriptor.digest)).manifest == other
    assert await content(await gated(bench).blob(Digest.of(OWN))) == OWN  # `other` refers to it as well


async def test_a_pinned_tag_means_its_digest_whatever_the_upstream_says(bench: Bench) -> None:
    await move(bench)
    pinned = gated(bench, Gate(), pins={LATEST: OLD.descriptor.digest})
    assert (await pinned.manifest(LATEST)).manifest == OLD
    assert (await pinned.stat_manifest(LATEST)).descriptor == OLD.descriptor
    bench.script.publish(NEW, V1)
    assert (await pinned.manifest(V1)).manifest == NEW
    ahead = gated(bench, COOL, pins={LATEST: NEW.descriptor.digest})
    assert (await ahead.manifest(LATEST)).manifest == NEW
    assert await content(await ahead.blob(Digest.of(OWN))) == OWN


async def test_a_pin_that_cannot_be_had_is_a_refusal_and_in_an_outage_an_outage(bench: Bench) -> None:
    bench.script.publish(NEW)
    pinned = gated(bench, Gate(), pins={LATEST: Digest.of(b"gone")})
    with pytest.raises(Denied, match="pins latest"):
        await pinned.manifest(LATEST)
    with pytest.raises(Denied, match="pins latest"):
        await pinned.stat_manifest(LATEST)
    bench.script.failure = Unavailable("down")
    with pytest.raises(UpstreamUnavailable):
        await pinned.manifest(LATEST)


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("indexed", [True, False])
async def test_a_date_in_the_config_counts_where_publishers_are_trusted(
    bench: Bench, trusted: bool, indexed: bool
) -> None:
    manifest, blobs = image("dated", created="2024-03-01T00:00:00Z")
    bench.script.publish(manifest)
    bench.script.blobs |= blobs
    if indexed:
        bench.script.publish(index_over(manifest))
    repository = gated(bench, Gate(cooldown=3 * DAY, trusts_created=trusted))
    if not trusted:
        with pytest.raises(Denied):
            await repository.manifest(LATEST)
        return
    found = await repository.manifest(LATEST)
    assert found.manifest == (index_over(manifest) if indexed else manifest)
    assert (await repository.manifest(manifest.descriptor.digest)).manifest == manifest
    await bench.landed()


async def test_a_young_date_in_the_config_lets_nothing_through(bench: Bench) -> None:
    manifest, blobs = image("dated", created="2024-04-30T00:00:00Z")
    bench.script.publish(manifest)
    bench.script.blobs |= blobs
    with pytest.raises(Denied):
        await gated(bench, Gate(cooldown=3 * DAY, trusts_created=True)).manifest(LATEST)
    await bench.landed()


TRUSTING = Gate(cooldown=3 * DAY, trusts_created=True)


@pytest.mark.parametrize("created", ["2024-03-01T00:00:00Z", None])
async def test_requests_by_digest_read_a_config_once(bench: Bench, created: str | None) -> None:
    manifest, blobs = image("dated", OWN, created=created)
    bench.script.publish(manifest)
    bench.script.blobs |= blobs
    await bench.open().manifest(LATEST)
    config = Digest.of(json.dumps({"seed": "dated"} | ({"created": created} if created else {})).encode())
    opened: list[Digest] = []
    for _ in range(10):
        repository = gated(bench, TRUSTING, opened=opened)
        if created:
            await repository.stat_blob(config)
            await repository.manifest(manifest.descriptor.digest)
        else:
            with pytest.raises(Denied):
                await repository.stat_blob(config)
    await bench.landed()
    assert opened == [config]


async def test_a_known_date_outlives_its_config_and_the_upstream(bench: Bench) -> None:
    manifest, blobs = image("dated", OWN, created="2024-03-01T00:00:00Z")
    bench.script.publish(manifest)
    bench.script.blobs |= blobs
    await gated(bench, TRUSTING).manifest(LATEST)
    assert await content(await gated(bench, TRUSTING).blob(Digest.of(OWN))) == OWN
    await bench.landed()
    bench.store.delete(next(iter(blobs)))
    bench.script.failure = Unavailable("down")
    assert await content(await gated(bench, TRUSTING).blob(Digest.of(OWN))) == OWN


async def test_a_config_that_the_registry_does_not_have_is_requested_once(bench: Bench) -> None:
    bench.script.publish(NEW)
    bench.script.blobs.pop(next(iter(NEW_BLOBS)))
    await bench.open().manifest(LATEST)
    bench.script.take_calls()
    for _ in range(10):
        with pytest.raises(Denied):
            await gated(bench, TRUSTING).manifest(NEW.descriptor.digest)
    assert bench.script.take_calls() == ["get blob"]


async def test_an_outage_is_not_remembered_as_a_missing_date(bench: Bench) -> None:
    manifest, blobs = image("dated", created="2024-03-01T00:00:00Z")
    bench.script.publish(manifest)
    bench.script.blobs |= blobs
    await bench.open().manifest(LATEST)
    bench.script.failure = Unavailable("down")
    with pytest.raises(UpstreamUnavailable):
        await gated(bench, TRUSTING).manifest(manifest.descriptor.digest)
    bench.script.failure = None
    assert (await gated(bench, TRUSTING).manifest(manifest.descriptor.digest)).manifest == manifest
    await bench.landed()
