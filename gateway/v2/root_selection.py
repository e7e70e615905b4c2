"""Selection of the root that gives a request's names their meaning: by its address, by Host, by `?ns=`."""

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cache.oci.errors import NameUnknown, RegistryError, Unsupported
from gateway import known_registries
from gateway.auth.proxy_permissions import PULL_ONLY
from gateway.namespaces.locate import Root
from gateway.namespaces.paths import PROXY_SEPARATOR
from gateway.v2.endpoint import PINGS

NAMESPACE_HEADER = "OCI-Namespace"
_ADDRESS = "gateway.address"
_CHOSEN = "gateway.chosen_root"
_READS = ("GET", "HEAD")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class ChosenRoot:
    """Meaning of the names of a request.

    `url`: where clients reach the address of the request, without a slash at its end. `root`: None where a name says by
    itself where it leads. `namespace`: the OCI-Namespace that the response states, one of the configured, never an
    echo; empty for none. `link_namespace`: the `ns` that links to further pages must repeat; empty for none.
    """

    url: str
    root: Root | None = None
    namespace: str = ""
    link_namespace: str = ""


@dataclass(frozen=True, slots=True)
class AddressRoots:
    """Roots that can be chosen at one address, or under one virtual host.

    `own`: the root without `ns`, or with one of `own_hosts` for its value. `by_namespace`: the root for any other
    value. `upstreams`: the names of those that `by_namespace` leads to.
    """

    own: ChosenRoot
    own_hosts: frozenset[str]
    by_namespace: Mapping[str, ChosenRoot]
    upstreams: Sequence[str]


@dataclass(frozen=True, slots=True)
class RootTable:
    """Roots of all addresses: the main one, its virtual hosts by lower-case name, and the listeners in order."""

    main: AddressRoots
    virtual_hosts: Mapping[bytes, AddressRoots]
    listeners: Sequence[AddressRoots] = ()


def choose_root(scope: Mapping[str, Any], table: RootTable) -> ChosenRoot:
    """Choose the meaning of a request's names: by its address, then by Host on the main one, then by `ns`.

    `ns=HOST[:PORT]` comes from containerd with each request to a mirror. On the main address it chooses among the
    configured upstreams and reaches nothing else; a name below a group already names its upstream. An address or
    virtual host of one upstream serves no other upstream, even if `ns` names one. Raises NameUnknown, Unsupported.
    """
    address = address_roots(scope, table)
    if not scope["query_string"]:
        return address.own
    reads, of_one_upstream = scope["method"] in _READS, address.own.root is not None
    if of_one_upstream and not reads:
        return address.own  # a write is refused there whatever it names
    namespace = _namespace(scope["query_string"])
    if not namespace or namespace in address.own_hosts:
        return address.own
    if not of_one_upstream:
        if PROXY_SEPARATOR in scope["path"] or scope["path"] in PINGS:
            return address.own
        if not reads:
            raise Unsupported(f"`ns` names an upstream: {PULL_ONLY}")
    chosen = address.by_namespace.get(namespace)
    if chosen is None:
        raise _unknown(namespace, address.upstreams)
    return chosen


def address_roots(scope: Mapping[str, Any], table: RootTable) -> AddressRoots:
    """The address that a request came to; a Host chooses among the configured names and means nothing else."""
    number: int = scope.get(_ADDRESS, 0)
    if number:
        return table.listeners[number - 1]
    if not table.virtual_hosts:
        return table.main
    host = next((value for name, value in scope["headers"] if name == b"host"), b"")
    return table.virtual_hosts.get(host.lower().partition(b":")[0], table.main)


def is_main_address(scope: Mapping[str, Any]) -> bool:
    """Whether a request came to the main address, under whichever name."""
    return not scope.get(_ADDRESS, 0)


