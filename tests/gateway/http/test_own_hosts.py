"""Tests of host names: a server on loopback serves its own names alone, any other serves all."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from gateway.http.own_hosts import name_of
from gateway.settings.tables import ListenerSettings, Settings, VirtualHostSettings
from gateway.wiring.app import running
from tests.gateway.asgi import send_request
from tests.gateway.made import make

LOOPBACK = ["localhost", "LOCALHOST:8080", "a.localhost", "localhost.", "127.0.0.1:8080", "127.9.9.9", "[::1]:8080"]
FOREIGN = ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.0.1"]
TOO_LONG = "x" * 400 + ".localhost"
URLS = ["https://registry.example", "https://docker.example"]
FAR_LISTENER = ListenerSettings(host="192.0.2.1", port=1)
NOTHING: Mapping[str, Any] = {}
PATHS = ["/v2/", "/v2/hub/dependency_proxy/containers/x/tags/list", "/-/health", "/-/metrics", "/nothing"]


async def statuses(
    data: Path, hosts: Sequence[str | None], urls: list[str], settings: Mapping[str, Any] = NOTHING
) -> dict[str | None, list[int]]:
    """Statuses of the paths for each Host, at each address of a server with these settings."""
    await make(Settings(data=data))
    found: dict[str | None, list[int]] = {host: [] for host in hosts}
    async with running(Settings(data=data, upstreams={}, **settings), urls) as apps:
        for host, app in product(hosts, apps):
            for path in PATHS:
                answer = await send_request(app, "GET", path, [] if host is None else [("Host", host)])
                found[host].append(answer.status)
                if answer.status == 421:
                    assert "external_url" in answer.error["message"]
                    assert "[[virtual_host]]" in answer.error["message"]
                    assert host is not None
                    assert host.encode() not in answer.body
    return found


async def test_a_loopback_server_serves_its_own_names(tmp_path: Path) -> None:
    found = await statuses(tmp_path, [*LOOPBACK, None], ["http://127.0.0.1:8080"])
    assert {host for host, seen in found.items() if 421 in seen} == set()


async def test_a_loopback_server_refuses_every_other_name_on_every_path(tmp_path: Path) -> None:
    hosts = [*FOREIGN, TOO_LONG]
    found = await statuses(tmp_path, hosts, ["http://127.0.0.1:8080"])
    assert found == {host: [421] * len(PATHS) for host in hosts}


async def test_names_in_the_settings_are_its_own_at_every_address(tmp_path: Path) -> None:
    configured = {
        "listener": [ListenerSettings(port=1)],
        "virtual_host": [VirtualHostSettings(name="mirror.example")],
        "registry_url": "https://images.example",
    }
    own = ["registry.example", "Registry.Example:443", "docker.example:80", "mirror.example", "images.example"]
    found = await statuses(tmp_path, [*own, "evil.example"], URLS, configured)
    assert set(found.pop("evil.example")) == {421}
    assert {host for host, seen in found.items() if 421 in seen} == set()


@pytest.mark.parametrize(
    "bound",
    [{"host": "0.0.0.0", "external_url": URLS[0]}, {"host": "192.0.2.1"}, {"listener": [FAR_LISTENER]}],
    ids=["everywhere", "another address", "a listener"],
)
async def test_a_server_bound_beyond_loopback_serves_every_name(bound: Mapping[str, Any], tmp_path: Path) -> None:
    found = await statuses(tmp_path, ["any.example"], URLS[: 1 + ("listener" in bound)], bound)
    assert 421 not in found["any.example"]


@pytest.mark.parametrize(
    ("host", "name"),
    [("A.b:80", "a.b"), ("[::1]:80", "::1"), ("[::1]", "::1"), ("a.b.", "a.b"), ("127.0.0.1", "127.0.0.1")],
)
def test_the_name_of_a_host_has_no_port_and_no_capitals(host: str, name: str) -> None:
    assert name_of(host) == name
