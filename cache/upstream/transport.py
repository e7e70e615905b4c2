"""Connections to upstreams: one HTTP client factory over connections whose addresses were checked.

It neither follows redirects nor keeps cookies.
"""

import asyncio
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from socket import AI_ADDRCONFIG, SOCK_STREAM, getaddrinfo
from typing import Any

import anyio
import anyio.lowlevel
import httpcore2
import httpx2
import structlog

from cache.runtime.fair_queue import Requester
from cache.runtime.on_behalf import current_requester
from cache.runtime.throttle import LogThrottle
from cache.upstream.connection_pools import FAR, AsyncKeepingPools, Distances, KeepingPools
from cache.upstream.kept_connections import CREDENTIAL
from cache.upstream.reach import Reach, UpstreamTimings
from cache.upstream.resolver import Lookups, NotLookedUp, Resolver, first_private
from cache.values import CredentialId

_ATTEMPT_TIMEOUT = 2.0
"""Seconds for each address of a host but the last."""

log = structlog.get_logger()
_throttle = LogThrottle()

_thread = threading.local()
"""`deadline`: when the thread must have all that it reads."""

_owner = ContextVar("owner", default="")
"""Owner of the image for which the task or thread sends a request."""


def resolve(host: str, port: int) -> list[str]:
    """Look up all addresses of a host, in the system's order of preference; blocks."""
    return list(
        dict.fromkeys(str(entry[4][0]) for entry in getaddrinfo(host, port, type=SOCK_STREAM, flags=AI_ADDRCONFIG))
    )


@dataclass(frozen=True, slots=True)
class Clients:
    """HTTP clients for one state of the TLS files: those that trust, and those that are shown.

    `waiting` serves tasks; threads download over `blocking` and get the small responses that they need first over
    `brief`, which need not wait behind downloads.
    """

    stamp: tuple[int, ...]
    waiting: httpx2.AsyncClient
    blocking: httpx2.Client
    brief: httpx2.Client
    downloads: KeepingPools
    distances: Distances

    def open_ahead(self, url: str, credential: CredentialId, connect_timeout: float) -> None:
        """Open connections for downloads from a host with one credential, unless the host is known to be near."""
        extensions = {CREDENTIAL: credential, "timeout": {"connect": connect_timeout}}
        request = httpcore2.Request("GET", url, extensions=extensions)
        distance = self.distances.find(request.url.origin)
        if distance is None or distance >= FAR:
            self.downloads.open_ahead(request)

    async def close(self) -> None:
        await self.waiting.aclose()
        self.blocking.close()
        self.brief.close()


@cache
def _system_context() -> ssl.SSLContext:
    """The context of all upstreams without a CA file of their own: reading the system's certificates takes 20 ms."""
    return ssl.create_default_context()


def _trusting_context() -> ssl.SSLContext:
    """A context that takes any certificate, for hosts whose owner wants that."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def make_clients(
    reach: Reach, check: "AddressCheck", stamp: tuple[int, ...], cert: Path | None = None, key: Path | None = None
) -> Clients:
    """Create the clients of one upstream. Raises OSError or ssl.SSLError if a TLS file cannot be used.

    `cert`, `key`: the certificate that they show to every host that asks for one.
    """
    if not reach.verify:
        context = _trusting_context()
    elif cert:
        context = ssl.create_default_context(cafile=reach.ca_file)
        context.load_cert_chain(cert, key, password="")  # else a key with a passphrase would ask the terminal for it
    else:
        context = ssl.create_default_context(cafile=reach.ca_file) if reach.ca_file else _system_context()
    timings = reach.timings
    options: dict[str, Any] = {
        "timeout": httpx2.Timeout(timings.read, connect=timings.connect, pool=timings.pool),
        "follow_redirects": False,
        "trust_env": False,
    }
    # One credential's session must not become another's: the sources of an upstream share these clients.
    no_cookies = DefaultCookiePolicy(allowed_domains=[])
    distances = Distances()
    waiting_transport = _AsyncTransport(context, check, distances)
    downloads, small = (_SyncTransport(context, check, distances) for _ in range(2))
    waiting = httpx2.AsyncClient(transport=waiting_transport, cookies=CookieJar(no_cookies), **options)
    blocking, brief = (
        httpx2.Client(transport=transport, cookies=CookieJar(no_cookies), **options) for transport in (downloads, small)
    )
    for client in (waiting, blocking, brief):
        client.headers.clear()
    return Clients(stamp, waiting, blocking, brief, downloads.pools, distances)


async def prepare_backend() -> None:
    """Load what the first connection would wait for: the library's backend and the codec of host names."""
    anyio.connect_tcp  # noqa: B018 (imported when it is first named)
    await anyio.lowlevel.checkpoint()
    "localhost".encode("idna")


