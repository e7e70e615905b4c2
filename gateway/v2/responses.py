"""Responses of the pull endpoints to requests for manifests and blobs, with every header that is due."""

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import lru_cache

from starlette.types import Receive, Scope, Send

from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.errors import RangeInvalid, RegistryError
from cache.oci.media_types import OCTET_STREAM
from cache.proxy.errors import headers_due
from cache.proxy.pull_through import PullTimings
from cache.repository import HIT, UNCACHED, CacheStatus, FoundBlob
from cache.store.base import TAIL, Extent, LocalBlob, OpenBlob
from gateway.http.access_log import note_short_end
from gateway.http.conditional import ByteRange, Unsatisfiable, matches, parse_range, range_applies
from gateway.http.disconnect import while_connected
from gateway.http.documents import Document
from gateway.http.errors import API_VERSION
from gateway.maintenance.repeated_pulls import WatchedPull
from gateway.server.zerocopy import EXTENSION
from gateway.v2.warnings import warning_value

CONTENT_DIGEST = "Docker-Content-Digest"
"""Header by which clients learn the digest of a manifest or a blob."""

PIECE = 128 * 1024
"""Bytes of a blob that are read at once where the kernel cannot send them; a slow client holds as many in memory."""
HEADERS_SECONDS = PullTimings().headers
_MORE = {"more_body": True}


class BlobResponse:
    """A blob or a range of it, sent as its bytes become ready. Closes the blob.

    If they never become ready, the response ends short and its connection closes, so that no client takes it for
    complete. A whole small blob waits for the verdict before the first header, and fails with a clear status.
    """

    def __init__(
        self, blob: OpenBlob, status: CacheStatus, request: Mapping[str, str], headers_seconds: float = HEADERS_SECONDS
    ) -> None:
        """`request`: the first value of each header, by its name in lower case. `headers_seconds`: until the response
        has its headers, or fails."""
        self._blob = blob
        self._status = status
        self._request = request
        self._headers_seconds = headers_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await while_connected(receive, self.respond(scope, send))
        finally:
            self._blob.close()

    async def respond(self, scope: Scope, send: Send) -> bool:
        """Respond to a client whose disconnection the caller watches for; the caller closes the blob.

        Returns whether the client was sent the whole blob.
        """
        blob, etag = self._blob, f'"{self._blob.digest}"'
        headers = blob_headers(blob.digest, self._status)
        if matches(self._request.get("if-none-match"), etag):
            await _start(send, 304, headers)
            await send({"type": "http.response.body"})
            return False
        part = self._part(etag)
        if part is None and await self._must_be_verified(scope):
            async with headers_due(self._headers_seconds):
                await blob.verified()
        if part is not None:
            headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{blob.size}"
        if blob.size is not None:
            headers["Content-Length"] = str(part.stop - part.start if part else blob.size)
        content = await self._small_content() if part is None else None
        if content is not None:
            await _start(send, 200, headers)
            await send({"type": "http.response.body", "body": content})
            return True
        await _start(send, 206 if part else 200, headers)
        await send({"type": "http.response.body", "body": b"", **_MORE})  # sends the head now
        zero_copy = EXTENSION in scope.get("extensions", {})
        file = blob if zero_copy and isinstance(blob, LocalBlob) else None
        complete = await self._send_body(scope, send, part, file)
        return complete and (part is None or part.stop - part.start == blob.size)

    def _part(self, etag: str) -> ByteRange | None:
        """The range to send; None for the whole blob, as for one of unknown size. Raises RangeInvalid."""
        if self._blob.size is None or not range_applies(self._request.get("if-range"), etag):
            return None
        try:
            return parse_range(self._request.get("range"), self._blob.size)
        except Unsatisfiable as error:
            size = self._blob.size
            text = f"the range is not within the blob, which has {size} bytes"
            raise RangeInvalid(text, {"Content-Range": f"bytes */{size}"}) from error

    async def _must_be_verified(self, scope: Scope) -> bool:
        """Whether the whole blob must be verified before the first header: a small one, or one whose end an HTTP/1.0
        client could notice only by the close of the connection."""
        size = self._blob.size
        return scope["http_version"] == "1.0" if size is None else size <= TAIL

    async def _small_content(self) -> bytes | None:
        """The whole of a small local blob, to be sent with the head in one write; None for any other, and for one that
        cannot be read: its response ends short, as that of a large one does.

        To have the kernel send the file after the head took 40 % of a small blob.
        """
        blob = self._blob
        if blob.size is None or blob.size > TAIL or not isinstance(blob, LocalBlob):
            return None
        try:
            extents = [extent async for extent in blob.ready(0, None)]
            return b"".join([await blob.read(extent) if extent.data is None else extent.data for extent in extents])
        except (RegistryError, EOFError, OSError):
            return None

    async def _send_body(self, scope: Scope, send: Send, part: ByteRange | None, file: LocalBlob | None) -> bool:
        """Send the bytes as they become ready; whether all were. `file`: the blob again, where the kernel can send it
        without a copy."""
        try:
            async for extent in self._blob.ready(part.start if part else 0, part.stop if part else None):
                if extent.data is not None:
                    await send({"type": "http.response.body", "body": extent.data, **_MORE})
                    continue
                if file is not None:
                    count = extent.stop - extent.start
                    await send({"type": EXTENSION, "file": file, "offset": extent.start, "count": count, **_MORE})
                    continue
                for piece in _pieces(extent):
                    data = await self._blob.read(piece)
                    await send({"type": "http.response.body", "body": data, **_MORE})
        except ConnectionError:
            return False  # the client has disconnected
        except (RegistryError, EOFError, OSError) as error:
            note_short_end(scope, error)
            return False  # the headers are sent: ending short is the only signal left
        await send({"type": "http.response.body"})
        return True


