"""RegistryClient against real sockets, plain and with TLS."""

import asyncio
import gzip
import json
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cache.oci.digest import Digest
from cache.oci.manifest import SIZE_LIMIT
from cache.oci.media_types import ACCEPTED, OCI_INDEX, OCI_MANIFEST
from cache.oci.names import RepositoryName, Tag
from cache.upstream.blob_stream import ResponseBlobStream
from cache.upstream.egress import Egress, Response, raw_chunks
from cache.upstream.errors import (
    AccessDenied,
    Corrupt,
    CredentialRefused,
    NoStatement,
    NotFound,
    RateLimited,
    Unavailable,
    UpstreamError,
)
from cache.upstream.reach import Reach, UpstreamTimings
from cache.upstream.registry_client import RegistryClient
from cache.upstream.tokens import Credential, Tokens
from cache.upstream.urls import REDIRECT_LIMIT, origin_of
from cache.values import CredentialId, PageStart, Part, Source
from tests.cache.samples import APP, LATEST, blob_of, manifest_of, open_descriptors
from tests.conftest import Publish
from tests.parts import lies
from tests.parts.certs import Authority
from tests.parts.hub import Hub
from tests.parts.images import MB
from tests.parts.liar import Liar
from tests.parts.lies import Lie
from tests.parts.ports import HOST, listen

ALICE = Credential("alice", "secret")
MANIFEST = manifest_of("one")
API_VERSION = "Docker-Distribution-Api-Version"
MISSING = blob_of(1)[1]
Connect = Callable[..., RegistryClient]


@pytest.fixture
async def connect(authority: Authority) -> AsyncIterator[Connect]:
    """`connect(url)` makes a client that trusts the authority of the tests."""
    made: list[Egress] = []

    def make(
        url: str, credential: Credential | None = None, token_hosts: frozenset[str] = frozenset(), **reach: object
    ) -> RegistryClient:
        egress = Egress(Reach(private_addresses=True, ca_file=authority.ca_file, **reach))  # type: ignore[arg-type]
        made.append(egress)
        origin = origin_of(url)
        source = Source(origin, CredentialId(credential.username if credential else ""))
        return RegistryClient(source, url, egress, Tokens(origin, token_hosts, lambda: credential))

    yield make
    for egress in made:
        await egress.close()


@pytest.fixture(params=["plain", "tls"])
def upstream(request: pytest.FixtureRequest) -> Liar:
    """A scripted upstream, once without and once with TLS."""
    found: Liar = request.getfixturevalue("liar" if request.param == "plain" else "tls_liar")
    return found


def receive(stream: ResponseBlobStream, size: int = 1_000_000) -> Iterator[bytes]:
    buffer = memoryview(bytearray(size))
    while count := stream.receive_into(buffer):
        yield bytes(buffer[:count])


async def download(client: RegistryClient, digest: Digest, size: int = 1_000_000) -> tuple[int | None, bytes]:
    """Its announced length and its bytes, received in a thread as a flight does."""

    def work() -> tuple[int | None, bytes]:
        with client.open_blob(APP, digest) as stream:
            return stream.size, b"".join(receive(stream, size))

    return await asyncio.to_thread(work)


# Blobs.


@pytest.mark.parametrize("buffer", [1_000_000, 7_777])
async def test_a_large_blob_is_received_byte_for_byte(upstream: Liar, connect: Connect, buffer: int) -> None:
    content, digest = blob_of(20 * MB)
    upstream.offer_blob(content)
    assert await download(connect(upstream.url), digest, buffer) == (20 * MB, content)


@pytest.mark.parametrize("size", [MB, 5 * MB])
async def test_with_a_length_all_but_the_beginning_comes_from_the_socket(
    upstream: Liar, authority: Authority, size: int
) -> None:
    content, _ = blob_of(size)
    url = f"{upstream.url}/v2/any/blobs/{upstream.offer_blob(content)}"
    from_library: list[bytes] = []

    def noted(response: Response) -> Iterator[bytes]:
        for chunk in raw_chunks(response):
            from_library.append(chunk)
            yield chunk

    egress = Egress(Reach(private_addresses=True, ca_file=authority.ca_file))

    def read_all() -> bytes:
        response = egress.send_blocking("GET", url, {})
        try:
            return b"".join(receive(ResponseBlobStream(response, read=noted)))
        finally:
            response.close()

    assert await asyncio.to_thread(read_all) == content
    assert len(from_library) == 1
    await egress.close()


