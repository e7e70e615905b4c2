"""Egress: requests to one upstream, with its circuit breakers, reports of its traffic, and names for its failures.

It knows no registry. Only this module and `transport` import the HTTP library.
"""

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from copy import copy
from enum import Enum
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

import httpx2

from cache.runtime.exhaustion import is_exhausted
from cache.upstream.circuit_breaker import CircuitBreakers, GuardedRequest, RequestOutcome, outcome_of
from cache.upstream.document_room import DocumentRoom, DocumentSpace
from cache.upstream.errors import Unavailable
from cache.upstream.kept_connections import CREDENTIAL
from cache.upstream.loops import loop_headers
from cache.upstream.reach import Identity, Reach
from cache.upstream.resolver import Resolver
from cache.upstream.statements import speaks_for_registry
from cache.upstream.transport import (
    AddressCheck,
    AddressRefused,
    Clients,
    LookupRefused,
    NoAddress,
    deadline,
    make_clients,
    prepare_backend,
    resolve,
    sending_for,
)
from cache.upstream.urls import origin_of
from cache.values import ANONYMOUS, CredentialId

Response = httpx2.Response
T = TypeVar("T")

_OUR_FAULT = (httpx2.PoolTimeout, httpx2.LocalProtocolError, httpx2.InvalidURL, httpx2.UnsupportedProtocol)
_NOT_REACHED = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError)

OWN_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "registry-gateway"}
"""Headers of every request to an upstream: it asks for uncompressed content, and names its sender."""

PIECES, LEAST_PIECE = 5000, 64
"""Pieces of a body that may be of any size, and bytes that further ones must have on average: each takes the library
as long as 1,000 bytes, while nothing else has its turn."""

_DROPPED_LIMIT = 64 * 1024
"""Bytes of a body that does not matter, beyond which a new connection costs less than reading it."""

_DROPPED_TIMEOUT = 0.5
"""Seconds to wait for such a body, which arrives with its head."""


class Traffic(Protocol):
    """Receives reports of an upstream's traffic, from tasks and threads."""

    def requested(self, method: str, status: int | None) -> None:
        """Report one request; `status` is None where no response came."""

    def received(self, size: int) -> None:
        """Report bytes of bodies as they came over the wire."""

    def credential_refused(self) -> None:
        """Report that our credential was refused, whatever it is used for."""


class _Unwatched:
    def requested(self, method: str, status: int | None) -> None:
        pass

    def received(self, size: int) -> None:
        pass

    def credential_refused(self) -> None:
        pass


UNWATCHED: Traffic = _Unwatched()


class FailureStage(Enum):
    """Stage at which a request without a response failed."""

    NAME = "name"
    ADDRESS = "address"
    CONNECTION = "connection"
    TLS = "tls"
    RESPONSE = "answer"  # as `doctor` names the check