@contextmanager
def sending_for(image: str) -> Iterator[None]:
    """Count names that are looked up within the block for the owner of an image: the first part of its name."""
    token = _owner.set(image.partition("/")[0])
    try:
        yield
    finally:
        _owner.reset(token)


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Limit the time that this thread spends within the block on reading from connections of this module."""
    _thread.deadline = time.monotonic() + seconds
    try:
        yield
    finally:
        _thread.deadline = None


def _time_left(timeout: float | None) -> float | None:
    until = getattr(_thread, "deadline", None)
    if until is None:
        return timeout
    left: float = until - time.monotonic()
    if left <= 0:
        raise httpcore2.ReadTimeout("the response took too long")
    return left if timeout is None else min(timeout, left)


_HIDDEN = "the name has no address on the public internet"
"""What is said of a name without an address, and of one with a private one, where they must not be told apart."""


class NoAddress(httpcore2.ConnectError):
    """The name has no address. It has a class of its own because the pool drops the cause of an error."""


class LookupRefused(NoAddress):
    """The name was not looked up for want of something in this process."""


class AddressRefused(httpcore2.ConnectError):
    """The name has an address that must not be connected to."""


class AddressCheck:
    """Resolves host names, and refuses those with an address that must not be connected to."""

    def __init__(self, reach: Reach, resolver: Resolver) -> None:
        self.reach = reach
        self._lookups = Lookups(resolver)

    def addresses(self, host: str, port: int, timeout: float | None) -> list[str]:
        """Look up and check the addresses of a host. Raises httpcore's ConnectError if there is none, or one must not
        be reached."""
        if self.reach.proxy:
            return [host]
        try:
            return self._checked(host, port, self._lookup(host, port).result(timeout))
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout("the name was not resolved in time") from error

    async def addresses_async(self, host: str, port: int, timeout: float | None) -> list[str]:  # noqa: ASYNC109
        if self.reach.proxy:
            return [host]
        found = asyncio.wrap_future(self._lookup(host, port))
        try:
            return self._checked(host, port, await asyncio.wait_for(asyncio.shield(found), timeout))
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout("the name was not resolved in time") from error

    def _lookup(self, host: str, port: int) -> "Future[list[str] | Exception]":
        party = None if self.reach.names(host, port) else Requester(current_requester().group, _owner.get())
        return self._lookups.start(host, port, party)

    def _checked(self, host: str, port: int, addresses: list[str] | Exception) -> list[str]:
        if isinstance(addresses, NotLookedUp):
            raise LookupRefused(f"the name cannot be resolved now ({addresses})") from addresses
        hides = self.reach.hides(host, port)
        if isinstance(addresses, Exception):
            raise NoAddress(_HIDDEN if hides else f"the name cannot be resolved ({addresses})") from addresses
        if not addresses:
            raise NoAddress(_HIDDEN if hides else "the name has no address")
        private = None if self.reach.allows_private(host, port) else first_private(addresses)
        if private is None:
            return addresses
        if _throttle.due("address"):
            log.warning("address_refused", host=host, address=private)
        told = f"{private} is not a public address; set private_addresses = true on the upstream if that is meant"
        raise AddressRefused(_HIDDEN if hides else told)


def _attempts(addresses: list[str], timeout: float | None) -> Iterable[tuple[str, float | None]]:
    """Addresses with their timeouts: short but for the last, so that a dead one does not use up the whole time."""
    short = _ATTEMPT_TIMEOUT if timeout is None else min(timeout, _ATTEMPT_TIMEOUT)
    return [(address, short) for address in addresses[:-1]] + [(addresses[-1], timeout)]


def _in_words_of_the_system(error: Exception) -> Exception:
    """The failure to connect with the system's reason, such as "connection refused".

    Of one that ends a task, the library says that all attempts have failed, and no more.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(error, httpcore2.ConnectTimeout):
        if isinstance(cause, OSError) and cause.errno:
            return httpcore2.ConnectError(os.strerror(cause.errno).lower())
        cause = cause.__cause__
    return error


