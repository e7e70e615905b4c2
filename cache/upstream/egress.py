"""The one HTTP client factory of the project: which hosts may be reached, and how their failures are named.

It knows no registry. Nothing else imports the HTTP library; redirects are not followed and cookies not kept here.
"""

import asyncio
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from socket import AI_ADDRCONFIG, SOCK_STREAM, getaddrinfo
from typing import Any, Protocol
from urllib.parse import urlsplit

import anyio
import anyio.lowlevel
import httpcore2
import httpx2

from cache.runtime.exhaustion import is_exhausted
from cache.upstream.circuit_breaker import CircuitBreakers, GuardedRequest
from cache.upstream.errors import Unavailable
from cache.upstream.resolver import Lookups, Resolver, first_private
from cache.upstream.urls import origin_of

Response = httpx2.Response
CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 15.0
ANSWER_TIMEOUT = 20.0
"""Seconds for all of an answer that is read at once: one that trickles in for ever ends too."""

_ATTEMPT_TIMEOUT = 2.0
_POOL_TIMEOUT = 5.0
_CONNECTIONS = 100
_hurry = threading.local()
"""When the thread that reads must have what it waits for, where it waits for all of something."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Where a client may go.

    Without a proxy every host may be reached whose addresses are all public, or any with `private_addresses`. With one
    the addresses are the proxy's business, so only `hosts` may be reached.
    """

    hosts: frozenset[str] = frozenset()
    private_addresses: bool = False
    ca_file: Path | None = None
    proxy: str = ""
    connect_timeout: float = CONNECT_TIMEOUT
    read_timeout: float = READ_TIMEOUT


def resolve(host: str, port: int) -> list[str]:
    """All addresses of a host, in the system's order of preference."""
    return list(
        dict.fromkeys(str(entry[4][0]) for entry in getaddrinfo(host, port, type=SOCK_STREAM, flags=AI_ADDRCONFIG))
    )


class Traffic(Protocol):
    """Is told what passes, by tasks and threads."""

    def asked(self, method: str, status: int | None) -> None:
        """Of each request; None where no answer came."""

    def received(self, size: int) -> None:
        """Of bytes of bodies as they came over the wire."""


class _Unwatched:
    def asked(self, method: str, status: int | None) -> None:
        pass

    def received(self, size: int) -> None:
        pass


UNWATCHED: Traffic = _Unwatched()


class FailureStage(Enum):
    """How far a request came that was not answered."""

    NAME = "name"
    ADDRESS = "address"
    CONNECTION = "connection"
    TLS = "tls"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class _Clients:
    """Those for one state of the CA file: asynchronous for small answers; for the threads that fill one for what they
    download and one for the small answers that they need before, which must not wait behind downloads."""

    stamp: int
    waiting: httpx2.AsyncClient
    blocking: httpx2.Client
    brief: httpx2.Client


