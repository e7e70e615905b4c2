"""Explained gate verdicts against the decisions of a GatedRepository over the same index and store."""

import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from cache.index.admin import CacheAdmin
from cache.oci.digest import Digest
from cache.oci.errors import Denied
from cache.oci.manifest import Manifest
from cache.oci.names import Tag
from cache.policy.gate import CooldownAction, Gate, Pin
from cache.proxy.gated import GatedImage, GatedRepository
from gateway.inspection.verdicts import GateState, GateVerdict, explain_gate
from gateway.namespaces.group import Group
from gateway.namespaces.locate import ProxiedLocation
from gateway.namespaces.node import Visibility
from tests.cache.proxy.bench import TTL, Bench
from tests.cache.proxy.test_gated import image, index_over
from tests.cache.samples import ANONYMOUS, APP, LATEST, NOON

DAY = timedelta(days=1)
UPSTREAM = "registry.example"
COOL, TRUSTING = Gate(cooldown=3 * DAY), Gate(cooldown=3 * DAY, trusts_created=True)
STRICT = Gate(cooldown=3 * DAY, action=CooldownAction.REFUSE)


@dataclass
class History:
    """Images that `latest` pointed to, one after the other, each for four days but for the last."""

    bench: Bench
    manifests: list[Manifest] = field(default_factory=list)

    async def publish(self, seed: str, *layers: bytes, created: str | None = None, indexed: bool = False) -> Manifest:
        manifest, blobs = image(seed, *layers, created=created)
        self.bench.script.blobs |= blobs
        if self.manifests:
            self.bench.clock.advance(4 * DAY)
        if indexed:
            self.bench.script.publish(manifest, Tag(seed))
            manifest = index_over(manifest)
        self.bench.script.publish(manifest)
        self.bench.clock.advance(TTL)
        await self.bench.open().manifest(LATEST)
        self.manifests.append(manifest)
        return manifest


@pytest.fixture
async def history(tmp_path: Path) -> AsyncIterator[History]:
    bench = Bench(tmp_path)
    yield History(bench)
    await bench.tasks.close()
    bench.index.close()


async def served(bench: Bench, gate: Gate, reference: Tag | Digest) -> Digest | None:
    """The digest of the manifest that the gate serves; None for a refusal."""
    gated_image = GatedImage(ANONYMOUS, APP, gate.pins_of(UPSTREAM, APP))
    repository = GatedRepository(bench.open(), gate, gated_image, bench.shared, bench.index)
    try:
        found = await repository.manifest(reference)
    except Denied:
        return None
    finally:
        await bench.landed()
    return found.manifest.descriptor.digest


def explained(bench: Bench, gate: Gate | None, reference: Tag | Digest, tmp_path: Path) -> GateVerdict:
    group = Group(1, "g", Visibility.PUBLIC, True, True, UPSTREAM, None, None, NOON, gate=gate)
    location, admin = ProxiedLocation(group, UPSTREAM, APP), CacheAdmin(tmp_path / "cache.db")
    return explain_gate(location, ANONYMOUS, reference, admin, bench.store.read_bytes, bench.clock())


@pytest.mark.parametrize("created", [None, "2020-01-01T00:00:00Z", "2024-04-30T00:00:00Z"])
@pytest.mark.parametrize("earlier", [True, False])
@pytest.mark.parametrize("indexed", [True, False])
async def test_what_is_explained_is_what_is_served(
    history: History, tmp_path: Path, created: str | None, earlier: bool, indexed: bool
) -> None:
    """The trusting gate comes last, since it caches configs, whose dates the others must not need."""
    if earlier:
        await history.publish("old", b"shared")
    current = await history.publish("new", b"shared", b"own", created=created, indexed=indexed)
    references = (LATEST, *(manifest.descriptor.digest for manifest in history.manifests))
    for gate, reference in itertools.product((COOL, STRICT, TRUSTING), references):
        digest = await served(history.bench, gate, reference)
        verdict = explained(history.bench, gate, reference, tmp_path)
        if digest is None:
            assert verdict.state is GateState.REFUSED, gate
        elif isinstance(reference, Tag) and digest != current.descriptor.digest:
            assert (verdict.state, str(digest) in verdict.reason) == (GateState.OLDER, True), gate
        else:
            assert verdict.state is GateState.ALLOWED, gate


async def test_a_date_in_a_config_that_is_not_cached_leaves_the_verdict_open(history: History, tmp_path: Path) -> None:
    manifest = await history.publish("dated", created="2020-01-01T00:00:00Z")
    for reference in (LATEST, manifest.descriptor.digest):
        assert explained(history.bench, TRUSTING, reference, tmp_path).state is GateState.UNKNOWN
        assert explained(history.bench, COOL, reference, tmp_path).state is GateState.REFUSED


async def test_pins_and_names_decide_before_any_age(history: History, tmp_path: Path) -> None:
    manifest = await history.publish("new")
    pinned = Gate(cooldown=3 * DAY, pins=(Pin(UPSTREAM, APP, LATEST, manifest.descriptor.digest),))
    denied = Gate(deny=("acme/*",), pins=pinned.pins)
    states = [explained(history.bench, gate, LATEST, tmp_path).state for gate in (pinned, denied, None)]
    assert states == [GateState.PINNED, GateState.REFUSED, GateState.OPEN]
    assert explained(history.bench, COOL, Tag("never-pulled"), tmp_path).state is GateState.UNKNOWN