# The library has one interface for threads and one for tasks, so the backend stands twice.


class _CheckedBackend(httpcore2.NetworkBackend):
    """Connects to a checked address; TLS and Host keep the name, which the pool takes from the URL."""

    def __init__(self, check: AddressCheck, distances: Distances) -> None:
        self._check, self._distances = check, distances
        self._inner = httpcore2.SyncBackend()

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, *args: Any, **kwargs: Any) -> Any:
        failure: Exception | None = None
        for address, limit in _attempts(self._check.addresses(host, port, timeout), timeout):
            try:
                with self._distances.measured(host, port, "TCP"):
                    stream = self._inner.connect_tcp(address, port, limit, *args, **kwargs)
                return _DeadlineStream(stream, partial(self._distances.measured, host, port, "TLS"))
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = _in_words_of_the_system(error)
        raise failure or httpcore2.ConnectError("no address")


class _CheckedAsyncBackend(httpcore2.AsyncNetworkBackend):
    def __init__(self, check: AddressCheck, distances: Distances) -> None:
        self._check, self._distances = check, distances
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
                with self._distances.measured(host, port, "TCP"):
                    return await self._inner.connect_tcp(address, port, limit, *args, **kwargs)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = _in_words_of_the_system(error)
        raise failure or httpcore2.ConnectError("no address")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _DeadlineStream(httpcore2.NetworkStream):
    """A connection whose reads end at the thread's deadline, however slowly bytes arrive."""

    def __init__(
        self,
        inner: httpcore2.NetworkStream,
        measured: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """`measured` measures the handshake of TLS, which takes one round trip."""
        self._inner, self._measured = inner, measured

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _time_left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _time_left(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        with self._measured():
            return _DeadlineStream(self._inner.start_tls(ssl_context, server_hostname, _time_left(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _SyncTransport(httpx2.HTTPTransport):
    """The library's transport over our own pools, because its constructor takes none."""

    def __init__(self, context: ssl.SSLContext, check: AddressCheck, distances: Distances) -> None:
        backend = _CheckedBackend(check, distances)
        self.pools = KeepingPools(distances, network_backend=backend, **_pool_options(context, check.reach))
        self._pool: Any = self.pools


class _AsyncTransport(httpx2.AsyncHTTPTransport):
    def __init__(self, context: ssl.SSLContext, check: AddressCheck, distances: Distances) -> None:
        backend = _CheckedAsyncBackend(check, distances)
        self._pool: Any = AsyncKeepingPools(network_backend=backend, **_pool_options(context, check.reach))


def _proxy(url: str) -> httpcore2.Proxy | None:
    """The outbound proxy, if there is one; a name and password in its URL become its credential."""
    if not url:
        return None
    proxy = httpx2.Proxy(url)
    parts = proxy.url
    target = httpcore2.URL(scheme=parts.raw_scheme, host=parts.raw_host, port=parts.port, target=parts.raw_path)
    return httpcore2.Proxy(target, proxy.raw_auth)


def _pool_options(context: ssl.SSLContext, reach: Reach) -> dict[str, Any]:
    return {
        "ssl_context": context,
        "proxy": _proxy(reach.proxy),
        "max_connections": reach.timings.connections,
        "http1": True,
        "http2": False,
        "socket_options": _socket_options(reach.timings),
    }


def _socket_options(timings: UpstreamTimings) -> list[tuple[int, int, int]]:
    """Let the system end a connection whose other end does not acknowledge a request: a kept one may have lost it."""
    option = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux alone
    return [] if option is None else [(socket.IPPROTO_TCP, option, int(timings.connect * 1000))]
