"""Which repository a request means by more than its path: by `?ns=`, by Host, by the address that it came to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from urllib.parse import parse_qs, urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cache.oci.errors import NameUnknown, RegistryError, Unsupported
from gateway.namespaces.locate import DOCKER_HUB, DOCKER_HUB_ALIAS, Root
from gateway.namespaces.paths import PROXY_SEPARATOR
from gateway.services import Services
from gateway.upstreams import Upstreams
from gateway.v2.access import Options
from gateway.v2.routes import RegistryApi

NAMESPACE_HEADER = "OCI-Namespace"
_ADDRESS = "gateway.address"
_READS = ("GET", "HEAD")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def main_registry(services: Services, options: Options, ns_group: str, virtual_hosts: Mapping[str, Root]) -> ASGIApp:
    """What answers below /v2 on the main address, whose URL is in the options."""
    by_upstream = {
        name: RegistryApi(services, replace(options, root=Root(ns_group, name), namespace=name))
        for name in services.upstreams.names
    }
    foreign = {namespace: by_upstream[name] for namespace, name in namespaces_of(services.upstreams).items()}
    own = ByNamespace(RegistryApi(services, options), options.external_url, foreign, services.upstreams.names)
    if not virtual_hosts:
        return own
    hosts = {
        name: registry_at(services, replace(options, external_url=url_with_host(options.external_url, name)), root)
        for name, root in virtual_hosts.items()
    }
    return ByHost(own, hosts)


def registry_at(services: Services, options: Options, root: Root) -> ASGIApp:
    """What answers below /v2 where every name belongs to one group and upstream."""
    api = RegistryApi(services, replace(options, root=root))
    known = [namespace for namespace, name in namespaces_of(services.upstreams).items() if name == root.upstream]
    return OfOneUpstream(api, root.upstream, known, options.external_url)


def url_with_host(url: str, host: str) -> str:
    """The URL, below the same scheme, port and path, of another host."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{host}:{parts.port}" if parts.port else host).geturl()


def hosts_of(url: str) -> list[str]:
    """How a client may write the host of a URL: with its port, and without where that is the scheme's own."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    default = _DEFAULT_PORTS[parts.scheme]
    port = parts.port or default
    return [f"{host}:{port}", *([host] if port == default else [])]


def namespaces_of(upstreams: Upstreams) -> dict[str, str]:
    """The upstream that each `ns` means: its name, or the host of its URL where no upstream has that for a name."""
    found = {host: name for name in upstreams.names for host in hosts_of(upstreams.get(name).url)}
    found |= {name: name for name in upstreams.names}
    return found | {DOCKER_HUB_ALIAS: found[DOCKER_HUB]} if DOCKER_HUB in found else found


class ByNamespace:
    """`?ns=HOST[:PORT]` on the main address, which containerd sends with each request to a mirror.

    With a plain name it chooses among the configured upstreams and reaches nothing else; this server's own external
    host means a repository of its own. A name below a group says by itself where it leads.
    """

    def __init__(self, own: ASGIApp, own_url: str, foreign: Mapping[str, ASGIApp], upstreams: Iterable[str]) -> None:
        """`foreign`: who answers for each namespace. Raises RegistryError for what is refused."""
        self._own = own
        self._own_hosts = frozenset(hosts_of(own_url))
        self._foreign = {namespace: InNamespace(app, namespace) for namespace, app in foreign.items()}
        self._upstreams = sorted(upstreams)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._chosen(scope) if scope["query_string"] else self._own
        await app(scope, receive, send)

    def _chosen(self, scope: Scope) -> ASGIApp:
        namespace = _namespace(scope["query_string"])
        if not namespace or namespace in self._own_hosts or PROXY_SEPARATOR in scope["path"]:
            return self._own
        if scope["path"] in ("/v2", "/v2/"):
            return self._own
        if scope["method"] not in _READS:
            raise Unsupported("images of an upstream, which `ns` asks for, can only be pulled")
        app = self._foreign.get(namespace)
        if app is None:
            raise _unknown(namespace, self._upstreams)
        return app


class OfOneUpstream:
    """An address whose every name belongs to one upstream does not answer for another, which `ns` may name."""

    def __init__(self, app: ASGIApp, upstream: str, namespaces: Iterable[str], own_url: str) -> None:
        self._app = app
        self._upstream = upstream
        self._asked = {name: InNamespace(app, name) for name in namespaces}
        self._own_hosts = frozenset(hosts_of(own_url))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reads = scope["method"] in _READS  # what does not, the app refuses whatever it names
        app = self._chosen(scope["query_string"]) if scope["query_string"] and reads else self._app
        await app(scope, receive, send)

    def _chosen(self, query: bytes) -> ASGIApp:
        namespace = _namespace(query)
        if not namespace or namespace in self._own_hosts:
            return self._app
        app = self._asked.get(namespace)
        if app is None:
            raise _unknown(namespace, [self._upstream])
        return app


class InNamespace:
    """Says with every answer for which registry it was given; `namespace` is one of the configured, never an echo."""

    def __init__(self, app: ASGIApp, namespace: str) -> None:
        self._app = app
        self._namespace = namespace
        self._line = (NAMESPACE_HEADER.lower().encode(), namespace.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], self._line]
            await send(message)

        try:
            await self._app(scope, receive, telling)
        except RegistryError as error:
            error.headers[NAMESPACE_HEADER] = self._namespace
            raise


class AtAddress:
    """Outermost on a listener: one app serves all addresses, and is told by which of them a request came."""

    def __init__(self, app: ASGIApp, number: int) -> None:
        self._app = app
        self._number = number

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[_ADDRESS] = self._number
        await self._app(scope, receive, send)


class ByAddress:
    """Who answers below /v2 on the main address, then on each listener."""

    def __init__(self, registries: Sequence[ASGIApp]) -> None:
        self._registries = registries

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._registries[scope.get(_ADDRESS, 0)](scope, receive, send)


class ByHost:
    """Virtual hosts: Host chooses among the configured names and means nothing else."""

    def __init__(self, main: ASGIApp, hosts: Mapping[str, ASGIApp]) -> None:
        self._main = main
        self._hosts = {name.encode(): app for name, app in hosts.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        app = self._hosts.get(host.lower().partition(b":")[0], self._main)
        await app(scope, receive, send)


@lru_cache(256)
def _namespace(query: bytes) -> str:
    """The value of `ns`, empty if there is none. Raises NameUnknown for several that differ."""
    values = set(parse_qs(query.decode("latin-1")).get("ns", ()))
    if len(values) > 1:
        raise NameUnknown("`ns` is given more than once, with different values")
    return values.pop().lower() if values else ""


def _unknown(namespace: str, upstreams: list[str]) -> NameUnknown:
    return NameUnknown(f"upstream {namespace[:300]!r} is not served here: configured are {', '.join(upstreams)}")
