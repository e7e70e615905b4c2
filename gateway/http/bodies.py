"""Bodies of requests, as handlers read them: piece by piece, whole up to a limit, or not at all."""

from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.requests import ClientDisconnect, Request

from cache.oci.errors import EncodingUnsupported, TooLarge, UploadInvalid
from gateway.http.access_log import note_received
from gateway.registry.base import ClientLeft
from gateway.server.large_body import accept_reused_buffers

_PLAIN = ("", "identity")


def has_body(request: Request) -> bool:
    """Whether a request comes with a body, which may turn out to be empty if its length is not stated."""
    return content_length(request) != 0


def content_length(request: Request) -> int | None:
    """Bytes of the body as the request states them; 0 where it has none, None where only its end will tell."""
    if "transfer-encoding" in request.headers:
        return None
    return int(request.headers.get("content-length", "0"))


def refuse_encoded(request: Request) -> None:
    """Check that a body is sent as it is: none is ever decompressed. Raises EncodingUnsupported."""
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in _PLAIN:
        raise EncodingUnsupported(f"send the content itself, without Content-Encoding {encoding[:50]!r}")


async def pieces(request: Request) -> AsyncIterator[bytes | memoryview]:
    """The body as it arrives, which is counted for the log. Raises ClientLeft.

    A memoryview is valid until the next piece is requested; see gateway/server/large_body.py.
    """
    accept_reused_buffers(request.scope)
    try:
        async for piece in request.stream():
            if piece:
                note_received(request.scope, len(piece))
                yield piece
    except ClientDisconnect as error:
        raise ClientLeft("the client has left") from error


async def _no_wait(size: int) -> None:
    """Make room where nothing bounds it."""


async def read_whole(
    request: Request, limit: int, what: str, make_room: Callable[[int], Awaitable[None]] = _no_wait
) -> bytes:
    """Read a body of at most `limit` bytes. `what`: noun for the refusal.

    `make_room`: waits until so many bytes may be held, before they are. Raises TooLarge, UploadInvalid, and what
    `make_room` raises.
    """
    stated = content_length(request)
    if stated is not None and stated > limit:
        raise TooLarge(f"{what} may have {limit} bytes, this one has {stated}")
    await make_room(stated or 0)
    body = bytearray()
    try:
        async for piece in pieces(request):
            if len(body) + len(piece) > limit:
                raise TooLarge(f"{what} may have {limit} bytes, this one has more")
            await make_room(len(body) + len(piece))
            body += piece
    except ClientLeft as error:
        raise UploadInvalid(f"the client left before {what} was complete") from error
    return bytes(body)
