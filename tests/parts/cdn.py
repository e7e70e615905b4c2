"""Blob host of the test's Docker Hub: signed addresses that expire, ranges, and holds in the stream."""

import asyncio
import contextlib
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tests.parts.canaries import remember

from .holds import Hold
from .records import Record

CHUNK = 1024 * 1024
THROTTLED_CHUNK = 32 * 1024
BLOB_PATH = re.compile(r"/registry-v2/docker/registry/v2/blobs/(\w+)/[0-9a-f]{2}/([0-9a-f]+)/data")
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Cdn:
    """ASGI app over blob files. `sign(digest)` gives the path and query by which a blob may be fetched for a while.

    A request with Authorization is refused with 400, as S3 refuses a second kind of credential. Knobs: `url_lifetime`
    in seconds, `rate` in bytes per second and connection (None: unlimited), `down`.
    """

    def __init__(self, blob_file: Callable[[str], Path]) -> None:
        self._blob_file = blob_file
        self._key = secrets.token_bytes(32)
        self._holds: dict[str, Hold] = {}
        self._delays: dict[str, float] = {}
        self.url_lifetime: float = 1200
        self.rate: float | None = None
        self.down = False

    def sign(self, digest: str) -> str:
        algorithm, _, hex_digits = digest.partition(":")
        path = f"/registry-v2/docker/registry/v2/blobs/{algorithm}/{hex_digits[:2]}/{hex_digits}/data"
        expires = f"{time.time() + self.url_lifetime:.3f}"
        return f"{path}?{urlencode({'expires': expires, 'signature': remember(self._signature(path, expires))})}"

    def hold(self, digest: str, after: int) -> Hold:
        """Stops every later body of this blob after `after` bytes (counted from the blob's start)."""
        hold = self._holds[digest] = Hold(after)
        return hold

    def delay(self, digest: str, seconds: float) -> None:
        """Delays every later response for this blob by `seconds`."""
        self._delays[digest] = seconds

    def release(self) -> None:
        """Releases every held body, and holds none any more."""
        holds, self._holds = self._holds, {}
        for hold in holds.values():
            hold.release()

    def reset(self) -> None:
        self.release()
        self._delays = {}
        self.url_lifetime, self.rate, self.down = 1200, None, False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            response = await self._answer(Request(scope))
            await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if self.down:
            return error(503, "ServiceUnavailable", "The server is busy.")
        if "authorization" in request.headers:
            return error(400, "InvalidArgument", "Only one auth mechanism allowed")
        match = BLOB_PATH.fullmatch(request.url.path)
        expires, signature = (request.query_params.get(name, "") for name in ("expires", "signature"))
        if match is None or not hmac.compare_digest(signature, self._signature(request.url.path, expires)):
            return error(403, "SignatureDoesNotMatch", "The signature does not match.")
        if float(expires) < time.time():
            return error(403, "AccessDenied", "Request has expired")
        if request.method not in ("GET", "HEAD"):
            return error(405, "MethodNotAllowed", "Only GET and HEAD are allowed.")
        digest = f"{match[1]}:{match[2]}"
        await asyncio.sleep(self._delays.get(digest, 0))
        try:
            return self._blob(digest, request)
        except FileNotFoundError:
            return error(404, "NoSuchKey", "The specified key does not exist.")

    def _blob(self, digest: str, request: Request) -> Response:
        size = self._blob_file(digest).stat().st_size
        headers = {"accept-ranges": "bytes", "etag": f'"{digest[-32:]}"', "content-type": "application/octet-stream"}
        wanted = RANGE.fullmatch(request.headers.get("range", ""))
        start, stop, status = 0, size, 200
        if wanted is not None and (wanted[1] or wanted[2]):
            start, stop = bounds(wanted[1], wanted[2], size)
            if start >= stop:
                return Response(status_code=416, headers={"content-range": f"bytes */{size}"})
            status, headers["content-range"] = 206, f"bytes {start}-{stop - 1}/{size}"
        headers["content-length"] = str(stop - start)
        if request.method == "HEAD":
            return Response(headers=headers, status_code=status)
        return BlobBody(self._blob_file(digest), start, stop, self._holds.get(digest), self.rate, status, headers)

    def _signature(self, path: str, expires: str) -> str:
        return hmac.new(self._key, f"{path}\n{expires}".encode(), hashlib.sha256).hexdigest()


class BlobBody(Response):
    """Sends bytes `start` to `stop` of a file; stops when the client leaves."""

    def __init__(
        self,
        path: Path,
        start: int,
        stop: int,
        hold: Hold | None,
        rate: float | None,
        status: int,
        headers: dict[str, str],
    ) -> None:
        super().__init__(status_code=status, headers=headers)
        self._path, self._start, self._stop, self._hold, self._rate = path, start, stop, hold, rate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        gone = asyncio.create_task(departure(receive))
        try:
            with self._path.open("rb", buffering=0) as file:  # page cache: a read is a copy and does not block
                async for chunk in self._chunks(file, gone):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            if not gone.done():
                await send({"type": "http.response.body"})
        finally:
            gone.cancel()
            record: Record = scope["state"]["record"]
            record.aborted = record.sent < self._stop - self._start

    async def _chunks(self, file: BinaryIO, gone: "asyncio.Task[None]") -> AsyncIterator[bytes]:
        position = file.seek(self._start)
        hold = self._hold
        while position < self._stop and not gone.done():
            if hold is not None and position >= hold.after:
                await first_of(hold, gone)
                hold = None
                continue
            limit = self._stop if hold is None else min(self._stop, hold.after)
            chunk = file.read(min(limit - position, CHUNK if self._rate is None else THROTTLED_CHUNK))
            position += len(chunk)
            yield chunk
            if self._rate is not None:
                await asyncio.wait([gone], timeout=len(chunk) / self._rate)


async def first_of(hold: Hold, gone: "asyncio.Task[None]") -> None:
    """Returns when the hold is released or the client has left."""
    released = asyncio.create_task(hold.wait_async())
    try:
        await asyncio.wait([released, gone], return_when=asyncio.FIRST_COMPLETED)
    finally:
        released.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await released


async def departure(receive: Receive) -> None:
    """Returns when the client has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


def bounds(first: str, last: str, size: int) -> tuple[int, int]:
    """Half-open range of `size` bytes that `bytes=first-last` (RFC 9110, 14.1.2) means; empty: not satisfiable."""
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


def error(status: int, code: str, message: str) -> Response:
    document = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Response(document, status, media_type="application/xml")
