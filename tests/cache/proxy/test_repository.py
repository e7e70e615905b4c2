"""ProxiedRepository: the contract of repositories, what upstream failures become, and which requests share a call."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from cache.oci.errors import (
    BlobUnknown,
    ManifestUnknown,
    NameUnknown,
    RegistryError,
    UpstreamInvalid,
    UpstreamUnavailable,
)
from cache.oci.names import RepositoryName, Tag
from cache.policy.gate import Gate
from cache.proxy.gated import GatedImage, GatedRepository
from cache.proxy.pull_through import PullTimings
from cache.proxy.repository import ProxiedRepository
from cache.repository import Repository
from cache.upstream.errors import AccessDenied, Corrupt, NotFound, RateLimited, Unavailable, UpstreamError
from tests.cache.proxy.bench import (
    BLOB,
    COALESCED,
    HIT,
    ONE,
    Bench,
)
from tests.cache.repository_contract import MANIFEST, RepositoryContract
from tests.cache.samples import ALICE, ANONYMOUS, APP, LATEST


class TestProxiedRepository(RepositoryContract):
    @pytest.fixture
    def repository(self, bench: Bench) -> Repository:
        bench.script.publish(MANIFEST)
        return bench.open()


class TestGatedRepository(RepositoryContract):
    """The contract holds behind a gate, too, if it withholds nothing."""

    @pytest.fixture
    def repository(self, bench: Bench) -> Repository:
        bench.script.publish(MANIFEST)
        pinned = GatedImage(ANONYMOUS, APP, {Tag("pinned"): MANIFEST.descriptor.digest})
        return GatedRepository(bench.open(), Gate(), pinned, bench.shared, bench.index)


async def test_tags_and_referrers_are_passed_on(bench: Bench) -> None:
    assert (await bench.open().tags(None)).page.tags == ["latest"]
    assert (await bench.open().referrers(BLOB, None)).page.manifests == []


Call = Callable[[ProxiedRepository], Awaitable[object]]
CALLS: dict[str, tuple[Call, type[RegistryError]]] = {
    "manifest by tag": (lambda repository: repository.manifest(LATEST), ManifestUnknown),
    "manifest by digest": (lambda repository: repository.manifest(ONE.descriptor.digest), ManifestUnknown),
    "head by tag": (lambda repository: repository.stat_manifest(LATEST), ManifestUnknown),
    "head by digest": (lambda repository: repository.stat_manifest(ONE.descriptor.digest), ManifestUnknown),
    "blob": (lambda repository: repository.blob(BLOB), BlobUnknown),
    "head of a blob": (lambda repository: repository.stat_blob(BLOB), BlobUnknown),
    "tags": (lambda repository: repository.tags(None), NameUnknown),
    "referrers": (lambda repository: repository.referrers(BLOB, None), NameUnknown),
}


@pytest.mark.parametrize(("call", "unknown"), CALLS.values(), ids=CALLS)
async def test_every_failure_of_the_upstream_becomes_one_of_ours(
    bench: Bench, call: Call, unknown: type[RegistryError]
) -> None:
    table: list[tuple[UpstreamError, type[RegistryError], str | None]] = [
        (NotFound("none"), unknown, None),
        (AccessDenied("no"), unknown, None),
        (Corrupt("HTML"), UpstreamInvalid, None),
        (Unavailable("down"), UpstreamUnavailable, "5"),
        (Unavailable("down", 17), UpstreamUnavailable, "17"),
        (Unavailable("down", 86_400), UpstreamUnavailable, "60"),
        (RateLimited("slowly"), UpstreamUnavailable, "5"),
        (RateLimited("slowly", 0), UpstreamUnavailable, "1"),
        (RateLimited("slowly", 17), UpstreamUnavailable, "17"),
        (RateLimited("slowly", 86_400), UpstreamUnavailable, "60"),
    ]
    for failure, expected, retry_after in table:
        bench.script.failure = failure
        with pytest.raises(RegistryError) as caught:
            await call(bench.open())
        assert type(caught.value) is expected
        assert caught.value.headers.get("Retry-After") == retry_after
        await bench.landed()


@pytest.mark.parametrize("what", ["get", "head", "head blob", "tags"])
async def test_an_upstream_that_does_not_answer_is_an_outage(bench: Bench, what: str) -> None:
    calls = {"get": "manifest by tag", "head": "head by tag", "head blob": "head of a blob", "tags": "tags"}
    bench.shared.timings = PullTimings(response=0.02)
    bench.script.publish(ONE)
    bench.script.hold(what)
    with pytest.raises(UpstreamUnavailable, match="did not respond within"):
        await CALLS[calls[what]][0](bench.open())
    bench.script.release(what)


async def test_waiters_for_one_failure_get_exceptions_of_their_own(bench: Bench) -> None:
    bench.script.failure = Unavailable("down")
    bench.script.hold("get")
    first, other = await bench.begin(bench.open().manifest(LATEST), bench.open().manifest(LATEST))
    bench.script.release("get")
    errors = await asyncio.gather(first, other, return_exceptions=True)
    assert [type(error) for error in errors] == [UpstreamUnavailable] * 2
    assert errors[0] is not errors[1]


async def test_a_client_that_leaves_does_not_stop_a_fetch_that_was_begun(bench: Bench) -> None:
    bench.script.publish(ONE)
    bench.script.hold("get")
    [leaver] = await bench.begin(bench.open().manifest(LATEST))
    leaver.cancel()
    await asyncio.gather(leaver, return_exceptions=True)
    bench.script.release("get")
    found = await bench.open().manifest(LATEST)
    assert found.status in (COALESCED, HIT)
    assert bench.script.take_calls() == ["get"]


async def test_a_refused_name_that_was_never_pulled_changes_nothing(bench: Bench) -> None:
    await bench.hold_tag(source=ALICE)
    bench.script.failure = AccessDenied("refused")
    mark = bench.index.mark()
    for number in range(100):
        with pytest.raises(ManifestUnknown):
            await bench.open(RepositoryName(f"invented/{number}"), ALICE).manifest(LATEST)
    assert bench.index.mark() == mark
    with pytest.raises(ManifestUnknown):
        await bench.open(source=ALICE).refresh(LATEST)
    assert bench.index.mark() != mark
    assert await bench.index.find_pointer(ALICE, APP, LATEST) is None
