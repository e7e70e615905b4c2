"""Tests of host names: a server on loopback serves its own names alone, any other serves all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.folder import make
from gateway.http.own_hosts import name_of
from gateway.settings.tables import ListenerSettings, Settings, VirtualHostSettings
from gateway.wiring.app import running
from tests.gateway.asgi import send_request

LOOPBACK = ["localhost", "LOCALHOST:8080", "a.localhost", "localhost.", "127.0.0.1:8080", "127.9.9.9", "[::1]:8080"]
FOREIGN = ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.0.1"]
TOO_LONG = "x" * 400 + ".localhost"
URLS = ["https://registry.example", "https://docker.example"]
FAR_LISTENER = ListenerSettings(host="192.0.2.1", port=1)
NOTHING: Mapping[str, Any] = {}
PATHS = ["/v2/", "/v2/hub/dependency_proxy/containers/x/tags/list", "/-/health", "/-/metrics", "/nothing"]


async def statuses(data: Path, host: str | None, urls: list[str], settings: Mapping[str, Any] = NOTHING) -> list[int]:
    """Statuses of the paths for one Host, at each address of a server with these settings."""
    await make(Settings(data=data))
    found = []
    async with running(Settings(data=data, upstreams={}, **settings), urls) as apps:
        for app in apps:
            for path in PATHS:
                answer = await send_request(app, "GET", path, [] if host is None else [("Host", host)])
                found.append(answer.status)
                if answer.status == 421:
                    assert "external_url" in answer.error["message"]
                    assert "[[virtual_host]]" in answer.error["message"]
                    assert host is not None
                    assert host.encode() not in answer.body
    return found


@pytest.mark.parametrize("host", [*LOOPBACK, None])
async def test_a_loopback_server_serves_its_own_names(host: str | None, tmp_path: Path) -> None:
    assert 421 not in await statuses(tmp_path, host, ["http://127.0.0.1:8080"])


@pytest.mark.parametrize("host", [*FOREIGN, TOO_LONG])
async def test_a_loopback_server_refuses_every_other_name_on_every_path(host: str, tmp_path: Path) -> None:
    assert await statuses(tmp_path, host, ["http://127.0.0.1:8080"]) == [421] * len(PATHS)


@pytest.mark.parametrize(
    "host", ["registry.example", "Registry.Example:443", "docker.example:80", "mirror.example", "images.example"]
)
async def test_names_in_the_settings_are_its_own_at_every_address(host: str, tmp_path: Path) -> None:
    configured = {
        "listener": [ListenerSettings(port=1)],
        "virtual_host": [VirtualHostSettings(name="mirror.example")],
        "registry_url": "https://images.example",
    }
    assert 421 not in await statuses(tmp_path, host, URLS, configured)
    assert set(await statuses(tmp_path, "evil.example", URLS, configured)) == {421}


@pytest.mark.parametrize(
    "bound",
    [{"host": "0.0.0.0", "external_url": URLS[0]}, {"host": "192.0.2.1"}, {"listener": [FAR_LISTENER]}],
    ids=["everywhere", "another address", "a listener"],
)
async def test_a_server_bound_beyond_loopback_serves_every_name(bound: Mapping[str, Any], tmp_path: Path) -> None:
    assert 421 not in await statuses(tmp_path, "any.example", URLS[: 1 + ("listener" in bound)], bound)


@pytest.mark.parametrize(
    ("host", "name"),
    [(b"A.b:80", "a.b"), (b"[::1]:80", "::1"), (b"[::1]", "::1"), (b"a.b.", "a.b"), (b"127.0.0.1", "127.0.0.1")],
)
def test_the_name_of_a_host_has_no_port_and_no_capitals(host: bytes, name: str) -> None:
    assert name_of(host) == name
