"""ChainedRepository over a real index and store: which upstream answers, and which one must not."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from cache.oci.errors import BlobUnknown, ManifestUnknown, NameUnknown, UpstreamUnavailable
from cache.oci.names import Tag
from cache.proxy.chained import ChainedRepository
from cache.proxy.repository import ProxiedRepository
from cache.upstream.errors import AccessDenied, NoStatement, NotFound, Unavailable, UpstreamError
from cache.values import CredentialId, Link, Origin, Source, TagPage
from tests.cache.proxy.bench import BLOB, ONE, TWO, Bench, Script, ScriptedClient
from tests.cache.samples import APP, LATEST

DAY = timedelta(days=1)
V9 = Tag("v9")
FIRST, SECOND, THIRD = (
    Source(Origin("https", f"{name}.example", 443), CredentialId(virtual=name)) for name in ("first", "second", "third")
)


class Chain:
    """An image at three upstreams, each with a script of its own."""

    def __init__(self, folder: Path) -> None:
        self.bench = Bench(folder)
        self.scripts = {source: Script() for source in (FIRST, SECOND, THIRD)}
        for script in self.scripts.values():
            script.blobs.clear()

    def open(self) -> ChainedRepository:
        return ChainedRepository(
            [
                ProxiedRepository(self.bench.shared, ScriptedClient(script, source), APP, ttl=DAY)
                for source, script in self.scripts.items()
            ]
        )

    def fail(self, source: Source, error: UpstreamError | None) -> None:
        self.scripts[source].failure = error

    def asked(self) -> list[str]:
        """The hosts that were asked since the last call, each once."""
        return [source.origin.host for source, script in self.scripts.items() if script.take_calls()]


@pytest.fixture
async def chain(tmp_path: Path) -> AsyncIterator[Chain]:
    chain = Chain(tmp_path)
    yield chain
    await chain.bench.tasks.close()
    chain.bench.index.close()


DOWN = Unavailable("the upstream is down")
HTML = NoStatement("a page that no registry wrote")


@pytest.mark.parametrize("refusal", [NotFound("no"), AccessDenied("no")])
async def test_the_first_upstream_that_has_a_tag_answers(chain: Chain, refusal: UpstreamError) -> None:
    chain.fail(FIRST, refusal)
    chain.scripts[SECOND].publish(ONE)
    chain.scripts[THIRD].publish(TWO)
    assert (await chain.open().manifest(LATEST)).manifest == ONE
    assert chain.asked() == ["first.example", "second.example"]
    with pytest.raises(ManifestUnknown):
        await chain.open().manifest(V9)


async def test_what_is_valid_is_served_without_asking_anybody(chain: Chain) -> None:
    chain.scripts[SECOND].publish(ONE)
    await chain.open().manifest(LATEST)
    chain.asked()
    chain.scripts[FIRST].publish(TWO)
    assert (await chain.open().manifest(LATEST)).manifest == ONE
    assert chain.asked() == []
    chain.bench.clock.advance(2 * DAY)
    assert (await chain.open().manifest(LATEST)).manifest == TWO
    assert (await chain.open().stat_manifest(LATEST)).descriptor == TWO.descriptor


@pytest.mark.parametrize("failure", [DOWN, HTML])
async def test_an_outage_gives_no_later_upstream_the_word(chain: Chain, failure: UpstreamError) -> None:
    """Nobody knows then whether the failing one has the image."""
    chain.scripts[SECOND].publish(TWO)
    chain.fail(FIRST, failure)
    with pytest.raises((UpstreamUnavailable, ManifestUnknown)):
        await chain.open().manifest(LATEST)
    assert chain.asked() == ["first.example"]


@pytest.mark.parametrize("failure", [DOWN, HTML])
async def test_what_an_upstream_is_known_to_have_no_later_one_answers_for(chain: Chain, failure: UpstreamError) -> None:
    chain.scripts[FIRST].publish(ONE)
    chain.scripts[SECOND].publish(TWO)
    assert (await chain.open().manifest(LATEST)).manifest == ONE
    # As if it had answered for another tag before, too.
    await chain.bench.index.record(TWO, Link(SECOND, APP, TWO.descriptor.digest))
    chain.asked()
    chain.fail(FIRST, failure)
    with pytest.raises((UpstreamUnavailable, ManifestUnknown)):
        await chain.open().manifest(V9)
    assert chain.asked() == ["first.example"]


async def test_a_later_upstream_that_is_known_to_have_the_image_goes_on_answering(chain: Chain) -> None:
    chain.scripts[THIRD].publish(ONE)
    assert (await chain.open().manifest(LATEST)).manifest == ONE
    chain.scripts[SECOND].publish(TWO, V9)
    chain.scripts[THIRD].publish(ONE, V9)
    chain.fail(FIRST, DOWN)
    chain.asked()
    assert (await chain.open().manifest(V9)).manifest == ONE
    assert chain.asked() == ["first.example", "third.example"], "the second was never known to have it"


async def test_a_tag_past_its_time_is_served_stale_by_the_upstream_that_has_it(chain: Chain) -> None:
    chain.scripts[FIRST].publish(ONE)
    chain.scripts[SECOND].publish(TWO)
    await chain.open().manifest(LATEST)
    chain.bench.clock.advance(2 * DAY)
    chain.fail(FIRST, DOWN)
    found = await chain.open().manifest(LATEST)
    assert found.manifest == ONE and found.status.warning


async def test_a_digest_means_the_same_at_every_upstream(chain: Chain) -> None:
    chain.fail(FIRST, DOWN)
    chain.scripts[SECOND].publish(ONE)
    digest = ONE.descriptor.digest
    assert (await chain.open().manifest(digest)).manifest == ONE
    chain.asked()
    assert (await chain.open().manifest(digest)).manifest == ONE
    assert chain.asked() == [], "the one that is known to hold it goes first"
    with pytest.raises(UpstreamUnavailable):
        await chain.open().manifest(TWO.descriptor.digest)
    chain.fail(FIRST, None)
    with pytest.raises(ManifestUnknown):
        await chain.open().manifest(TWO.descriptor.digest)


async def test_a_blob_comes_from_whichever_has_it(chain: Chain) -> None:
    with pytest.raises(BlobUnknown):
        await chain.open().stat_blob(BLOB)
    chain.scripts[THIRD].blobs[BLOB] = b"x" * 10
    assert (await chain.open().stat_blob(BLOB)).size == 10


async def test_lists_of_tags_are_those_of_the_first_that_has_the_image(chain: Chain) -> None:
    chain.fail(FIRST, NotFound("no"))
    chain.scripts[SECOND].pages[""] = TagPage(["a", "b"])
    assert (await chain.open().tags(None)).page.tags == ["a", "b"]
    for source in chain.scripts:
        chain.fail(source, NotFound("no"))
    chain.bench.clock.advance(2 * DAY)
    with pytest.raises(NameUnknown):
        await ChainedRepository([]).tags(None)


async def test_no_upstreams_have_nothing() -> None:
    with pytest.raises(ManifestUnknown):
        await ChainedRepository([]).manifest(LATEST)


async def test_what_is_cached_of_one_upstream_is_of_no_other(chain: Chain) -> None:
    """A right is that of an upstream with its key; a key that is renewed has none."""
    chain.scripts[FIRST].publish(ONE)
    await chain.open().manifest(LATEST)
    renewed = Source(FIRST.origin, CredentialId(virtual="renewed"))
    assert Source.parse(str(renewed)) == renewed and CredentialId.parse(str(renewed.credential)) == renewed.credential
    chain.scripts = {renewed: Script()}
    with pytest.raises(ManifestUnknown):
        await chain.open().manifest(ONE.descriptor.digest)
