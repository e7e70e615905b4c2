"""Mirrors: what one registry cannot provide is requested from the next, and which response counts."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from cache.oci.digest import Digest
from cache.oci.media_types import OCI_MANIFEST
from cache.upstream.allowance import RequestKind
from cache.upstream.egress import Egress
from cache.upstream.errors import AccessDenied, Corrupt, NotFound, RateLimited, Unavailable, UpstreamError
from cache.upstream.ledger import Ledger
from cache.upstream.mirrors import REMEMBER, MirroredClient
from cache.upstream.quota import Quota
from cache.upstream.reach import Reach
from cache.upstream.registry_client import RegistryClient
from cache.upstream.tokens import Tokens
from cache.upstream.urls import origin_of
from cache.values import Part, Source
from tests.cache.samples import APP, LATEST, blob_of, manifest_of
from tests.parts import lies
from tests.parts.images import MB
from tests.parts.liar import Liar
from tests.parts.lies import Lie

ONE, TWO = manifest_of("one"), manifest_of("two")
CONTENT, BLOB = blob_of(2 * MB)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def mirror() -> Iterator[Liar]:
    with Liar() as mirror:
        yield mirror


@pytest.fixture
async def client(liar: Liar, mirror: Liar, clock: Clock) -> AsyncIterator[MirroredClient]:
    made: list[Egress] = []

    def connect(upstream: Liar) -> RegistryClient:
        made.append(Egress(Reach(private_addresses=True)))
        source = Source(origin_of(upstream.url))
        tokens = Tokens(source.origin, frozenset(), lambda: None)
        return RegistryClient(source, upstream.url, made[-1], tokens, Quota(Ledger(), source))

    yield MirroredClient(connect(liar), [connect(mirror)], clock)
    for egress in made:
        await egress.close()


def offer(*liars: Liar) -> None:
    for liar in liars:
        liar.offer_manifest("latest", OCI_MANIFEST, ONE.raw)
        liar.offer_blob(CONTENT)


async def download(client: MirroredClient, part: Part | None = None, digest: Digest = BLOB) -> bytes:
    def work() -> bytes:
        got = bytearray()
        with client.open_blob(APP, digest, part) as stream:
            buffer = memoryview(bytearray(MB))
            while count := stream.receive_into(buffer):
                got += buffer[:count]
        return bytes(got)

    return await asyncio.to_thread(work)


CANNOT: dict[str, Lie | None] = {
    "down": None,
    "500": lies.refused(500),
    "limited": lies.refused(429, "TOOMANYREQUESTS", 60),
    "wrong bytes": lies.flipped(0),
    "html": lies.html(),
}


def fail(liar: Liar, lie: Lie | None) -> None:
    if lie is None:
        liar.stop()
    else:
        liar.behave("/v2/", lie)


async def test_while_the_upstream_gives_it_no_mirror_is_asked(client: MirroredClient, liar: Liar, mirror: Liar) -> None:
    offer(liar, mirror)
    assert await client.get_manifest(APP, LATEST) == ONE
    assert await client.head_manifest(APP, LATEST) == ONE.descriptor
    assert await client.head_blob(APP, BLOB) == len(CONTENT)
    assert await download(client) == CONTENT
    assert mirror.connections == 0


@pytest.mark.parametrize("lie", CANNOT.values(), ids=CANNOT)
async def test_what_the_upstream_cannot_give_comes_from_the_mirror(
    lie: Lie | None, client: MirroredClient, liar: Liar, mirror: Liar
) -> None:
    offer(liar, mirror)
    fail(liar, lie)
    assert await client.get_manifest(APP, ONE.descriptor.digest) == ONE
    assert await client.get_manifest(APP, LATEST) == ONE
    if lie is not CANNOT["wrong bytes"]:
        assert await download(client) == CONTENT


async def test_a_digest_that_the_upstream_has_lost_comes_from_the_mirror_and_a_tag_does_not(
    client: MirroredClient, liar: Liar, mirror: Liar
) -> None:
    offer(mirror)
    assert await client.get_manifest(APP, ONE.descriptor.digest) == ONE
    assert await client.head_blob(APP, BLOB) == len(CONTENT)
    assert await download(client) == CONTENT
    with pytest.raises(NotFound):
        await client.get_manifest(APP, LATEST)
    assert await client.head_manifest(APP, LATEST) is None


async def test_a_refusal_of_the_upstream_is_the_last_word(client: MirroredClient, liar: Liar, mirror: Liar) -> None:
    offer(liar, mirror)
    liar.behave("/v2/", lies.refused(403))
    for asking in (client.get_manifest(APP, ONE.descriptor.digest), client.head_blob(APP, BLOB), download(client)):
        with pytest.raises(AccessDenied):
            await asking
    assert mirror.connections == 0


@pytest.mark.parametrize("status", [403, 404, 500])
async def test_where_the_mirror_cannot_either_the_upstream_s_own_failure_counts(
    status: int, client: MirroredClient, liar: Liar, mirror: Liar
) -> None:
    offer(liar)
    liar.behave("/v2/", lies.refused(429, "TOOMANYREQUESTS", 60))
    mirror.behave("/v2/", lies.refused(status))
    for _ in range(2):
        with pytest.raises(RateLimited):
            await client.get_manifest(APP, LATEST)
        with pytest.raises(RateLimited):
            await download(client)


async def test_after_a_break_in_the_middle_the_rest_comes_from_the_mirror(
    client: MirroredClient, liar: Liar, mirror: Liar
) -> None:
    offer(liar, mirror)
    liar.behave("/blobs/", lies.reset(MB))
    got = bytearray()

    def begin() -> None:
        with client.open_blob(APP, BLOB) as stream:
            buffer = memoryview(bytearray(MB))
            while count := stream.receive_into(buffer):
                got.extend(buffer[:count])

    with pytest.raises(Unavailable):
        await asyncio.to_thread(begin)
    assert mirror.connections == 0
    seen = liar.requests.count()
    rest = await download(client, Part(len(got), len(CONTENT), len(CONTENT)))
    assert bytes(got) + rest == CONTENT
    assert liar.requests.count() == seen
    assert [record.header("range") for record in mirror.requests.select()] == [f"bytes={len(got)}-{len(CONTENT) - 1}"]


async def test_whoever_gave_bytes_that_were_no_good_is_asked_last_for_a_while(
    client: MirroredClient, liar: Liar, mirror: Liar, clock: Clock
) -> None:
    offer(liar, mirror)
    liar.behave("/blobs/", lies.flipped(0))
    assert await download(client) != CONTENT
    assert await download(client) == CONTENT
    clock.now += REMEMBER
    liar.honest()
    seen = mirror.requests.count()
    assert await download(client) == CONTENT
    assert mirror.requests.count() == seen


async def test_what_is_remembered_is_bounded(client: MirroredClient, liar: Liar) -> None:
    for number in range(3_000):
        client._pass_over(Digest.of(str(number).encode()), 0)
    assert len(client._begin_at) == 1_000


async def test_nobody_waits_while_a_mirror_may_be_asked(client: MirroredClient, liar: Liar) -> None:
    liar.behave("/v2/", lies.refused(429, "TOOMANYREQUESTS", 60))
    with pytest.raises(UpstreamError):
        await client.primary.get_manifest(APP, LATEST)
    assert client.primary.pause(RequestKind.PULL) > 0
    assert client.pause(RequestKind.PULL) == 0


async def test_wrong_bytes_everywhere_are_wrong(client: MirroredClient, liar: Liar, mirror: Liar) -> None:
    offer(liar, mirror)
    for each in (liar, mirror):
        each.behave("/manifests/", lies.flipped(0))
    with pytest.raises(Corrupt):
        await client.get_manifest(APP, ONE.descriptor.digest)