class Egress:
    """Requests to one upstream. A CA file that is replaced is used for the next request.

    Nothing in it is shared with another upstream: connections, the threads that resolve names, circuit breakers.
    Requests for small responses and those of the threads that fill have connections of their own, and so has each
    credential: whatever follows a response to one never reaches another.
    """

    def __init__(
        self, reach: Reach, resolver: Resolver = resolve, traffic: Traffic = UNWATCHED, sender: str = ""
    ) -> None:
        """`sender`: name of this server, a token, by which it recognises its own requests; empty: none is sent."""
        self.traffic = traffic
        self.timings = reach.timings
        self.circuits = CircuitBreakers()
        self.documents = DocumentRoom()
        self._sender = sender
        self._reach = reach
        self._check = AddressCheck(reach, resolver)
        self._made: list[Clients] = []
        self._latest: dict[bool, Clients] = {}
        self._making = threading.Lock()
        self._documents = ThreadPoolExecutor(1, "documents")
        self._credentials = ThreadPoolExecutor(1, "credentials")
        self._credential = ANONYMOUS

    def with_credential(self, credential: CredentialId) -> "Egress":
        """This egress over connections that are used with one credential alone; all else is shared."""
        own = copy(self)
        own._credential = credential
        return own

    def allows(self, url: str) -> bool:
        """Whether requests may go to the host of a URL at all. Raises ValueError for what is no URL."""
        origin = origin_of(url)
        return self._reach.allows(origin.host, origin.port)

    def names(self, url: str) -> bool:
        """Whether the host of a URL is the upstream's own, or one that its settings name. Raises ValueError for what is
        no URL."""
        origin = origin_of(url)
        return self._reach.names(origin.host, origin.port)

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        image: str = "",
        *,
        redirected: bool = False,
        content: bytes = b"",
    ) -> Response:
        """Send a request and return the response with its body unread; the caller closes it.

        `image`: what the request is for. `redirected`: whether its host is the target of a redirect. Both decide which
        circuit breakers its outcome counts for. `content`: the body. Raises Unavailable, at once while a circuit
        breaker is open.
        """
        identity = self._identity_for(url, redirected=redirected)
        client = self._clients(identity).waiting
        shown = identity.headers() if identity else {}
        with self._guarded(url, image, redirected=redirected) as guarded:
            if guarded.probes_host:
                with self._probing(guarded, url) as (probe, address):
                    probe.response = await self._opened(client, "GET", address, {**OWN_HEADERS, **shown})
                    await drop(probe.response)
            with self._watched(method) as seen:
                response = seen.response = await self._opened(client, method, url, {**headers, **shown}, content)
            _record(guarded, response)
            return response

    def send_blocking(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        image: str = "",
        *,
        redirected: bool = False,
        brief: bool = False,
    ) -> Response:
        """Send a request from a thread, as `send` does. `brief`: its response is small and need not wait behind
        downloads."""
        identity = self._identity_for(url, redirected=redirected)
        clients = self._clients(identity)
        client = clients.brief if brief else clients.blocking
        shown = identity.headers() if identity else {}
        with self._guarded(url, image, redirected=redirected) as guarded:
            if guarded.probes_host:
                with self._probing(guarded, url) as (probe, address):
                    probe.response = self._opened_blocking(client, "GET", address, {**OWN_HEADERS, **shown})
                    drop_blocking(probe.response)
            with self._watched(method) as seen:
                response = seen.response = self._opened_blocking(client, method, url, {**headers, **shown})
            _record(guarded, response)
            return response

    async def prepare(self) -> None:
        """Load trusted certificates and the backend in advance, for which the first request would wait 35 ms."""
        with suppress(Unavailable):  # a broken ca_file is reported by the first request that needs it
            self._clients(self._reach.identity)
        await prepare_backend()

    def open_ahead(self, url: str) -> None:
        """Open connections for the downloads that follow a request to a host, where that is far away: opening one takes
        two round trips, which pass while the response is awaited."""
        if self._reach.proxy or self.circuits.is_open(origin_of(url)):
            return
        with suppress(Unavailable):
            clients = self._clients(self._identity_for(url, redirected=False))
            clients.open_ahead(url, self._credential, self.timings.connect)

    async def compute(self, function: Callable[[], T]) -> T:
        """Run a function on a document of this upstream outside the event loop: one at a time, because each would take
        its share of the interpreter."""
        return await asyncio.get_running_loop().run_in_executor(self._documents, function)

    async def obtain(self, function: Callable[[], T]) -> T:
        """Run a function that may wait for another program, outside the event loop: one at a time, in a thread of its
        own, so that documents go on meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self._credentials, function)

    async def close(self) -> None:
        self._documents.shutdown(wait=False, cancel_futures=True)
        self._credentials.shutdown(wait=False, cancel_futures=True)
        for clients in self._made:
            await clients.close()

    async def _opened(
        self, client: httpx2.AsyncClient, method: str, url: str, headers: Mapping[str, str], content: bytes = b""
    ) -> Response:
        async with asyncio.timeout(self.timings.head):
            return await client.send(self._request(client, method, url, headers, content), stream=True)

    def _opened_blocking(self, client: httpx2.Client, method: str, url: str, headers: Mapping[str, str]) -> Response:
        with deadline(self.timings.head):
            return client.send(self._request(client, method, url, headers), stream=True)

    def _request(
        self,
        client: httpx2.Client | httpx2.AsyncClient,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: bytes = b"",
    ) -> httpx2.Request:
        # Not by the client, which has no URL, headers or cookies of its own to add, and takes time to find that out.
        extensions = {CREDENTIAL: self._credential, "timeout": client.timeout.as_dict()}
        sent = {**headers, **loop_headers(self._sender)}
        return httpx2.Request(method, url, headers=sent, content=content or None, extensions=extensions)

    @contextmanager
    def _guarded(self, url: str, image: str, *, redirected: bool) -> Iterator[GuardedRequest]:
        """Enter the circuit breakers for one request, whose failure is recorded."""
        try:
            origin = origin_of(url)
        except ValueError as error:
            raise Unavailable(str(error)) from error
        if not self._reach.allows(origin.host, origin.port):
            reason = "is not among the redirect_hosts, the only others that are reached through the proxy"
            raise Unavailable(f"{origin.host}:{origin.port} {reason}")
        guarded = self.circuits.enter(origin, image, urlsplit(url).path, redirected=redirected)
        try:
            with named_failures(url), sending_for(image):
                yield guarded
        except Unavailable as error:
            if outcome := _outcome_of_failure(error):
                guarded.ended(outcome, error.reason)
            raise
        finally:
            guarded.release()

    @contextmanager
    def _probing(self, guarded: GuardedRequest, url: str) -> Iterator[tuple["_Seen", str]]:
        """Probe the host of a URL before the guarded request is sent: the block sends a GET to the yielded address, and
        sets the response. Raises Unavailable unless that shows that the host works."""
        origin = origin_of(url)
        try:
            with named_failures(url), self._watched("GET") as seen:
                yield seen, f"{origin}/v2/"
                if seen.response is None or seen.response.status_code >= 500:
                    status = seen.response.status_code if seen.response else None
                    raise Unavailable(f"{origin.netloc} responded with {status} to a probe")
        except Unavailable as error:
            if not _is_ours(error):
                guarded.probe_failed(error.reason)
            raise

    @contextmanager
    def _watched(self, method: str) -> Iterator["_Seen"]:
        seen = _Seen()
        try:
            yield seen
        finally:
            self.traffic.requested(method, seen.response.status_code if seen.response else None)

    def _identity_for(self, url: str, *, redirected: bool) -> Identity | None:
        """The identity to show to the host of a URL: to its own origin alone, and not once a redirect has left that."""
        identity = self._reach.identity
        with suppress(ValueError):
            return identity if identity and not redirected and origin_of(url) == identity.origin else None
        return None

    def _clients(self, identity: Identity | None) -> Clients:
        """The clients for the TLS files as they are now. Older ones finish what they have begun, and close at the end.

        `identity`: what they show. Connections that show a certificate serve requests to its origin alone.
        """
        cert, key = (identity.client_cert, identity.client_key) if identity else (None, None)
        files = {"ca_file": self._reach.ca_file, "client_cert": cert, "client_key": key}
        stamp = tuple(_modified(name, path) for name, path in files.items())
        with self._making:
            clients = self._latest.get(cert is not None)
            if clients is None or clients.stamp != stamp:
                try:
                    clients = make_clients(self._reach, self._check, stamp, cert, key)
                except (OSError, ssl.SSLError) as error:
                    used = (
                        f"client_cert {cert}, its client_key or the ca_file" if cert else f"ca_file {files['ca_file']}"
                    )
                    raise Unavailable(f"the {used} cannot be used ({error.strerror or error})") from error
                self._made.append(clients)
                self._latest[cert is not None] = clients
            return clients


def _modified(name: str, path: Path | None) -> int:
    """When a file was changed; 0 for none. Raises Unavailable."""
    try:
        return path.stat().st_mtime_ns if path else 0
    except OSError as error:
        raise Unavailable(f"the {name} {path} cannot be used ({error.strerror})") from error


class _Seen:
    response: Response | None = None


def _record(guarded: GuardedRequest, response: Response) -> None:
    """Record what the head of a response shows; that a refusal is the registry's own may follow from its body."""
    status = response.status_code
    own = speaks_for_registry(status, response.headers, own=not guarded.redirected)
    guarded.ended(outcome_of(status, speaks_for_registry=own), f"it responded with {status}")