async def test_records_that_have_arrived_fill_the_buffer_at_once(tls_liar: Liar, connect: Connect) -> None:
    content, digest = blob_of(MB)
    stall = tls_liar.behave("/blobs/", lies.stalled(200_000))
    assert stall.hold is not None
    tls_liar.offer_blob(content)
    client, hold = connect(tls_liar.url), stall.hold

    def work() -> list[int]:
        buffer, counts = memoryview(bytearray(100_000)), []
        with client.open_blob(APP, digest) as stream:
            hold.reached.wait(30)
            while sum(counts) < 200_000:  # which are handed out although the next ones do not arrive
                counts.append(stream.receive_into(buffer))
        return counts

    counts = await asyncio.to_thread(work)
    hold.release()
    assert max(counts) > 4 * 16_384


@pytest.mark.parametrize("size", [0, 1, 100, 70_000, 300_000])
@pytest.mark.parametrize("buffer", [1_000_000, 64, 1])
async def test_blobs_of_every_size_come_whole_into_buffers_of_every_size(
    upstream: Liar, connect: Connect, size: int, buffer: int
) -> None:
    if size > 100 and buffer < 64:
        size = 3_000
    content, digest = blob_of(size)
    upstream.offer_blob(content)
    assert await download(connect(upstream.url), digest, buffer) == (size, content)


@pytest.mark.parametrize("lie", [lies.chunked(), lies.until_close()], ids=["chunked", "until close"])
async def test_without_a_length_the_bytes_come_all_the_same(upstream: Liar, connect: Connect, lie: Lie) -> None:
    content, digest = blob_of(2 * MB)
    upstream.offer_blob(content)
    upstream.behave("/blobs/", lie)
    assert await download(connect(upstream.url), digest) == (None, content)


async def test_bytes_after_the_promised_length_are_not_taken(upstream: Liar, connect: Connect) -> None:
    content, digest = blob_of(2 * MB)
    upstream.offer_blob(content)
    upstream.behave("/blobs/", lies.surplus(b"and more"))
    client = connect(upstream.url)
    assert await download(client, digest) == (2 * MB, content)
    upstream.honest()
    assert await download(client, digest) == (2 * MB, content)


@pytest.mark.parametrize(
    "lie",
    [lies.short(0), lies.short(1), lies.short(1_500_000), lies.reset(1_500_000), lies.unfinished(1_500_000)],
    ids=["at once", "after a byte", "late", "reset", "chunked"],
)
async def test_a_body_that_breaks_off_is_unavailable(upstream: Liar, connect: Connect, lie: Lie) -> None:
    content, digest = blob_of(2 * MB)
    upstream.offer_blob(content)
    upstream.behave("/blobs/", lie)
    with pytest.raises(Unavailable):
        await download(connect(upstream.url), digest)


async def test_a_stall_ends_after_a_time_without_a_byte(upstream: Liar, connect: Connect) -> None:
    content, digest = blob_of(2 * MB)
    upstream.offer_blob(content)
    upstream.behave("/blobs/", lies.stalled(1_500_000))
    client = connect(upstream.url, timings=UpstreamTimings(progress=0.1))
    with pytest.raises(Unavailable, match="no byte arrived"):
        await download(client, digest)


@pytest.mark.parametrize("after", [0, 300_000])
@pytest.mark.parametrize("chunked", [False, True])
async def test_an_abort_from_another_thread_wakes_a_stalled_read(
    upstream: Liar, connect: Connect, after: int, chunked: bool
) -> None:
    content, digest = blob_of(2 * MB)
    upstream.offer_blob(content)
    stall = lies.stalled(after)
    upstream.behave("/blobs/", Lie(hold=stall.hold, framing=lies.Framing.CHUNKED) if chunked else stall)
    assert stall.hold is not None
    client, opened, got = connect(upstream.url), threading.Event(), bytearray()
    streams: list[ResponseBlobStream] = []

    def work() -> None:
        with client.open_blob(APP, digest) as stream:
            streams.append(stream)
            opened.set()
            for part in receive(stream):
                got.extend(part)

    working = asyncio.ensure_future(asyncio.to_thread(work))
    assert await asyncio.to_thread(stall.hold.reached.wait, 30)
    assert await asyncio.to_thread(opened.wait, 30)
    streams[0].abort()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(working, 30)
    assert content.startswith(got)
    streams[0].abort()


async def test_what_is_read_after_an_abort_is_the_body_or_nothing(upstream: Liar, connect: Connect) -> None:
    """Bytes that the kernel holds by then must not arrive undecrypted."""
    content, digest = blob_of(2 * MB)
    upstream.offer_blob(content)
    stall = lies.stalled(300_000)
    upstream.behave("/blobs/", stall)
    assert stall.hold is not None
    hold, client, got = stall.hold, connect(upstream.url), bytearray()

    def work() -> None:
        with client.open_blob(APP, digest) as stream:
            parts = receive(stream, 50_000)
            while len(got) < 100_000:  # past what the library has read ahead
                got.extend(next(parts))
            hold.reached.wait(30)
            stream.abort()
            for part in parts:
                got.extend(part)

    with pytest.raises(Unavailable):
        await asyncio.to_thread(work)
    assert len(got) >= 100_000
    assert content.startswith(got)


