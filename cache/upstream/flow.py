"""Flow: an exchange with an upstream, written once for tasks and threads.

A flow is a generator that yields steps and is sent their results. It decides; each of the two drivers below performs
its steps, one in a task and one in a thread.
"""

import asyncio
import zlib
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cache.oci.document import OFF_LOOP_BYTES
from cache.runtime.fair_queue import NOBODY, Requester
from cache.upstream.document_room import FREE, DocumentSpace
from cache.upstream.egress import Egress, Response, body, body_blocking, drop, drop_blocking
from cache.upstream.errors import Unavailable, UpstreamError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Open:
    """Send a request; the result is the Response, its body unread. The flow that receives it closes it.

    `image`: the image of the request. `redirected`: the host is the target of a redirect. `brief`: the response is
    small, so it need not wait behind downloads.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    image: str = field(default="", compare=False)
    redirected: bool = field(default=False, compare=False)
    brief: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Read:
    """Read the rest of a small response and close it; the result is its bytes, or None if they exceed the limit.

    A response that comes compressed although none is accepted is decompressed, up to the limit.
    """

    response: Response
    limit: int


@dataclass(frozen=True, slots=True)
class ReadDocument:
    """Read the rest of a response, a manifest or a list, and close it; the result is what the function makes of its
    bytes, or of None if they exceed the limit. Errors of the function are raised inside the flow.

    What a flow has read counts until it ends, `weight` times: a large document waits for a slot (`document_room`).
    """

    response: Response
    limit: int
    function: Callable[[bytes | None], Any]
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Grow:
    """Wait until the flow may hold so many more bytes."""

    size: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Close a response whose body does not matter."""

    response: Response


@dataclass(frozen=True, slots=True)
class Compute:
    """Compute the result from a document of `size` bytes: outside the event loop, if that may take long. Errors of the
    function are raised inside the flow."""

    function: Callable[[], Any]
    size: int


@dataclass(frozen=True, slots=True)
class Obtain:
    """Obtain a credential for which another program may have to be waited for: outside the event loop, and beside the
    work on documents, which does not wait for it. Errors of the function are raised inside the flow."""

    function: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until another flow has finished common work; the result is the error that it met, if any."""

    future: "Future[UpstreamError | None]"


Step = Open | Read | ReadDocument | Grow | Drop | Compute | Obtain | Wait
Flow = Generator[Step, Any, T]

_WAIT_LIMIT = 30.0
_GZIP = b"\x1f\x8b"


# The drivers are alike but for `await`, which one function cannot have for tasks and lack for threads. All decisions
# stand in the flow, once.


async def carry_out(flow: Flow[T], egress: Egress, requester: Requester = NOBODY) -> T:
    """Runs a flow in a task. Errors of a step are raised inside the flow. Responses that it leaves open where it fails,
    or where the task is cancelled, are closed: otherwise each would keep a connection for ever.

    `requester`: on whose behalf its documents wait for slots.
    """
    reply: Any = None
    failure: Exception | None = None
    opened: list[Response] = []
    space = DocumentSpace(egress.documents, requester)
    try:
        while True:
            step = flow.throw(failure) if failure else flow.send(reply)
            reply, failure = None, None
            try:
                reply = await _perform(step, egress, space)
            except Exception as error:  # the flow decides what an error means
                failure = error
            if isinstance(step, Open) and failure is None:
                opened.append(reply)
    except StopIteration as end:
        opened.clear()
        result: T = end.value
        return result
    finally:
        flow.close()
        space.close()
        for response in opened:
            await response.aclose()


def carry_out_blocking(flow: Flow[T], egress: Egress) -> T:
    """Runs a flow in a thread, as `carry_out` does in a task."""
    reply: Any = None
    failure: Exception | None = None
    opened: list[Response] = []
    try:
        while True:
            step = flow.throw(failure) if failure else flow.send(reply)
            reply, failure = None, None
            try:
                reply = _perform_blocking(step, egress)
            except Exception as error:  # the flow decides what an error means
                failure = error
            if isinstance(step, Open) and failure is None:
                opened.append(reply)
    except StopIteration as end:
        opened.clear()
        result: T = end.value
        return result
    finally:
        flow.close()
        for response in opened:
            response.close()


async def _perform(step: Step, egress: Egress, space: DocumentSpace) -> Any:
    match step:
        case Open(method, url, headers, image, redirected):
            return await egress.send(method, url, headers, image, redirected=redirected)
        case Read(response, limit):
            content = _noted(await body(response, limit, egress.timings.body), egress)
            if content is None or not is_compressed(response, content):
                return content
            return await egress.compute(lambda: decompressed(content, limit))
        case ReadDocument():
            return await _read_document(step, egress, space)
        case Grow(size):
            return await space.grow(size)
        case Drop(response):
            return await drop(response)
        case Compute(function, size):
            return function() if size < OFF_LOOP_BYTES else await egress.compute(function)
        case Obtain(function):
            return await egress.obtain(function)
        case Wait(future):
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), _WAIT_LIMIT)


async def _read_document(step: ReadDocument, egress: Egress, space: DocumentSpace) -> Any:
    response, limit, function = step.response, step.limit, step.function
    content = _noted(await body(response, limit, egress.timings.body, space, step.weight), egress)
    if content is not None and is_compressed(response, content):
        content = await _unpacked(content, step, egress, space)
    if content is None or len(content) < OFF_LOOP_BYTES:
        return function(content)
    return await egress.compute(lambda: function(content))


async def _unpacked(packed: bytes, step: ReadDocument, egress: Egress, space: DocumentSpace) -> bytes | None:
    """Decompress a document. Only one that turns out to be large waits for what it may come to."""
    first = min(step.limit, FREE)
    content = await egress.compute(lambda: decompressed(packed, first))
    if content is not None:
        await space.grow(len(content) * step.weight)
    elif first < step.limit:
        await space.grow(step.limit * step.weight)
        content = await egress.compute(lambda: decompressed(packed, step.limit))
    return content


def _perform_blocking(step: Step, egress: Egress) -> Any:
    match step:
        case Open(method, url, headers, image, redirected, brief):
            return egress.send_blocking(method, url, headers, image, redirected=redirected, brief=brief)
        case Read(response, limit):
            content = _noted(body_blocking(response, limit, egress.timings.body), egress)
            return decompressed(content, limit) if content and is_compressed(response, content) else content
        case ReadDocument(response, limit, function):
            return function(_perform_blocking(Read(response, limit), egress))
        case Grow():
            return None
        case Drop(response):
            return drop_blocking(response)
        case Compute(function) | Obtain(function):
            return function()
        case Wait(future):
            return future.result(_WAIT_LIMIT)


def is_compressed(response: Response, content: bytes) -> bool:
    """Whether a body is gzip as the response states; some state it for what they have decompressed."""
    coding = response.headers.get("content-encoding", "").strip().lower()
    return coding in ("gzip", "x-gzip") and content.startswith(_GZIP)


def decompressed(content: bytes, limit: int) -> bytes | None:
    """The bytes of a gzip body, or None if they exceed the limit. Raises Unavailable if it is broken."""
    stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        plain = stream.decompress(content, limit + 1)
    except zlib.error as error:
        raise Unavailable("the compressed document is broken") from error
    if len(plain) > limit:
        return None
    if not stream.eof:
        raise Unavailable("the compressed document ended early")
    return plain


def _noted(content: bytes | None, egress: Egress) -> bytes | None:
    egress.traffic.received(len(content or b""))
    return content