class Egress:
    """How one upstream is reached. A CA file that is replaced is used for the next request.

    Nothing in it is shared with another upstream: connections, the threads that resolve names, circuits. Requests for
    small answers and those of the threads that fill have connections of their own.
    """

    def __init__(self, reach: Reach, resolver: Resolver = resolve, traffic: Traffic = UNWATCHED) -> None:
        self.traffic = traffic
        self.circuits = CircuitBreakers()
        self._reach = reach
        self._check = _AddressCheck(reach, resolver)
        self._made: list[_Clients] = []
        self._making = threading.Lock()

    def allows(self, url: str) -> bool:
        """Whether the host may be asked at all; its addresses are checked when it is connected to."""
        if not self._reach.proxy:
            return True
        parts = urlsplit(url)
        return {parts.netloc, parts.hostname} & self._reach.hosts != set()

    async def send(self, method: str, url: str, headers: Mapping[str, str], image: str = "") -> Response:
        """The answer, its body still to be read; close it. Raises Unavailable, at once where a circuit is open.

        `image` is what the request is for: where only that fails the others are still asked.
        """
        client = self._clients().waiting
        with self._passing(url, image) as passage, self._watched(method) as seen:
            async with asyncio.timeout(self._head_timeout):
                response = await client.send(client.build_request(method, url, headers=headers), stream=True)
            seen.response = response
            _judge(passage, response)
            return response

    def send_blocking(
        self, method: str, url: str, headers: Mapping[str, str], image: str = "", *, brief: bool = False
    ) -> Response:
        client = self._clients().brief if brief else self._clients().blocking
        with self._passing(url, image) as passage, self._watched(method) as seen, _hurrying(self._head_timeout):
            response = client.send(client.build_request(method, url, headers=headers), stream=True)
            seen.response = response
            _judge(passage, response)
            return response

    async def close(self) -> None:
        for clients in self._made:
            await clients.waiting.aclose()
            clients.blocking.close()
            clients.brief.close()

    @property
    def _head_timeout(self) -> float:
        """For a connection and all of the answer's head, which may trickle in, too."""
        return self._reach.connect_timeout + self._reach.read_timeout

    @contextmanager
    def _passing(self, url: str, image: str) -> Iterator[GuardedRequest]:
        try:
            origin = origin_of(url)
        except ValueError as error:
            raise Unavailable(str(error)) from error
        passage = self.circuits.enter(origin, image)
        try:
            with _named(url):
                yield passage
        except Unavailable as error:
            cause = error.__cause__
            if not isinstance(cause, _OUR_FAULT) and not is_exhausted(error):
                passage.failed(error.reason, host=isinstance(cause, _NOT_REACHED))
            raise
        finally:
            passage.release()

    async def prepare(self) -> None:
        """Makes what the first request would wait for, 35 ms long: the trusted certificates, the library's backend."""
        with suppress(Unavailable):  # a broken ca_file is told to whoever needs it
            self._clients()
        anyio.connect_tcp  # noqa: B018 (imported when it is first named)
        await anyio.lowlevel.checkpoint()
        "localhost".encode("idna")

    @contextmanager
    def _watched(self, method: str) -> Iterator["_Seen"]:
        seen = _Seen()
        try:
            yield seen
        finally:
            self.traffic.asked(method, seen.response.status_code if seen.response else None)

    def _clients(self) -> _Clients:
        """Those of the CA file as it is now. Older ones go on with what they have begun, and are closed at the end."""
        ca_file = self._reach.ca_file
        try:
            stamp = ca_file.stat().st_mtime_ns if ca_file else 0
            with self._making:
                if not self._made or self._made[-1].stamp != stamp:
                    self._made.append(_make(self._reach, self._check, stamp))
                return self._made[-1]
        except (OSError, ssl.SSLError) as error:
            raise Unavailable(f"the ca_file {ca_file} cannot be used ({error.strerror or error})") from error


@cache
def _system_context() -> ssl.SSLContext:
    """One for all upstreams that have no CA file of their own: to read the system's takes 20 ms."""
    return ssl.create_default_context()


class _Seen:
    response: Response | None = None


