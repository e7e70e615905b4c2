"""Checks of upstreams at a start: what the log says of each, and that nothing waits for them."""

import json
import signal
import socket
from typing import Any

from tests.conftest import GatewayFactory
from tests.parts import raw
from tests.parts.gateway import Gateway
from tests.parts.hub import Hub
from tests.parts.ports import HOST, free_port
from tests.parts.processes import wait_until

CHECKED = {"GATEWAY_CHECK_UPSTREAMS": "true"}


def at(port: int, **more: Any) -> dict[str, Any]:
    return {"url": f"http://{HOST}:{port}", "private_addresses": True, **more}


def lines_of(server: Gateway, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in server.log_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def pings(hub: Hub) -> int:
    return sum(record.path == "/v2/" for record in hub.log.select())


def test_an_upstream_that_does_not_respond_is_named_once_with_what_to_do(hub: Hub, gateway: GatewayFactory) -> None:
    port, before = free_port(), pings(hub)
    refused = at(port, deny=["*"])  # nothing is pulled from it
    upstreams = {"docker.io": hub.settings(), "down.example": at(port), "refused.example": refused}
    upstreams["unknown.example"] = {"url": "http://registry.invalid"}
    server = gateway({"upstreams": upstreams, "workers": 2, "log_format": "json"}, environment=CHECKED)
    wait_until(lambda: lines_of(server, "upstreams_checked") != [], what="the upstreams are not checked")
    [checked] = lines_of(server, "upstreams_checked")
    assert (checked["reached"], checked["of"]) == (1, 3)
    down, unknown = sorted(lines_of(server, "upstream_not_reached"), key=lambda line: str(line["upstream"]))
    assert (down["upstream"], down["level"]) == ("down.example", "warning")
    assert f"{HOST}:{port}" in down["reason"]
    assert "whether it is up" in down["remedy"]
    assert unknown["upstream"] == "unknown.example"
    assert "correct its url" in unknown["remedy"]
    assert pings(hub) == before + 1


def test_something_else_than_a_registry_is_told_as_such(hub: Hub, gateway: GatewayFactory) -> None:
    other = {"url": hub.url.replace(hub.netloc, hub.cdn_netloc), "private_addresses": True}
    upstreams = {"docker.io": hub.settings(), "other.example": hub.settings() | other}
    server = gateway({"upstreams": upstreams, "log_format": "json"}, environment=CHECKED)
    wait_until(lambda: lines_of(server, "upstreams_checked") != [], what="the upstreams are not checked")
    [found] = lines_of(server, "upstream_not_reached")
    assert found["upstream"] == "other.example"
    assert "where a registry returns 200 or 401" in found["reason"]


def test_a_reload_checks_upstreams_that_it_changes_and_no_others(hub: Hub, gateway: GatewayFactory) -> None:
    def reload(*names: str) -> None:
        down = {name: at(free_port()) for name in names}
        server.configure({"upstreams": {"docker.io": hub.settings(), **down}, "log_format": "json"})
        reloads = len(lines_of(server, "reloaded"))
        server.process.signal(signal.SIGHUP)
        wait_until(lambda: len(lines_of(server, "reloaded")) == reloads + 1, what="the server does not reload")

    settings = {"upstreams": {"docker.io": hub.settings()}, "log_format": "json"}
    server = gateway(settings, environment=CHECKED)
    wait_until(lambda: len(lines_of(server, "upstreams_checked")) == 1, what="the upstreams are not checked")
    reload()
    reload("down.example")
    wait_until(lambda: len(lines_of(server, "upstreams_checked")) == 2, what="the new upstream is not checked")
    [found] = lines_of(server, "upstream_not_reached")
    assert found["upstream"] == "down.example"
    server.stop()
    assert [line["of"] for line in lines_of(server, "upstreams_checked")] == [1, 2]


def test_a_start_and_a_stop_wait_for_no_upstream(gateway: GatewayFactory) -> None:
    with socket.create_server((HOST, 0)) as silent:  # accepts by its backlog, and never responds
        server = gateway({"upstreams": {"docker.io": at(silent.getsockname()[1])}}, environment=CHECKED)
        assert raw.get(f"{server.url}/-/ready").status == 200
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(4) == b"GET "
            assert server.stop() == 0
    assert "upstream_not_reached" not in server.log_text()
