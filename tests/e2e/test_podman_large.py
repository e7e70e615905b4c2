"""Tests of a large image by podman in every state of cache and upstream; podman itself verifies each digest."""

from collections.abc import Callable

from tests.conftest import GatewayFactory
from tests.parts.clients import Podman
from tests.parts.hub import Hub
from tests.parts.images import Images


def test_podman_pulls_300_mb_cold_warm_after_a_restart_and_without_the_upstream(
    gateway: GatewayFactory, hub: Hub, published: Callable[..., str], images: Images, podman: Podman
) -> None:
    published("big")
    server = gateway({"upstreams": {"docker.io": hub.settings()}, "cache": {"ttl": "1s"}})
    reference = server.proxied("library/big:latest")
    expected = podman.pull(reference)
    hub.log.clear()
    for state in ("warm", "after a restart", "without the upstream"):
        podman.remove_all()
        if state == "after a restart":
            server.restart()
        if state == "without the upstream":
            hub.refuse()
        assert podman.pull(reference) == expected, state
        assert podman.digest(reference) == images.big.digest, state
    assert hub.count("cdn") == 0