def _is_ours(error: Unavailable) -> bool:
    """Whether a request failed for want of something in this process, which shows nothing of the host."""
    if isinstance(error.__context__, _OUR_FAULT) or is_exhausted(error):
        return True
    return any(isinstance(cause, LookupRefused) for cause in _causes(error))


def _outcome_of_failure(error: Unavailable) -> RequestOutcome | None:
    """Judge a request without a response; None if it shows nothing of the upstream."""
    cause = error.__context__
    if _is_ours(error):
        return None
    if isinstance(cause, _NOT_REACHED):
        return RequestOutcome.UNREACHED
    late = isinstance(cause, httpx2.TimeoutException | TimeoutError)
    return RequestOutcome.FAILING if late else RequestOutcome.BROKEN


def stage_of(error: Unavailable) -> FailureStage:
    """The stage at which a request failed, by the causes of the error."""
    causes = _causes(error)
    direct = error.__context__
    if isinstance(direct, OSError) and not isinstance(direct, httpx2.HTTPError):
        return FailureStage.TLS  # the CA file, which is read before anything is sent
    for kinds, stage in (
        ((NoAddress,), FailureStage.NAME),
        ((AddressRefused,), FailureStage.ADDRESS),
        ((ssl.SSLError,), FailureStage.TLS),
        ((httpx2.ConnectError, httpx2.ConnectTimeout), FailureStage.CONNECTION),
    ):
        if any(isinstance(found, kinds) for found in causes):
            return stage
    return FailureStage.RESPONSE