async def test_a_page_of_html_is_no_blob(upstream: Liar, connect: Connect) -> None:
    content, digest = blob_of(100)
    upstream.offer_blob(content)
    upstream.behave("/blobs/", lies.html())
    with pytest.raises(Corrupt, match="HTML"):
        await download(connect(upstream.url), digest)


async def test_a_page_of_html_is_no_head_of_a_blob(upstream: Liar, connect: Connect) -> None:
    content, digest = blob_of(100)
    upstream.offer_blob(content)
    upstream.behave("/blobs/", lies.html())
    with pytest.raises(Corrupt, match="HTML"):
        await connect(upstream.url).head_blob(APP, digest)


async def test_a_head_tells_the_length_of_a_blob(upstream: Liar, connect: Connect) -> None:
    content, digest = blob_of(12_345)
    upstream.offer_blob(content)
    assert await connect(upstream.url).head_blob(APP, digest) == 12_345
    upstream.behave("/blobs/", lies.chunked(), "HEAD")
    assert await connect(upstream.url).head_blob(APP, digest) == 12_345
    upstream.behave("/blobs/", Lie(framing=lies.Framing.CHUNKED, whole=True))
    assert await connect(upstream.url).head_blob(APP, digest) is None


async def test_downloads_leave_no_descriptor(liar: Liar, authority: Authority, connect: Connect) -> None:
    content, digest = blob_of(200_000)
    liar.offer_blob(content)
    client = connect(liar.url)
    await client.head_blob(APP, digest)
    await download(client, digest)
    before = open_descriptors()
    for lie in (Lie(), lies.short(100_000), lies.reset(100_000), lies.refused(404), lies.refused(500)):
        liar.behave("/blobs/", lie)
        for _ in range(5):
            with suppress(UpstreamError):
                await download(client, digest)
    await until_descriptors(lambda count: count <= before + 2)  # both ends of one that is kept alive


async def until_descriptors(fits: Callable[[int], bool]) -> None:
    """The other ends of our connections are in this process too, and close a little later."""
    async with asyncio.timeout(30):
        while not fits(open_descriptors()):  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.01)


class TlsProxy:
    """An outbound proxy that itself speaks TLS, and connects wherever it is asked to."""

    def __init__(self, authority: Authority) -> None:
        self._context = authority.server_context()
        self._listener = listen(0)
        self.tunnels = 0
        self.url = f"https://{HOST}:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._tunnel, args=(client,), daemon=True).start()

    def _tunnel(self, plain: socket.socket) -> None:
        with suppress(OSError), self._context.wrap_socket(plain, server_side=True) as client:
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(4096)
            host, _, port = head.split()[1].decode().rpartition(":")
            self.tunnels += 1
            with socket.create_connection((host, int(port))) as upstream:
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                back = threading.Thread(target=self._pump, args=(upstream, client), daemon=True)
                back.start()
                self._pump(client, upstream)
                back.join(10)

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError, ssl.SSLError):
            while received := source.recv(65_536):
                target.sendall(received)
        with suppress(OSError):
            socket.socket.shutdown(target, socket.SHUT_RDWR)