class RootSelection:
    """Middleware that chooses the root of each request, and states in the response for which registry it is given."""

    def __init__(self, app: ASGIApp, table: RootTable) -> None:
        self._app = app
        self._table = table

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Choose the root of a request and pass it on. Raises RegistryError for a refused request."""
        chosen = scope[_CHOSEN] = choose_root(scope, self._table)
        if not chosen.namespace:
            await self._app(scope, receive, send)
            return

        async def send_with_namespace(message: Message) -> None:
            if message["type"] == "http.response.start":
                line = (NAMESPACE_HEADER.lower().encode(), chosen.namespace.encode())
                message["headers"] = [*message["headers"], line]
            await send(message)

        try:
            await self._app(scope, receive, send_with_namespace)
        except RegistryError as error:
            error.headers[NAMESPACE_HEADER] = chosen.namespace
            raise


def chosen_root(scope: Mapping[str, Any]) -> ChosenRoot:
    """The root that RootSelection has chosen for a request."""
    chosen = scope[_CHOSEN]
    if not isinstance(chosen, ChosenRoot):
        raise TypeError("no root was chosen")
    return chosen


def at_listener(app: ASGIApp, number: int) -> ASGIApp:
    """Wrap the app of all addresses for one listener, counted from 1, so that it learns to which a request came."""

    async def numbered(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        scope[_ADDRESS] = number
        await app(scope, receive, send)

    return numbered


def root_table(
    main_url: str,
    upstreams: Mapping[str, str],
    ns_group: str,
    virtual_hosts: Mapping[str, Root],
    listeners: Iterable[tuple[str, Root]] = (),
    other_urls: Iterable[str] = (),
) -> RootTable:
    """The table of a server whose main address clients reach at `main_url`, and at `other_urls`, which it never names.

    `upstreams`: the URL of each, by name. `ns_group`: the group that `ns` on the main address pulls through.
    `listeners`: the URL and root of each.
    """
    namespaces = namespaces_of(upstreams)
    by_namespace = {
        namespace: ChosenRoot(main_url, Root(ns_group, name), namespace, name) for namespace, name in namespaces.items()
    }
    own_hosts = frozenset(host for url in (main_url, *other_urls) for host in hosts_of(url))
    main = AddressRoots(ChosenRoot(main_url), own_hosts, by_namespace, sorted(upstreams))
    hosts = {
        name.encode(): _of_one_upstream(url_with_host(main_url, name), root, namespaces)
        for name, root in virtual_hosts.items()
    }
    return RootTable(main, hosts, [_of_one_upstream(url, root, namespaces) for url, root in listeners])


def _of_one_upstream(url: str, root: Root, namespaces: Mapping[str, str]) -> AddressRoots:
    by_namespace = {
        namespace: ChosenRoot(url, root, namespace) for namespace, name in namespaces.items() if name == root.upstream
    }
    return AddressRoots(ChosenRoot(url, root), frozenset(hosts_of(url)), by_namespace, [root.upstream])


def url_with_host(url: str, host: str) -> str:
    """The URL, below the same scheme, port and path, of another host."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{host}:{parts.port}" if parts.port else host).geturl()


def hosts_of(url: str) -> list[str]:
    """Spellings of a URL's host: with its port, and without it where that is the scheme's default."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    default = _DEFAULT_PORTS[parts.scheme]
    port = parts.port or default
    return [f"{host}:{port}", *([host] if port == default else [])]


def namespaces_of(upstreams: Mapping[str, str]) -> dict[str, str]:
    """The upstream that each `ns` means: its name, or the host of its URL where no upstream has that for a name.

    A URL with a path gives its host to no upstream, for the host has other registries beside it.
    """
    whole = {name: url for name, url in upstreams.items() if not urlsplit(url).path.strip("/")}
    found = {host: name for name in sorted(whole) for host in hosts_of(whole[name])}
    found |= {name: name for name in upstreams}
    hub, alias = known_registries.DOCKER_HUB, known_registries.DOCKER_HUB_ALIAS
    return found | {alias: found[hub]} if hub in found else found


@lru_cache(256)
def _namespace(query: bytes) -> str:
    """The value of `ns`, empty if there is none. Raises NameUnknown for several that differ."""
    values = set(parse_qs(query.decode("latin-1")).get("ns", ()))
    if len(values) > 1:
        raise NameUnknown("`ns` is given more than once, with different values")
    return values.pop().lower() if values else ""


def _unknown(namespace: str, upstreams: Iterable[str]) -> NameUnknown:
    return NameUnknown(f"upstream {namespace[:300]!r} is not served: configured are {', '.join(upstreams)}")