class PulledBlob:
    """Response with a blob that it opens first; a client that disconnects ends the wait for the blob."""

    def __init__(
        self,
        find: Callable[[], Awaitable[FoundBlob]],
        request: Mapping[str, str],
        headers_seconds: float = HEADERS_SECONDS,
        watched: WatchedPull | None = None,
    ) -> None:
        """`find` opens the blob, and limits what it waits for. `headers_seconds`: until the response has its headers,
        or fails, if the blob is still to be verified. `watched` is told of a stored blob that is sent."""
        self._find = find
        self._request = request
        self._headers_seconds = headers_seconds
        self._watched = watched

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await while_connected(receive, self._respond(scope, send))

    async def _respond(self, scope: Scope, send: Send) -> None:
        began = time.monotonic()
        found = await self._find()
        try:
            left = max(0.0, self._headers_seconds - (time.monotonic() - began))
            watched = self._watched if found.status in (HIT, UNCACHED) else None
            if watched is not None:
                watched.began(is_native=found.status is UNCACHED)
            complete = await BlobResponse(found.blob, found.status, self._request, left).respond(scope, send)
            if watched is not None and complete:
                watched.completed()
        finally:
            found.blob.close()


class BlobHead:
    """Response to HEAD of a blob, without a length if the upstream did not state the size (`size` None)."""

    def __init__(self, digest: Digest, size: int | None, status: CacheStatus) -> None:
        self._headers = blob_headers(digest, status)
        if size is not None:
            self._headers["Content-Length"] = str(size)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _start(send, 200, self._headers)
        await send({"type": "http.response.body"})


class ManifestResponse:
    """A manifest byte for byte, or 304 if the client has it; only the headers where `manifest` is None (HEAD)."""

    def __init__(
        self,
        descriptor: Descriptor,
        manifest: Document | None,
        status: CacheStatus,
        request: Mapping[str, str],
        sending: Callable[[], None] = lambda: None,
    ) -> None:
        """`sending`: called when the manifest is about to be sent, and not for 304."""
        self._descriptor = descriptor
        self._manifest = manifest
        self._status = status
        self._request = request
        self._sending = sending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        descriptor = self._descriptor
        if matches(self._request.get("if-none-match"), f'"{descriptor.digest}"'):
            headers = _content_headers(descriptor.digest, descriptor.media_type, self._status)
            await _start(send, 304, headers)
            await send({"type": "http.response.body"})
            return
        self._sending()
        if self._status.age is None:
            head = _kept_manifest_head(descriptor, self._status)
        else:
            head = _manifest_head(descriptor, self._status)
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": self._manifest.body if self._manifest else b""})


@lru_cache(4096)
def _kept_manifest_head(descriptor: Descriptor, status: CacheStatus) -> list[tuple[bytes, bytes]]:
    """Headers of a manifest, built once for each cache status; the list must not be changed. Not for stale content:
    its age differs each time, and would push the others out."""
    return _manifest_head(descriptor, status)


def _manifest_head(descriptor: Descriptor, status: CacheStatus) -> list[tuple[bytes, bytes]]:
    headers = _content_headers(descriptor.digest, descriptor.media_type, status)
    return _raw_headers(headers | {"Content-Length": str(descriptor.size)})


def blob_headers(digest: Digest, status: CacheStatus) -> dict[str, str]:
    """Headers of a blob, without a length; `nosniff` keeps browsers from rendering it."""
    headers = _content_headers(digest, OCTET_STREAM, status)
    return headers | {"Accept-Ranges": "bytes", "X-Content-Type-Options": "nosniff"}


def cache_headers(status: CacheStatus) -> dict[str, str]:
    """X-Cache, with Age and Warning for stale content; nothing for content that no cache stands before."""
    if status.outcome is None:
        return {}
    headers = {"X-Cache": status.outcome.value}
    if status.age is not None:
        headers["Age"] = str(max(0, int(status.age.total_seconds())))
    if status.warning:
        headers["Warning"] = warning_value(status.warning)
    return headers


def _content_headers(digest: Digest, media_type: str, status: CacheStatus) -> dict[str, str]:
    return {
        "Content-Type": media_type,
        CONTENT_DIGEST: str(digest),
        "ETag": f'"{digest}"',
        **API_VERSION,
        **cache_headers(status),
    }


def _pieces(extent: Extent) -> Iterator[Extent]:
    for start in range(extent.start, extent.stop, PIECE):
        yield Extent(start, min(start + PIECE, extent.stop))


async def _start(send: Send, status: int, headers: Mapping[str, str]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": _raw_headers(headers)})


def _raw_headers(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