async def test_beyond_a_proxy_with_tls_the_body_is_the_upstream_s_and_not_the_proxy_s(
    tls_liar: Liar, authority: Authority, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    content, digest = blob_of(3 * MB)
    tls_liar.offer_blob(content)
    proxy = TlsProxy(authority)
    client = connect(tls_liar.url, proxy=proxy.url, hosts=frozenset({tls_liar.netloc}))
    assert await download(client, digest) == (3 * MB, content)
    assert proxy.tunnels == 1
    proxy.close()


# Manifests.


async def test_a_manifest_is_asked_for_in_every_media_type_and_given_byte_for_byte(
    upstream: Liar, connect: Connect
) -> None:
    upstream.offer_manifest("latest", OCI_MANIFEST, MANIFEST.raw)
    client = connect(upstream.url)
    assert await client.get_manifest(APP, LATEST) == MANIFEST
    assert await client.get_manifest(APP, MANIFEST.descriptor.digest) == MANIFEST
    for record in upstream.requests.select():
        assert record.header("accept") == ", ".join(ACCEPTED)
        assert record.header("accept-encoding") == "identity"
        assert record.header("authorization") is None
        assert record.header("host") == upstream.netloc
        assert record.path.startswith("/v2/acme/app/manifests/")


async def test_a_head_tells_what_a_tag_points_to(upstream: Liar, connect: Connect) -> None:
    upstream.offer_manifest("latest", OCI_MANIFEST, MANIFEST.raw)
    assert await connect(upstream.url).head_manifest(APP, LATEST) == MANIFEST.descriptor


@pytest.mark.parametrize(
    "lie",
    [
        lies.digest_header("nonsense"),
        lies.digest_header(""),
        Lie(headers={"Docker-Content-Digest": None}),
        lies.media_type("text/plain"),
        lies.chunked(),
    ],
    ids=["no digest", "empty digest", "without digest", "media type", "no length"],
)
async def test_a_head_that_does_not_tell_is_none(liar: Liar, connect: Connect, lie: Lie) -> None:
    liar.offer_manifest("latest", OCI_MANIFEST, MANIFEST.raw)
    liar.behave("/manifests/", lie)
    assert await connect(liar.url).head_manifest(APP, LATEST) is None


async def test_without_a_digest_header_a_manifest_by_tag_is_taken_as_it_is(liar: Liar, connect: Connect) -> None:
    liar.offer_manifest("latest", OCI_MANIFEST, MANIFEST.raw)
    liar.behave("/manifests/", Lie(headers={"Docker-Content-Digest": None}))
    assert await connect(liar.url).get_manifest(APP, LATEST) == MANIFEST


@pytest.mark.parametrize("header", ["nonsense", "sha256:0000", f"{MANIFEST.descriptor.digest}, sha256:{64 * '0'}"])
async def test_a_digest_header_that_is_no_digest_counts_as_none(liar: Liar, connect: Connect, header: str) -> None:
    liar.offer_manifest("latest", OCI_MANIFEST, MANIFEST.raw)
    liar.behave("/manifests/", lies.digest_header(header))
    assert await connect(liar.url).get_manifest(APP, LATEST) == MANIFEST


async def test_a_document_that_comes_compressed_is_decompressed(upstream: Liar, connect: Connect) -> None:
    """Though identity is requested, some compress documents: https://github.com/quay/quay/issues/1310."""
    upstream.offer_manifest("latest", OCI_MANIFEST, MANIFEST.raw)
    client = connect(upstream.url)
    for coding in ("gzip", "x-gzip", "GZIP"):
        packed = Lie(headers={"Content-Encoding": coding}, body=gzip.compress(MANIFEST.raw))
        upstream.behave("/manifests/", packed)
        assert await client.get_manifest(APP, LATEST) == MANIFEST
    upstream.behave("/manifests/", Lie(headers={"Content-Encoding": "gzip"}))
    assert await client.get_manifest(APP, LATEST) == MANIFEST  # the body is not what the header says


async def test_a_manifest_by_sha512_keeps_that_digest(liar: Liar, connect: Connect) -> None:
    manifest = manifest_of("one", "sha512")
    liar.manifests[str(manifest.descriptor.digest)] = (OCI_MANIFEST, manifest.raw)
    assert await connect(liar.url).get_manifest(APP, manifest.descriptor.digest) == manifest


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (lies.flipped(-1), "does not match the digest"),
        (lies.long(), "does not match the digest"),
        (lies.digest_header(), "does not match the digest"),
        (lies.html(), "text/html"),
        (lies.media_type(""), "no media type"),
        (lies.media_type("application/json"), "application/json"),
        (lies.media_type(OCI_INDEX), "invalid manifest"),
        (Lie(headers={"Content-Encoding": "gzip"}, body=b"\x1f\x8b\x08"), "ended early"),
        (Lie(headers={"Content-Encoding": "gzip"}, body=b"\x1f\x8b" + bytes(20)), "ended early"),
        (Lie(headers={"Content-Encoding": "gzip"}, body=gzip.compress(bytes(SIZE_LIMIT + 1))), "more than"),
        (Lie(headers={"Content-Encoding": "br"}, body=b"\x0b"), "does not match the digest"),
        (lies.short(10), "ended early"),
        (lies.unfinished(10), "ended early"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_is_no_manifest_as_promised_is_corrupt(
    upstream: Liar, connect: Connect, lie: Lie, reason: str
) -> None:
    upstream.offer_manifest("latest", OCI_MANIFEST, MANIFEST.raw)
    upstream.behave("/manifests/", lie)
    with pytest.raises(Corrupt, match=reason):
        await connect(upstream.url).get_manifest(APP, LATEST)


async def test_asked_by_digest_the_digest_decides_whatever_the_header_says(liar: Liar, connect: Connect) -> None:
    liar.offer_manifest("latest", OCI_MANIFEST, MANIFEST.raw)
    client = connect(liar.url)
    liar.behave("/manifests/", lies.digest_header())
    assert await client.get_manifest(APP, MANIFEST.descriptor.digest) == MANIFEST
    liar.behave("/manifests/", lies.flipped(0))
    with pytest.raises(Corrupt):
        await client.get_manifest(APP, MANIFEST.descriptor.digest)


@pytest.mark.parametrize("framing", list(lies.Framing)[:2])
async def test_a_manifest_of_more_than_four_mebibytes_is_not_read_to_its_end(
    liar: Liar, connect: Connect, framing: lies.Framing
) -> None:
    document = json.loads(MANIFEST.raw) | {"annotations": {"padding": ""}}
    padding = SIZE_LIMIT - len(json.dumps(document))
    client = connect(liar.url)
    for more, fits in ((0, True), (1, False)):
        document["annotations"]["padding"] = "a" * (padding + more)
        liar.offer_manifest("latest", OCI_MANIFEST, json.dumps(document).encode())
        liar.behave("/manifests/", Lie(framing=framing))
        if fits:
            assert (await client.get_manifest(APP, LATEST)).descriptor.size == SIZE_LIMIT
        else:
            with pytest.raises(Corrupt, match="more than 4194304 bytes"):
                await client.get_manifest(APP, LATEST)


# Tags and referrers.


async def test_tags_are_listed_and_a_link_to_another_host_states_only_that_there_is_more(
    liar: Liar, connect: Connect
) -> None:
    for tag in ("a", "b"):
        liar.offer_manifest(tag, OCI_MANIFEST, MANIFEST.raw)
    client = connect(liar.url)
    page = await client.tags(APP)
    assert (page.tags, page.next) == (["a", "b"], None)
    liar.behave("/tags/list", Lie(headers={"Link": '<https://evil.example/?last=x>; rel="next"'}))
    page = await client.tags(APP, "n=2&last=0")
    assert (page.tags, page.next) == (["a", "b"], PageStart(None, "b"))
    assert liar.requests.select()[-1].query == "n=2&last=0"


@pytest.mark.parametrize("body", [b"[]", b'{"tags": 7}', b'{"tags": [7]}', b"<html>", b"", b"[" * 100_000])
async def test_what_is_no_list_of_tags_is_corrupt(liar: Liar, connect: Connect, body: bytes) -> None:
    liar.behave("/tags/list", lies.answered(200, body))
    with pytest.raises(Corrupt):
        await connect(liar.url).tags(APP)


async def test_no_tags_at_all_is_an_empty_list(liar: Liar, connect: Connect) -> None:
    liar.behave("/tags/list", lies.answered(200, b'{"name": "x", "tags": null}'))
    assert (await connect(liar.url).tags(APP)).tags == []


async def test_referrers_that_nobody_could_pull_are_left_out(liar: Liar, connect: Connect) -> None:
    named = {"mediaType": OCI_MANIFEST, "digest": str(MANIFEST.descriptor.digest), "size": None, "annotations": None}
    entries = [None, 5, {}, named | {"digest": "blake3:" + 64 * "a"}, named, named | {"mediaType": ""}]
    body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    liar.behave("/referrers/", lies.answered(200, body, Content_Type=OCI_INDEX))
    page = await connect(liar.url).referrers(APP, MANIFEST.descriptor.digest, None)
    assert page.manifests == entries[4:]


async def test_referrers_come_by_the_api_else_by_the_tag_that_stands_in_for_it(liar: Liar, connect: Connect) -> None:
    digest = MANIFEST.descriptor.digest
    entry = {"mediaType": OCI_MANIFEST, "digest": str(digest), "size": 7}
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
    client = connect(liar.url)
    assert (await client.referrers(APP, digest, None)).manifests == []
    liar.offer_manifest(f"sha256-{digest.hex}", OCI_INDEX, index)
    page = await client.referrers(APP, digest, "some/type")
    assert (page.manifests, page.filtered) == ([entry], False)
    liar.behave("/referrers/", lies.answered(200, index, OCI_Filters_Applied="artifactType"))
    page = await client.referrers(APP, digest, "some/type")
    assert (page.manifests, page.filtered) == ([entry], True)


# Statuses.


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, Unavailable),
        (401, AccessDenied),
        (403, AccessDenied),
        (404, NotFound),
        (405, Unavailable),
        (410, NotFound),
        (416, Unavailable),
        (429, RateLimited),
        (500, Unavailable),
        (502, Unavailable),
        (503, Unavailable),
        (304, Unavailable),
    ],
)
async def test_a_status_says_what_went_wrong(
    liar: Liar, connect: Connect, status: int, expected: type[UpstreamError]
) -> None:
    liar.behave("/v2/", lies.refused(status, retry_after=17))
    client = connect(liar.url)
    for asking in (client.get_manifest(APP, LATEST), client.head_blob(APP, MISSING), client.tags(APP)):
        with pytest.raises(UpstreamError) as caught:
            await asking
        assert type(caught.value) is expected
        if isinstance(caught.value, RateLimited):
            assert caught.value.retry_after == 17
    with pytest.raises(expected):
        await download(client, MISSING)


