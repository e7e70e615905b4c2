"""Responses with blobs and manifests, over a blob whose bytes arrive and fail as scripted."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message
from structlog.testing import capture_logs

from cache.oci.digest import Digest
from cache.oci.errors import BlobUnknown, RegistryError, UpstreamInvalid
from cache.oci.manifest import Manifest
from cache.oci.media_types import OCI_INDEX
from cache.repository import CacheStatus, FoundBlob
from cache.store.base import TAIL, Extent, OpenBlob
from cache.store.filesystem import StoredBlob
from cache.values import Outcome
from gateway.http.access_log import AccessLog
from gateway.http.documents import Document
from gateway.http.errors import unexpected_response
from gateway.v2.errors import ErrorRendering
from gateway.v2.responses import PIECE, BlobResponse, ManifestResponse, PulledBlob, cache_headers
from tests.gateway.asgi import Client, Exchange, scope_of
from tests.parts.images import digest_of, seeded

SMALL = seeded("small", 5_000)
LARGE = seeded("large", 3 * TAIL)
MISS = CacheStatus(Outcome.MISS)


class ScriptedBlob:
    """A blob whose bytes become ready up to `held`; the rest, and the verdict, wait for `proceed`, then arrive or fail.

    `failure` is raised instead of the rest. `size_known`: whether `size` is known before the verdict.
    """

    def __init__(
        self,
        content: bytes,
        *,
        held: int | None = None,
        failure: Exception | None = None,
        size_known: bool = True,
        cut: bool = False,
    ) -> None:
        self.digest = Digest.of(content)
        self.size: int | None = len(content) if size_known else None
        self.proceed = asyncio.Event()
        self.waits = 0
        self.asked = asyncio.Event()
        self.closed = 0
        self.reads: list[Extent] = []
        self._content = content
        self._held = held
        self._failure = failure
        self._cut = cut
        if held is None and failure is None:
            self.proceed.set()

    async def verified(self) -> None:
        await self._verdict()
        self.size = len(self._content)

    async def ready(self, start: int, stop: int | None) -> AsyncIterator[Extent]:
        end = len(self._content) if stop is None else stop
        held = end if self._held is None else min(self._held, end)
        if start < held:
            yield Extent(start, held)
        await self._verdict()
        if held < end:
            yield Extent(max(start, held), end)

    async def read(self, extent: Extent) -> bytes:
        assert not self.closed, "read after it was closed"
        if self._cut:
            raise EOFError("cut by somebody else")
        self.reads.append(extent)
        return self._content[extent.start : extent.stop]

    def close(self) -> None:
        self.closed += 1

    async def _verdict(self) -> None:
        self.waits += 1
        self.asked.set()
        await self.proceed.wait()
        if self._failure is not None:
            raise self._failure


def serving(blob: OpenBlob, answer: CacheStatus = MISS) -> ASGIApp:
    async def get(request: Request) -> ASGIApp:
        return BlobResponse(blob, answer, request.headers)

    return ErrorRendering(Router([Route("/", get)]))  # type: ignore[arg-type]


async def get(blob: ScriptedBlob, *headers: tuple[str, str], version: str = "1.1", method: str = "GET") -> Exchange:
    async with asyncio.timeout(30):
        return await Client(scope_of(method, "/", headers, http_version=version)).request(serving(blob))


def etag(blob: ScriptedBlob) -> str:
    return f'"{blob.digest}"'


@pytest.mark.parametrize("content", [b"", b"x", SMALL, LARGE, seeded("pieces", 2 * PIECE + 1)], ids=len)
async def test_a_whole_blob_has_every_header_that_is_due(content: bytes) -> None:
    blob = ScriptedBlob(content)
    found = await get(blob)
    assert (found.status, found.body, found.complete) == (200, content, True)
    assert sorted(found.headers.lines) == [
        ("accept-ranges", "bytes"),
        ("content-length", str(len(content))),
        ("content-type", "application/octet-stream"),
        ("docker-content-digest", str(blob.digest)),
        ("docker-distribution-api-version", "registry/2.0"),
        ("etag", etag(blob)),
        ("x-cache", "MISS"),
        ("x-content-type-options", "nosniff"),
    ]
    assert blob.closed == 1


async def test_no_piece_is_larger_than_the_limit() -> None:
    blob = ScriptedBlob(seeded("pieces", 2 * PIECE + 1))
    await get(blob)
    assert [extent.stop - extent.start for extent in blob.reads] == [PIECE, PIECE, 1]


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [("bytes=0-0", 0, 1), ("bytes=5-9", 5, 10), ("bytes=98000-", 98_000, 98_304), ("bytes=-1", 98_303, 98_304)],
)
async def test_a_part_is_answered_206_with_its_place(wanted: str, start: int, stop: int) -> None:
    blob = ScriptedBlob(LARGE)
    found = await get(blob, ("Range", wanted))
    assert (found.status, found.body, found.complete) == (206, LARGE[start:stop], True)
    assert found.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(LARGE)}"
    assert found.headers["content-length"] == str(stop - start)
    assert found.headers["etag"] == etag(blob)
    assert found.headers["x-cache"] == "MISS"
    assert blob.closed == 1


@pytest.mark.parametrize("wanted", ["bytes=98304-", "bytes=-0", "bytes=999999-9999999"])
async def test_a_part_behind_the_end_is_answered_416_with_the_size(wanted: str) -> None:
    blob = ScriptedBlob(LARGE)
    found = await get(blob, ("Range", wanted))
    assert found.status == 416
    assert found.headers["content-range"] == f"bytes */{len(LARGE)}"
    assert found.error["code"] == "RANGE_INVALID"
    assert str(len(LARGE)) in found.error["message"]
    assert "x-cache" not in found.headers
    assert blob.closed == 1


@pytest.mark.parametrize("wanted", ["bytes=0-1,3-4", "bytes=5-3", "lines=1-2", "bytes=a-"])
async def test_what_is_no_single_range_is_answered_with_the_whole(wanted: str) -> None:
    found = await get(ScriptedBlob(LARGE), ("Range", wanted))
    assert (found.status, found.body) == (200, LARGE)
    assert "content-range" not in found.headers


@pytest.mark.parametrize("given", ["{}", "W/{}", '"x", {}', "*"])
async def test_what_the_client_has_is_answered_304_without_a_body(given: str) -> None:
    blob = ScriptedBlob(LARGE, held=0)
    found = await get(blob, ("If-None-Match", given.format(etag(blob))), ("Range", "bytes=0-1"))
    assert (found.status, found.body, found.complete) == (304, b"", True)
    assert found.headers["etag"] == etag(blob)
    assert found.headers["docker-content-digest"] == str(blob.digest)
    assert found.headers["x-cache"] == "MISS"
    assert "content-length" not in found.headers
    assert (blob.waits, blob.reads, blob.closed) == (0, [], 1)


async def test_a_client_that_has_another_blob_gets_this_one() -> None:
    found = await get(ScriptedBlob(LARGE), ("If-None-Match", '"sha256:other"'))
    assert (found.status, found.body) == (200, LARGE)


@pytest.mark.parametrize(("given", "status"), [("{}", 206), ("W/{}", 200), ('"other"', 200)])
async def test_a_part_is_given_only_of_the_blob_that_the_client_means(given: str, status: int) -> None:
    blob = ScriptedBlob(LARGE)
    found = await get(blob, ("Range", "bytes=0-1"), ("If-Range", given.format(etag(blob))))
    assert found.status == status
    assert found.body == (LARGE[:2] if status == 206 else LARGE)


async def test_a_range_behind_the_end_of_another_blob_is_not_refused() -> None:
    found = await get(ScriptedBlob(LARGE), ("Range", "bytes=999999-"), ("If-Range", '"other"'))
    assert (found.status, found.body) == (200, LARGE)


# Before and after the verdict.


class Conversation:
    """A request that runs beside the test; leaving the block ends it."""

    def __init__(self, blob: ScriptedBlob, *headers: tuple[str, str], version: str = "1.1") -> None:
        self._app = serving(blob)
        self.client = Client(scope_of("GET", "/", headers, http_version=version))
        self.moved = asyncio.Event()
        self.client.watch = self._note

    async def __aenter__(self) -> "Conversation":
        self.task = asyncio.ensure_future(self.client.request(self._app))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def end(self) -> Exchange:
        async with asyncio.timeout(30):
            return await self.task

    async def _note(self, message: Message) -> None:
        self.moved.set()


@pytest.mark.parametrize("size", [0, 1, TAIL])
async def test_a_small_blob_sends_nothing_before_the_verdict(size: int) -> None:
    blob = ScriptedBlob(seeded("small", size), held=0)
    async with Conversation(blob) as conversation:
        await blob.asked.wait()
        assert conversation.client.received.status == 0
        blob.proceed.set()
        found = await conversation.end()
    assert (found.status, len(found.body), found.complete) == (200, size, True)


@pytest.mark.parametrize("failure", [UpstreamInvalid("hub.example gave bytes without the digest"), BlobUnknown("gone")])
async def test_a_small_blob_that_fails_is_answered_with_a_clear_error(failure: RegistryError) -> None:
    blob = ScriptedBlob(SMALL, held=0, failure=failure)
    blob.proceed.set()
    found = await get(blob)
    assert (found.status, found.complete) == (failure.status, True)
    assert found.error == {"code": failure.code, "message": failure.detail}
    assert "x-cache" not in found.headers
    assert "docker-content-digest" not in found.headers
    assert blob.closed == 1


async def test_a_part_of_a_small_blob_sends_its_headers_at_once() -> None:
    blob = ScriptedBlob(SMALL, held=0)
    async with Conversation(blob, ("Range", "bytes=1-2")) as conversation:
        await conversation.moved.wait()
        assert conversation.client.received.status == 206
        blob.proceed.set()
        found = await conversation.end()
    assert (found.body, found.complete) == (SMALL[1:3], True)


async def test_a_large_blob_is_sent_as_it_becomes_ready() -> None:
    blob = ScriptedBlob(LARGE, held=2 * TAIL)
    async with Conversation(blob) as conversation:
        await blob.asked.wait()
        received = conversation.client.received
        assert (received.status, received.body, received.complete) == (200, LARGE[: 2 * TAIL], False)
        blob.proceed.set()
        found = await conversation.end()
    assert (found.body, found.complete) == (LARGE, True)


@pytest.mark.parametrize("headers", [(), (("Range", "bytes=10-"),)], ids=["whole", "part"])
async def test_a_blob_that_fails_midway_ends_short(headers: Sequence[tuple[str, str]]) -> None:
    blob = ScriptedBlob(LARGE, held=TAIL, failure=UpstreamInvalid("wrong"))
    blob.proceed.set()
    found = await get(blob, *headers)
    assert found.status in (200, 206)
    assert not found.complete
    assert 0 < len(found.body) < int(found.headers["content-length"])
    assert b"errors" not in found.body
    assert blob.closed == 1


async def test_a_stored_file_that_was_cut_ends_short() -> None:
    blob = ScriptedBlob(LARGE, cut=True)
    found = await get(blob)
    assert (found.status, found.body, found.complete) == (200, b"", False)
    assert blob.closed == 1


@pytest.mark.parametrize(("size", "messages"), [(1, 1), (TAIL, 1), (TAIL + 1, 3)])
async def test_a_small_stored_blob_is_sent_with_its_head(size: int, messages: int, tmp_path: Path) -> None:
    content, bodies = seeded("stored", size), list[Message]()

    async def note(message: Message) -> None:
        if message["type"] == "http.response.body":
            bodies.append(message)

    client = Client(scope_of("GET", "/"))
    client.watch = note
    found = await client.request(serving(stored(content, tmp_path)))
    assert (found.status, found.body, found.complete) == (200, content, True)
    assert len(bodies) == messages


async def test_a_small_stored_file_that_was_cut_ends_short(tmp_path: Path) -> None:
    blob = stored(SMALL, tmp_path)
    os.truncate(tmp_path / "blob", len(SMALL) - 1)
    found = await Client(scope_of("GET", "/")).request(serving(blob))
    assert (found.status, found.headers["content-length"], found.complete) == (200, str(len(SMALL)), False)


def stored(content: bytes, folder: Path) -> StoredBlob:
    file = folder / "blob"
    file.write_bytes(content)
    return StoredBlob(Digest.parse(digest_of(content)), os.open(file, os.O_RDONLY))


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (ScriptedBlob(LARGE, held=TAIL, failure=UpstreamInvalid("hub.example sent wrong bytes")), "sent wrong bytes"),
        (ScriptedBlob(LARGE, held=TAIL, failure=OSError(errno.EIO, os.strerror(errno.EIO))), "Input/output error"),
        (ScriptedBlob(LARGE, cut=True), "cut by somebody else"),
        (ScriptedBlob(LARGE, held=TAIL, failure=ConnectionResetError("the client has disconnected")), None),
    ],
    ids=["upstream", "disk", "cut file", "client"],
)
async def test_the_line_of_a_response_that_ended_short_says_why(blob: ScriptedBlob, reason: str | None) -> None:
    blob.proceed.set()
    with capture_logs() as events:
        await Client(scope_of("GET", "/")).request(AccessLog(serving(blob), unexpected_response))
    [line] = [event for event in events if event["event"] == "request"]
    assert (line["status"], line["complete"], line["refusal"]) == (200, False, None)
    if reason is None:
        assert (line["log_level"], line["reason"]) == ("info", None)
    else:
        assert (line["log_level"], reason in line["reason"]) == ("warning", True)


async def test_a_blob_of_unknown_size_has_no_length_and_no_parts() -> None:
    blob = ScriptedBlob(LARGE, size_known=False)
    found = await get(blob, ("Range", "bytes=0-1"))
    assert (found.status, found.body, found.complete) == (200, LARGE, True)
    assert "content-length" not in found.headers
    assert "content-range" not in found.headers


async def test_a_blob_of_unknown_size_that_fails_ends_short() -> None:
    blob = ScriptedBlob(LARGE, size_known=False, held=TAIL, failure=UpstreamInvalid("wrong"))
    blob.proceed.set()
    found = await get(blob)
    assert (found.status, found.complete) == (200, False)


async def test_an_old_client_gets_a_blob_of_unknown_size_after_the_verdict_with_its_length() -> None:
    blob = ScriptedBlob(LARGE, size_known=False, held=TAIL)
    async with Conversation(blob, version="1.0") as conversation:
        await blob.asked.wait()
        assert conversation.client.received.status == 0
        blob.proceed.set()
        found = await conversation.end()
    assert (found.status, found.body) == (200, LARGE)
    assert found.headers["content-length"] == str(len(LARGE))


async def test_an_old_client_gets_a_clear_error_where_a_blob_of_unknown_size_fails() -> None:
    blob = ScriptedBlob(LARGE, size_known=False, held=TAIL, failure=UpstreamInvalid("wrong"))
    blob.proceed.set()
    found = await get(blob, version="1.0")
    assert (found.status, found.error["code"]) == (502, "UNKNOWN")
    assert blob.closed == 1


async def test_an_old_client_gets_a_large_blob_of_known_size_as_it_becomes_ready() -> None:
    blob = ScriptedBlob(LARGE, held=TAIL)
    async with Conversation(blob, version="1.0") as conversation:
        await blob.asked.wait()
        assert conversation.client.received.body == LARGE[:TAIL]


# Clients that leave.


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["before the headers", "midway"])
async def test_a_client_that_leaves_ends_the_work_and_closes_the_blob(content: bytes) -> None:
    blob = ScriptedBlob(content, held=1)
    async with Conversation(blob) as conversation:
        await blob.asked.wait()
        conversation.client.leave()
        found = await conversation.end()
    assert not found.complete
    assert blob.closed == 1


async def test_a_client_that_leaves_while_it_is_sent_to_closes_the_blob() -> None:
    blob = ScriptedBlob(LARGE)
    conversation = Conversation(blob)

    async def stuck(message: Message) -> None:
        if message["type"] == "http.response.body":
            conversation.client.leave()
            await asyncio.Event().wait()

    conversation.client.watch = stuck
    async with conversation:
        found = await conversation.end()
    assert not found.complete
    assert blob.closed == 1


async def test_a_server_that_stops_closes_the_blob() -> None:
    blob = ScriptedBlob(LARGE, held=TAIL)
    async with Conversation(blob) as conversation:
        await blob.asked.wait()
        conversation.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await conversation.task
    assert blob.closed == 1


async def test_a_send_that_fails_closes_the_blob() -> None:
    blob = ScriptedBlob(LARGE)

    async def broken(message: Message) -> None:
        raise BrokenPipeError

    client = Client(scope_of("GET", "/"))
    client.watch = broken
    with pytest.raises(BrokenPipeError):
        await client.request(BlobResponse(blob, MISS, Headers()))
    assert blob.closed == 1


async def test_no_task_outlives_a_response() -> None:
    before = asyncio.all_tasks()
    await get(ScriptedBlob(LARGE))
    blob = ScriptedBlob(LARGE, held=TAIL, failure=UpstreamInvalid("wrong"))
    blob.proceed.set()
    await get(blob)
    assert asyncio.all_tasks() == before


# Manifests, and the headers about the cache.

INDEX = Manifest.parse(OCI_INDEX, b'{"schemaVersion": 2,  "manifests": []}\n')


@pytest.mark.parametrize("manifest", [INDEX, None], ids=["GET", "HEAD"])
async def test_a_manifest_is_byte_for_byte_what_it_was(manifest: Manifest | None) -> None:
    document = Document(manifest.raw) if manifest else None
    response = ManifestResponse(INDEX.descriptor, document, MISS, Headers())
    found = await Client(scope_of("GET", "/")).request(response)
    assert (found.status, found.body) == (200, INDEX.raw if manifest else b"")
    assert sorted(found.headers.lines) == [
        ("content-length", str(len(INDEX.raw))),
        ("content-type", OCI_INDEX),
        ("docker-content-digest", str(INDEX.descriptor.digest)),
        ("docker-distribution-api-version", "registry/2.0"),
        ("etag", f'"{INDEX.descriptor.digest}"'),
        ("x-cache", "MISS"),
    ]


async def test_a_manifest_that_the_client_has_is_answered_304() -> None:
    given = Headers({"If-None-Match": f'"{INDEX.descriptor.digest}"'})
    response = ManifestResponse(INDEX.descriptor, Document(INDEX.raw), MISS, given)
    found = await Client(scope_of("GET", "/")).request(response)
    assert (found.status, found.body) == (304, b"")
    assert found.headers["docker-content-digest"] == str(INDEX.descriptor.digest)
    assert "content-length" not in found.headers


@pytest.mark.parametrize("outcome", Outcome)
def test_x_cache_names_every_outcome(outcome: Outcome) -> None:
    assert cache_headers(CacheStatus(outcome)) == {"X-Cache": outcome.value}


def test_content_that_no_cache_stands_before_says_nothing_of_a_cache() -> None:
    assert cache_headers(CacheStatus(None)) == {}


def test_a_stale_response_tells_its_age_and_reason() -> None:
    headers = cache_headers(
        CacheStatus(Outcome.STALE, timedelta(hours=1, milliseconds=900), "hub.example responded with 503")
    )
    assert headers == {"X-Cache": "STALE", "Age": "3600", "Warning": '299 - "hub.example responded with 503"'}


def test_a_clock_that_went_back_gives_no_negative_age() -> None:
    assert cache_headers(CacheStatus(Outcome.STALE, timedelta(seconds=-5)))["Age"] == "0"


def test_no_reason_can_break_out_of_its_header() -> None:
    headers = cache_headers(CacheStatus(Outcome.STALE, timedelta(), 'a"b\\c\r\nX-Evil: 1\0é'))["Warning"]
    assert headers == '299 - "abcX-Evil: 1"'


async def test_a_client_that_leaves_ends_the_wait_for_its_blob() -> None:
    waiting, ended = asyncio.Event(), asyncio.Event()

    async def find() -> FoundBlob:
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError("not reached")

    async def receive() -> Message:
        await waiting.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise AssertionError("nobody is left to respond to")

    async with asyncio.timeout(30):
        await PulledBlob(find, Headers())(scope_of("GET", "/"), receive, send)
        await ended.wait()


async def test_headers_or_a_refusal_are_sent_in_time() -> None:
    blob = ScriptedBlob(SMALL, held=len(SMALL))

    async def find() -> FoundBlob:
        return FoundBlob(blob, MISS)  # type: ignore[arg-type]

    async def get(request: Request) -> ASGIApp:
        return PulledBlob(find, request.headers, headers_seconds=0.05)

    async with asyncio.timeout(30):
        app = ErrorRendering(Router([Route("/", get)]))  # type: ignore[arg-type]
        exchange = await Client(scope_of("GET", "/")).request(app)
    assert (exchange.status, "retry-after" in exchange.headers) == (503, True)
    assert blob.closed


async def test_a_blob_that_is_found_late_and_complete_is_sent() -> None:
    async def find() -> FoundBlob:
        await asyncio.sleep(0)
        return FoundBlob(ScriptedBlob(SMALL), MISS)  # type: ignore[arg-type]

    async def get(request: Request) -> ASGIApp:
        return PulledBlob(find, request.headers, headers_seconds=0.0)

    async with asyncio.timeout(30):
        app = ErrorRendering(Router([Route("/", get)]))  # type: ignore[arg-type]
        exchange = await Client(scope_of("GET", "/")).request(app)
    assert exchange.status == 200