def stage_of(error: Unavailable) -> FailureStage:
    """Where it went wrong, by what caused it."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    direct = error.__cause__
    if isinstance(direct, OSError) and not isinstance(direct, httpx2.HTTPError):
        return FailureStage.TLS  # the CA file, which is read before anything is sent
    for kinds, stage in (
        ((_NoAddress,), FailureStage.NAME),
        ((_AddressRefused,), FailureStage.ADDRESS),
        ((ssl.SSLError,), FailureStage.TLS),
        ((httpx2.ConnectError, httpx2.ConnectTimeout), FailureStage.CONNECTION),
    ):
        if any(isinstance(found, kinds) for found in causes):
            return stage
    return FailureStage.ANSWER


def _make(reach: Reach, check: "_AddressCheck", stamp: int) -> _Clients:
    context = ssl.create_default_context(cafile=reach.ca_file) if reach.ca_file else _system_context()
    options: dict[str, Any] = {
        "timeout": httpx2.Timeout(reach.read_timeout, connect=reach.connect_timeout, pool=_POOL_TIMEOUT),
        "follow_redirects": False,
        "trust_env": False,
    }
    # One credential's session must not become another's: the sources of an upstream share these clients.
    no_cookies = DefaultCookiePolicy(allowed_domains=[])
    waiting = httpx2.AsyncClient(transport=_AsyncTransport(context, check), cookies=CookieJar(no_cookies), **options)
    blocking, brief = (
        httpx2.Client(transport=_SyncTransport(context, check), cookies=CookieJar(no_cookies), **options)
        for _ in range(2)
    )
    for client in (waiting, blocking, brief):
        client.headers.clear()
    return _Clients(stamp, waiting, blocking, brief)


_OUR_FAULT = (httpx2.PoolTimeout, httpx2.LocalProtocolError, httpx2.InvalidURL, httpx2.UnsupportedProtocol)
_NOT_REACHED = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError)


def _judge(passage: GuardedRequest, response: Response) -> None:
    """Whatever was answered, the host lives, unless it says itself that it does not."""
    if response.status_code >= 500:
        passage.failed(f"it answered {response.status_code}", host=False)
    else:
        passage.answered()


@contextmanager
def _hurrying(seconds: float) -> Iterator[None]:
    """Within, what this thread reads from a connection of ours must all come in that time."""
    _hurry.until = time.monotonic() + seconds
    try:
        yield
    finally:
        _hurry.until = None


def _time_left(timeout: float | None) -> float | None:
    until = getattr(_hurry, "until", None)
    if until is None:
        return timeout
    left: float = until - time.monotonic()
    if left <= 0:
        raise httpcore2.ReadTimeout("not all of it came in time")
    return left if timeout is None else min(timeout, left)


async def body(response: Response, limit: int) -> bytes | None:
    """All bytes as they came over the wire, or None where there are more than `limit`. Closes the response.

    Raises Unavailable where it breaks off, or is not there after ANSWER_TIMEOUT.
    """
    parts, size = [], 0
    try:
        with _named(str(response.url)):
            async with asyncio.timeout(ANSWER_TIMEOUT):
                async for part in response.aiter_raw():
                    parts.append(part)
                    size += len(part)
                    if size > limit:
                        return None
    finally:
        await response.aclose()
    return b"".join(parts)


def body_blocking(response: Response, limit: int) -> bytes | None:
    parts, size = [], 0
    try:
        with _hurrying(ANSWER_TIMEOUT):
            for part in raw_chunks(response):
                parts.append(part)
                size += len(part)
                if size > limit:
                    return None
    finally:
        response.close()
    return b"".join(parts)


def raw_chunks(response: Response) -> Iterator[bytes]:
    """The body as it came over the wire. Raises Unavailable when it breaks off."""
    with _named(str(response.url)):
        yield from response.iter_raw()


@contextmanager
def _named(url: str) -> Iterator[None]:
    host = urlsplit(url).netloc.rpartition("@")[2]
    try:
        yield
    except httpx2.ConnectTimeout as error:
        raise Unavailable(f"{host} did not accept a connection in time") from error
    except httpx2.PoolTimeout as error:
        raise Unavailable(f"{host} has too many requests of ours under way") from error
    except (httpx2.TimeoutException, TimeoutError) as error:
        raise Unavailable(f"{host} did not answer in time") from error
    except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
        raise Unavailable(f"{host}: {str(error) or type(error).__name__}") from error


class _NoAddress(httpcore2.ConnectError):
    """The name leads nowhere. A class of its own: the pool drops what an error was caused by."""


class _AddressRefused(httpcore2.ConnectError):
    """The name leads to where nobody may go."""


class _AddressCheck:
    def __init__(self, reach: Reach, resolver: Resolver) -> None:
        self.reach = reach
        self._lookups = Lookups(resolver)

    def addresses(self, host: str, port: int, timeout: float | None) -> list[str]:
        """Raises httpcore's ConnectError for a name that has no address, or one that may not be reached."""
        if self.reach.proxy:
            return [host]
        try:
            return self._checked(self._lookups.start(host, port).result(timeout))
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout("the name was not resolved in time") from error

    async def addresses_async(self, host: str, port: int, timeout: float | None) -> list[str]:  # noqa: ASYNC109
        if self.reach.proxy:
            return [host]
        found = asyncio.wrap_future(self._lookups.start(host, port))
        try:
            return self._checked(await asyncio.wait_for(asyncio.shield(found), timeout))
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout("the name was not resolved in time") from error

    def _checked(self, addresses: list[str] | Exception) -> list[str]:
        if isinstance(addresses, Exception):
            raise _NoAddress(f"the name cannot be resolved ({addresses})") from addresses
        if not addresses:
            raise _NoAddress("the name has no address")
        if not self.reach.private_addresses and (private := first_private(addresses)):
            raise _AddressRefused(
                f"{private} is not a public address; set private_addresses = true on the upstream if that is meant"
            )
        return addresses