def _causes(error: BaseException) -> list[BaseException]:
    """List an error and what led to it, one before the other."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    return causes


# `body` and `body_blocking`, `drop` and `drop_blocking` differ only in how they wait: a task awaits each part, a thread
# blocks until its deadline.


async def body(
    response: Response,
    limit: int,
    timeout: float,  # noqa: ASYNC109 (a blob has none)
    space: DocumentSpace | None = None,
    weight: int = 1,
) -> bytes | None:
    """Read all bytes as they came over the wire and close the response; None where there are more than `limit`.

    `space`: holds the bytes, `weight` times, and may wait for a slot before it reads on. Raises Unavailable where the
    body breaks off, or takes more than `timeout` seconds; NoRoom.
    """
    parts, size = [], 0
    try:
        with named_failures(str(response.url)):
            async with asyncio.timeout(timeout) as time_limit:
                with space.reading(time_limit) if space else nullcontext():
                    async for part in response.aiter_raw():
                        parts.append(part)
                        size += len(part)
                        if size > limit:
                            return None
                        _check_pieces(response, len(parts), size)
                        if space is not None:
                            await space.grow(len(part) * weight)
    except BaseException:
        parts.clear()  # which the error's traceback would keep for as long as the error is
        raise
    finally:
        await response.aclose()
    return b"".join(parts)


def body_blocking(response: Response, limit: int, timeout: float) -> bytes | None:
    """Read all bytes from a thread, as `body` does."""
    parts, size = [], 0
    try:
        with deadline(timeout):
            for part in raw_chunks(response):
                parts.append(part)
                size += len(part)
                if size > limit:
                    return None
                _check_pieces(response, len(parts), size)
    finally:
        response.close()
    return b"".join(parts)


def _check_pieces(response: Response, count: int, size: int) -> None:
    """Raise Unavailable for a body that arrives in a flood of small chunks."""
    if count > PIECES + size // LEAST_PIECE:
        raise Unavailable(f"{response.url.host} sends a document in pieces that are too small")


async def drop(response: Response) -> None:
    """Close a response whose body does not matter; a short one is read, so that the connection is kept."""
    if not _is_short(response):
        await response.aclose()
        return
    with suppress(Unavailable):
        await body(response, _DROPPED_LIMIT, _DROPPED_TIMEOUT)


def drop_blocking(response: Response) -> None:
    """Close a response from a thread, as `drop` does."""
    if not _is_short(response):
        response.close()
        return
    with suppress(Unavailable):
        body_blocking(response, _DROPPED_LIMIT, _DROPPED_TIMEOUT)


def _is_short(response: Response) -> bool:
    if response.request.method == "HEAD" or response.status_code in (204, 304):
        return True  # nothing follows its head
    length = response.headers.get("content-length", "")
    return "transfer-encoding" in response.headers or (length.isascii() and length.isdigit() and len(length) < 6)


def raw_chunks(response: Response) -> Iterator[bytes]:
    """The body as it came over the wire. Raises Unavailable when it breaks off."""
    with named_failures(str(response.url)):
        yield from response.iter_raw()


def blob_chunks(response: Response, pause: float) -> Iterator[bytes]:
    """The body of a blob, as `raw_chunks` returns it; `pause`: seconds without a byte after which it fails."""
    # The library reads the limits of a request when it begins with the body.
    response.request.extensions["timeout"] = {**response.request.extensions["timeout"], "read": pause}
    try:
        with named_failures(str(response.url)):
            yield from response.iter_raw()
    except Unavailable as error:
        if isinstance(error.__context__, httpx2.ReadTimeout):
            raise Unavailable(f"no byte arrived for {pause:.0f} s") from None
        raise


@contextmanager
def named_failures(url: str) -> Iterator[None]:
    """Translate what the HTTP library raises to Unavailable, with the host in its reason.

    The library's text may repeat any line of a response, and an upstream may repeat our credential in one: only the
    error's class is named, except for a connection that was not made. No traceback shows the text either.
    """
    host = urlsplit(url).netloc.rpartition("@")[2]
    try:
        yield
    except httpx2.ConnectTimeout:
        raise Unavailable(f"{host} did not accept a connection in time") from None
    except httpx2.PoolTimeout:
        raise Unavailable(f"all connections to {host} are in use") from None
    except (httpx2.TimeoutException, TimeoutError):
        raise Unavailable(f"{host} did not respond in time") from None
    # ValueError: the library parses what an upstream sends with functions of the standard library.
    except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, ValueError) as error:
        made = not isinstance(error, httpx2.ConnectError)
        raise Unavailable(f"{host}: {type(error).__name__ if made else str(error) or 'no connection'}") from None