async def test_a_connection_that_breaks_before_the_answer_is_unavailable(liar: Liar, connect: Connect) -> None:
    client = connect(liar.url)
    liar.stop()
    with pytest.raises(Unavailable):
        await client.get_manifest(APP, LATEST)
    with pytest.raises(Unavailable):
        await download(client, blob_of(1)[1])


# Redirects, and who sees the credential.


@pytest.fixture
def other() -> Iterator[Liar]:
    with Liar() as liar:
        yield liar


def wants_basic(liar: Liar) -> None:
    """Asks for a login once; from then on the client sends it with each first request."""
    liar.behave("/v2/", Lie(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'}).only(1))


async def test_the_credential_is_dropped_where_the_origin_changes(liar: Liar, other: Liar, connect: Connect) -> None:
    content, digest = blob_of(1_000)
    other.offer_blob(content)
    liar.behave("/blobs/", lies.redirected(f"{other.url}/v2/cdn/blobs/{digest}?signature=x"))
    wants_basic(liar)
    assert await download(connect(liar.url, ALICE), digest) == (1_000, content)
    assert [record.header("authorization") for record in liar.requests.select()] == [None, ALICE.basic()]
    [record] = other.requests.select()
    assert record.header("authorization") is None
    assert record.header("host") == other.netloc
    assert record.query == "signature=x"


async def test_the_credential_follows_within_the_origin(liar: Liar, connect: Connect) -> None:
    content, digest = blob_of(1_000)
    liar.offer_blob(content)
    liar.behave("/v2/acme/app/blobs/", lies.redirected(f"/v2/elsewhere/blobs/{digest}"))
    wants_basic(liar)
    assert await download(connect(liar.url, ALICE), digest) == (1_000, content)
    assert [record.header("authorization") for record in liar.requests.select()] == [None, ALICE.basic(), ALICE.basic()]


async def test_a_way_back_from_a_stranger_does_not_bring_the_credential_back(
    liar: Liar, other: Liar, connect: Connect
) -> None:
    digest = blob_of(1)[1]
    liar.behave("/v2/acme/app/blobs/", lies.redirected(f"{other.url}/v2/x"))
    other.behave("/v2/x", lies.redirected(f"{liar.url}/v2/private/blobs/{digest}"))
    wants_basic(liar)
    with pytest.raises(UpstreamError):
        await download(connect(liar.url, ALICE), digest)
    assert liar.requests.select(path_contains="private")[0].header("authorization") is None


async def test_the_same_host_with_another_port_is_a_stranger(liar: Liar, other: Liar, connect: Connect) -> None:
    liar.behave("/manifests/", lies.redirected(f"{other.url}/v2/acme/app/manifests/latest"))
    other.offer_manifest("latest", OCI_MANIFEST, MANIFEST.raw)
    wants_basic(liar)
    assert await connect(liar.url, ALICE).get_manifest(APP, LATEST) == MANIFEST
    assert [record.header("authorization") for record in other.requests.select()] == [None]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_five_redirects_are_followed_and_no_more(liar: Liar, connect: Connect, status: int) -> None:
    liar.offer_manifest("latest", OCI_MANIFEST, MANIFEST.raw)
    for hop in range(REDIRECT_LIMIT):
        liar.behave(f"/v2/hop{hop}/", lies.redirected(f"/v2/hop{hop + 1}/manifests/latest", status))
    client = connect(liar.url)
    assert await client.get_manifest(RepositoryName("hop0"), LATEST) == MANIFEST
    liar.behave(f"/v2/hop{REDIRECT_LIMIT}/", lies.redirected("/v2/last/manifests/latest", status))
    with pytest.raises(Unavailable, match="more than 5 times"):
        await client.get_manifest(RepositoryName("hop0"), LATEST)
    assert liar.requests.count(path_contains="/v2/last/") == 0


@pytest.mark.parametrize("location", ["file:///etc/passwd", "https://user@host.example/", "", "ftp://host.example/"])
async def test_a_redirect_to_where_nobody_may_follow_is_unavailable(
    liar: Liar, connect: Connect, location: str
) -> None:
    liar.behave("/manifests/", lies.redirected(location))
    with pytest.raises(Unavailable):
        await connect(liar.url).get_manifest(APP, LATEST)


async def test_a_redirect_from_https_to_http_is_not_followed(tls_liar: Liar, canary: Liar, connect: Connect) -> None:
    tls_liar.behave("/manifests/", lies.redirected(f"{canary.url}/v2/x/manifests/latest"))
    with pytest.raises(Unavailable, match="leaves https"):
        await connect(tls_liar.url).get_manifest(APP, LATEST)


@pytest.mark.parametrize(
    ("status", "expected"), [(401, NoStatement), (403, NoStatement), (429, Unavailable), (500, Unavailable)]
)
async def test_what_a_stranger_refuses_says_nothing_of_the_upstream(
    liar: Liar, other: Liar, connect: Connect, status: int, expected: type[UpstreamError]
) -> None:
    liar.behave("/manifests/", lies.redirected(f"{other.url}/v2/x"))
    other.behave("/v2/x", lies.refused(status))
    with pytest.raises(UpstreamError, match=f"responded with {status}") as caught:
        await connect(liar.url).get_manifest(APP, LATEST)
    assert type(caught.value) is expected


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
async def test_what_refuses_a_blob_behind_a_redirect_is_an_outage(
    liar: Liar, other: Liar, connect: Connect, status: int
) -> None:
    liar.behave("/blobs/", lies.redirected(f"{other.url}/bucket/x"))
    other.behave("/bucket/x", Lie(status=status, body=b"<Error/>", headers={API_VERSION: None}))
    with pytest.raises(Unavailable, match=f"responded with {status}"):
        await download(connect(liar.url), MISSING)


async def test_a_target_of_redirects_that_fails_images_is_still_sent_requests_for_others(
    liar: Liar, other: Liar, connect: Connect
) -> None:
    client, digest = connect(liar.url), other.offer_blob(b"content")
    liar.behave("/blobs/", lies.redirected(f"{other.url}/v2/bad/blobs/{digest}"))
    liar.behave("/good/image/", lies.redirected(f"{other.url}/v2/good/blobs/{digest}"))
    other.behave("/v2/bad/", lies.refused(500))
    for number in range(20):
        with pytest.raises(Unavailable, match="responded with 500"):
            await client.head_blob(RepositoryName(f"image/number{number}"), Digest.parse(digest))
    assert await client.head_blob(RepositoryName("good/image"), Digest.parse(digest)) == len(b"content")
    other.stop()
    for number in range(5):
        with pytest.raises(Unavailable, match="connection refused"):
            await client.head_blob(RepositoryName(f"image/later{number}"), Digest.parse(digest))
    other.start()
    assert await client.head_blob(RepositoryName("good/image"), Digest.parse(digest)) == len(b"content")


@pytest.mark.parametrize(
    ("status", "header", "media_type", "body", "alive"),
    [
        (404, "registry/2.0", "text/plain", b"", True),
        (404, None, "application/json", b'{"errors": []}', True),
        (403, None, "application/problem+json", b'{"errors": [{"code": "DENIED"}]}', True),
        (404, None, "application/json", b'{"error": "no route"}', False),
        (404, None, "application/json", b"[" * 100_000, False),
        (404, None, "text/html", b'{"errors": []}', False),
        (400, "registry/2.0", "application/json", b'{"errors": []}', False),
    ],
)
async def test_a_refusal_proves_that_a_registry_works_if_it_is_the_registry_s_own(
    liar: Liar, connect: Connect, status: int, header: str | None, media_type: str, body: bytes, alive: bool
) -> None:
    client = connect(liar.url)
    liar.stop()
    for _ in range(2):
        with pytest.raises(Unavailable):
            await client.get_manifest(APP, LATEST)
    liar.start()
    headers = {"Docker-Distribution-Api-Version": header, "Content-Type": media_type}
    liar.behave("/manifests/", Lie(status=status, body=body, headers=headers))
    with pytest.raises(UpstreamError):
        await client.get_manifest(APP, LATEST)
    liar.stop()
    with pytest.raises(Unavailable):
        await client.get_manifest(APP, LATEST)
    assert client.fails(APP) is not alive


async def test_a_credential_that_is_refused_everywhere_is_an_outage(liar: Liar, connect: Connect) -> None:
    liar.behave("/v2/", Lie(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'}))
    client = connect(liar.url, ALICE)
    with pytest.raises(CredentialRefused, match="refuses user alice"):
        await client.get_manifest(APP, LATEST)
    assert [request.path for request in liar.requests.select()][2:] == ["/v2/"]
    with pytest.raises(CredentialRefused, match="refused user alice, who is tried again in"):
        await client.get_manifest(APP, LATEST)
    assert liar.requests.count() == 3


async def test_a_credential_that_is_refused_for_an_image_alone_is_denied(liar: Liar, connect: Connect) -> None:
    liar.behave(f"/v2/{APP}", Lie(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'}))
    with pytest.raises(AccessDenied):
        await connect(liar.url, ALICE).get_manifest(APP, LATEST)
    assert liar.requests.select()[-1].path == "/v2/"


async def test_a_foreign_token_service_sees_nothing(liar: Liar, canary: Liar, connect: Connect) -> None:
    liar.behave("/v2/", lies.foreign_realm(f"{canary.url}/token"))
    with pytest.raises(Unavailable, match="token_hosts"):
        await connect(liar.url, ALICE).get_manifest(APP, LATEST)


# A Docker Hub: tokens, and blobs from elsewhere.


@pytest.mark.parametrize("kind", ["hub", "tls_hub"])
async def test_an_image_is_pulled_from_a_hub_with_one_token(
    kind: str, request: pytest.FixtureRequest, published: Publish, connect: Connect
) -> None:
    layout, hub = published("tiny"), request.getfixturevalue(kind)
    assert isinstance(hub, Hub)
    client = connect(hub.url, token_hosts=frozenset({hub.token_netloc}))
    image = RepositoryName("library/tiny")
    manifest = await client.get_manifest(image, Tag("latest"))
    assert str(manifest.descriptor.digest) == layout.digest
    for layer in manifest.references():

        def work(digest: Digest = layer.digest) -> bytes:
            with client.open_blob(image, digest) as stream:
                return b"".join(receive(stream))

        assert await asyncio.to_thread(work) == layout.read(str(layer.digest))
    assert hub.count("token") == 1
    assert all(record.header("authorization") is None for record in hub.log.select(server="cdn"))


async def test_a_token_that_was_revoked_is_renewed_once(hub: Hub, published: Publish, connect: Connect) -> None:
    published("tiny")
    client = connect(hub.url, token_hosts=frozenset({hub.token_netloc}))
    image = RepositoryName("library/tiny")
    await client.head_manifest(image, LATEST)
    hub.tokens.revoke_all()
    assert await client.head_manifest(image, LATEST) is not None
    assert hub.count("token") == 2


async def test_a_part_after_the_token_ended_comes_with_a_new_one_from_the_registry_s_own_url(
    hub: Hub, published: Publish, connect: Connect
) -> None:
    layout = published("mid")
    client = connect(hub.url, token_hosts=frozenset({hub.token_netloc}))
    image, digest = RepositoryName("library/mid"), Digest.parse(layout.layers[0])
    content = layout.read(layout.layers[0])

    def work() -> bytes:
        with client.open_blob(image, digest) as stream:
            begun = next(receive(stream, 10_000))
        hub.tokens.revoke_all()
        hub.cdn.url_lifetime = 60
        with client.open_blob(image, digest, Part(len(begun), len(content), len(content))) as stream:
            return begun + b"".join(receive(stream))

    assert await asyncio.to_thread(work) == content
    assert hub.count("token") == 2
    assert hub.count("hub", "GET", "/blobs/", 307) == 2


async def test_a_private_image_is_denied_to_strangers_and_to_nobody_with_the_credential(
    hub: Hub, published: Publish, connect: Connect, tmp_path: Path
) -> None:
    published("tiny")
    hub.private.add("library/tiny")
    hub.tokens.users["alice"] = "secret"
    image, hosts = RepositoryName("library/tiny"), frozenset({hub.token_netloc})
    with pytest.raises(AccessDenied):
        await connect(hub.url, token_hosts=hosts).get_manifest(image, LATEST)
    assert await connect(hub.url, ALICE, hosts).head_manifest(image, LATEST) is not None
    with pytest.raises(Unavailable, match="responded with 401 to user mallory"):
        await connect(hub.url, Credential("mallory", "?"), hosts).head_manifest(image, LATEST)


async def test_an_upstream_that_fails_at_parts_is_still_asked_for_the_whole(liar: Liar, connect: Connect) -> None:
    content, digest = blob_of(100_000)
    liar.offer_blob(content)
    client = connect(liar.url)
    for status in (500, 503, 429):
        liar.behave("/blobs/", lies.refused(status))
        for _ in range(4):
            with pytest.raises(UpstreamError), client.open_blob(APP, digest, Part(0, 10, len(content))):
                raise AssertionError("it was given")
        liar.honest()
        assert await download(client, digest) == (len(content), content)