def _attempts(addresses: list[str], timeout: float | None) -> Iterable[tuple[str, float | None]]:
    """Every address but the last gets a short time, so that a dead one does not use up the whole."""
    short = _ATTEMPT_TIMEOUT if timeout is None else min(timeout, _ATTEMPT_TIMEOUT)
    return [(address, short) for address in addresses[:-1]] + [(addresses[-1], timeout)]


class _CheckedBackend(httpcore2.NetworkBackend):
    """Connects to an address that was checked; TLS and Host keep the name, which the pool takes from the URL."""

    def __init__(self, check: _AddressCheck) -> None:
        self._check = check
        self._inner = httpcore2.SyncBackend()

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, *args: Any, **kwargs: Any) -> Any:
        failure: Exception | None = None
        for address, limit in _attempts(self._check.addresses(host, port, timeout), timeout):
            try:
                return _HurriedStream(self._inner.connect_tcp(address, port, limit, *args, **kwargs))
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore2.ConnectError("no address")


class _CheckedAsyncBackend(httpcore2.AsyncNetworkBackend):
    def __init__(self, check: _AddressCheck) -> None:
        self._check = check
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(  # the library's signature has the timeout
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        failure: Exception | None = None
        for address, limit in _attempts(await self._check.addresses_async(host, port, timeout), timeout):
            try:
                return await self._inner.connect_tcp(address, port, limit, *args, **kwargs)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore2.ConnectError("no address")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _HurriedStream(httpcore2.NetworkStream):
    """A connection that ends what a thread waits for when its time is up, however little at a time arrives."""

    def __init__(self, inner: httpcore2.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _time_left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _time_left(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        return _HurriedStream(self._inner.start_tls(ssl_context, server_hostname, _time_left(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _SyncTransport(httpx2.HTTPTransport):
    """The library's transport over a pool of ours: its constructor takes no network backend."""

    def __init__(self, context: ssl.SSLContext, check: _AddressCheck) -> None:
        options = _pool_options(context) | {"network_backend": _CheckedBackend(check)}
        proxy = _proxy_options(check.reach.proxy)
        self._pool = httpcore2.HTTPProxy(**proxy, **options) if proxy else httpcore2.ConnectionPool(**options)


class _AsyncTransport(httpx2.AsyncHTTPTransport):
    def __init__(self, context: ssl.SSLContext, check: _AddressCheck) -> None:
        options = _pool_options(context) | {"network_backend": _CheckedAsyncBackend(check)}
        proxy = _proxy_options(check.reach.proxy)
        self._pool = httpcore2.AsyncHTTPProxy(**proxy, **options) if proxy else httpcore2.AsyncConnectionPool(**options)


def _proxy_options(url: str) -> dict[str, Any]:
    """The arguments of the pool for an outbound proxy; a name and password in its URL become its credential."""
    if not url:
        return {}
    proxy = httpx2.Proxy(url)
    parts = proxy.url
    target = httpcore2.URL(scheme=parts.raw_scheme, host=parts.raw_host, port=parts.port, target=parts.raw_path)
    return {"proxy_url": target, "proxy_auth": proxy.raw_auth}


def _pool_options(context: ssl.SSLContext) -> dict[str, Any]:
    return {
        "ssl_context": context,
        "max_connections": _CONNECTIONS,
        # A connection each, as most registry clients have it: what an upstream sends beyond an answer is never taken
        # for the next one, and no request meets a connection that has ended in the meantime.
        "max_keepalive_connections": 0,
        "http1": True,
        "http2": False,
    }
