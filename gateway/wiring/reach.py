"""From where a server is reached, by its settings: on loopback alone, and under which names."""

from collections.abc import Callable, Iterable, Sequence
from urllib.parse import urlsplit

from gateway.auth.exposure import is_loopback, on_loopback_alone
from gateway.settings.tables import Settings
from gateway.v2.root_selection import url_with_host


def open_proxy_allowed(settings: Settings, urls: Iterable[str]) -> bool:
    """Whether groups with anonymous pull may be served: everywhere if the setting allows it, else on loopback alone.

    `urls`: those of all addresses of this server. One that is reached from elsewhere closes them all, since each serves
    the same content.
    """
    return settings.allow_open_proxy or on_loopback(settings, urls)


def on_loopback(settings: Settings, urls: Iterable[str]) -> bool:
    """Whether this server, which has no other URLs, is reached on loopback alone."""
    names = [virtual.name for virtual in settings.virtual_host]
    return on_loopback_alone([*_bind_hosts(settings), *names], [*urls, *_registry_urls(settings)])


def own_hosts(settings: Settings, urls: Iterable[str]) -> Callable[[str], bool] | None:
    """Make the check whether a host name is one of this server; None, any is, if it is bound beyond loopback.

    Any name may lead to such an address, so the settings cannot list them all. `urls`: those of all addresses of this
    server.
    """
    if not all(map(is_loopback, _bind_hosts(settings))):
        return None
    named = [*urls, *_registry_urls(settings)]
    names = {urlsplit(url).hostname for url in named} | {virtual.name for virtual in settings.virtual_host}
    return lambda host: host in names or is_loopback(host)


def _registry_urls(settings: Settings) -> list[str]:
    return [settings.registry_url] if settings.registry_url else []


def _bind_hosts(settings: Settings) -> list[str]:
    return [settings.host, *(listener.host for listener in settings.listener)]


def pull_addresses(settings: Settings, urls: Sequence[str]) -> dict[tuple[str, str], str]:
    """The URLs at which the images of one upstream through one group have no prefix. `urls`: those of the main address
    and of the listeners, in their order."""
    main, *listeners = urls
    roots = [(url, one.group, one.upstream) for url, one in zip(listeners, settings.listener, strict=True)]
    roots += [(url_with_host(main, one.name), one.group, one.upstream) for one in settings.virtual_host]
    addresses: dict[tuple[str, str], str] = {}
    for url, group, upstream in roots:
        addresses.setdefault((group, upstream), url)
    return addresses
