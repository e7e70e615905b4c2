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
