"""From where a server is reached, by its settings: on loopback alone, and under which names."""

from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from gateway.auth.exposure import is_loopback, on_loopback_alone
from gateway.settings.tables import Settings


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
