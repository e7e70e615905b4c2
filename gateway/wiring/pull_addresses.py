"""Addresses at which images have the names that they have upstream, by the settings."""

from collections.abc import Sequence

from gateway.settings.tables import Settings
from gateway.v2.root_selection import url_with_host


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
