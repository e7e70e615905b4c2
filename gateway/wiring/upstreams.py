"""Upstreams of the settings, as their clients know them."""

from gateway.settings.tables import Settings
from gateway.upstreams import Upstream


def configured_upstreams(settings: Settings) -> list[Upstream]:
    """List the upstreams of the settings."""
    return [
        Upstream(
            name=name,
            url=upstream.url,
            token_hosts=frozenset(upstream.token_hosts),
            private_addresses=upstream.private_addresses,
            username=upstream.username,
            password_file=upstream.password_file,
            groups=frozenset(upstream.groups),
            ca_file=upstream.ca_file,
            proxy=upstream.proxy,
            allow=upstream.allow,
            deny=upstream.deny,
            mirrors=upstream.mirrors,
            redirect_hosts=frozenset(upstream.redirect_hosts),
            password_command=upstream.password_command,
            client_cert=upstream.client_cert,
            client_key=upstream.client_key,
            headers=tuple(upstream.headers.items()),
        )
        for name, upstream in settings.upstreams.items()
    ]


def listed_groups(settings: Settings) -> set[str]:
    """The paths of the groups to which upstreams lend their accounts."""
    return {path for upstream in settings.upstreams.values() for path in upstream.groups}


def groups_named(settings: Settings) -> list[tuple[str, str]]:
    """Every setting that names a group, with its path."""
    named = [("ns_group", settings.ns_group)]
    named += [(f"group of the listener at port {listener.port}", listener.group) for listener in settings.listener]
    named += [(f"group of the virtual host {host.name}", host.group) for host in settings.virtual_host]
    for name, upstream in settings.upstreams.items():
        named += [(f'groups of upstreams."{name}"', path) for path in upstream.groups]
    return named
