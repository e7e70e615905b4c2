"""Tests of the command line beside a running server: the next request sees what a command changed."""

import socket
from pathlib import Path

import pytest

from tests.conftest import GatewayFactory, Publish
from tests.parts import raw
from tests.parts.canaries import CANARY
from tests.parts.clients import ClientFailed, Skopeo
from tests.parts.gateway import Gateway
from tests.parts.hub import Hub

from .datafolder import error_of

TINY = "library/tiny/manifests/latest"


def told(server: Gateway, *words: str) -> None:
    """Runs a command that must succeed."""
    completed = server.cli(*words)
    assert completed.returncode == 0, completed.stderr


def answered(server: Gateway, group: str) -> tuple[int, str]:
    """Status and error code (empty: none) of a pull through a group."""
    answer = raw.get(server.proxied_url(TINY, group=group))
    return answer.status, "" if answer.status == 200 else str(error_of(answer)["code"])


def test_what_is_done_to_a_group_is_seen_by_the_next_request(
    hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    published("tiny")
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    assert answered(server, "team") == (401, "UNAUTHORIZED")
    told(server, "group", "create", "team", "--visibility", "public", "--anonymous-pull")
    assert answered(server, "team") == (200, "")
    told(server, "group", "update", "team", "--no-anonymous-pull")
    assert answered(server, "team") == (401, "UNAUTHORIZED")
    told(server, "group", "update", "team", "--anonymous-pull", "--no-proxy")
    assert answered(server, "team") == (404, "NAME_UNKNOWN")
    told(server, "group", "update", "team", "--proxy")
    assert answered(server, "team") == (200, "")
    told(server, "group", "delete", "team")
    assert answered(server, "team") == (401, "UNAUTHORIZED")
    assert [group["path"] for group in server.json("group", "list")] == ["hub"]
    assert answered(server, "hub") == (200, "")


def test_a_closed_group_is_closed_for_what_is_cached_as_well(
    hub: Hub, published: Publish, gateway: GatewayFactory, skopeo: Skopeo, scratch: Path
) -> None:
    layout = published("tiny")
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    reference = server.proxied("library/tiny:latest")
    assert skopeo.pull(reference, scratch / "open").missing(layout) == []
    told(server, "group", "update", "hub", "--no-anonymous-pull")
    with pytest.raises(ClientFailed, match=r"(?i)unauthorized|authentication required"):
        skopeo.pull(reference, scratch / "closed")
    for path in (TINY, f"library/tiny/blobs/{layout.layers[0]}", "library/tiny/tags/list"):
        answer = raw.get(server.proxied_url(path))
        assert (answer.status, error_of(answer)["code"]) == (401, "UNAUTHORIZED")


def test_a_login_of_the_group_itself_is_used_at_once(
    hub: Hub, published: Publish, gateway: GatewayFactory, scratch: Path
) -> None:
    published("tiny", repository="library/own-login")
    hub.private.add("library/own-login")
    hub.tokens.users["ada"] = CANARY
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    url = server.proxied_url("library/own-login/manifests/latest")
    assert raw.get(url).status == 404
    for password, status in (("wrong", 503), (CANARY, 200)):
        (scratch / "password").write_text(password)
        login = ["--upstream-username", "ada", "--upstream-password-file", str(scratch / "password")]
        told(server, "group", "update", "hub", *login)
        assert raw.get(url).status == status
    told(server, "group", "update", "hub", "--upstream-username", "")
    assert raw.get(url).status == 404


def test_a_default_upstream_that_changes_changes_where_names_lead(
    hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    published("tiny")
    upstreams = {"docker.io": hub.settings(), "dead.example": {"url": "http://127.0.0.1:9", "private_addresses": True}}
    server = gateway({"upstreams": upstreams})
    assert answered(server, "hub") == (200, "")
    told(server, "group", "update", "hub", "--default-upstream", "dead.example")
    assert answered(server, "hub") == (503, "UNAVAILABLE")
    answer = raw.get(server.proxied_url("absent.example/any/name/manifests/latest"))
    assert (answer.status, error_of(answer)["code"]) == (404, "NAME_UNKNOWN")
    assert "dead.example, docker.io" in error_of(answer)["message"]


def test_strangers_are_served_beyond_loopback_only_if_the_settings_say_so(
    hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    published("tiny")
    config = {"upstreams": {"docker.io": hub.settings()}, "external_url": "https://registry.example.com"}
    guarded = gateway(config, name="guarded")
    for headers in ({}, {"Host": "localhost"}, {"X-Forwarded-For": "127.0.0.1"}):
        answer = raw.get(guarded.proxied_url(TINY), headers)
        assert (answer.status, error_of(answer)["code"]) == (403, "DENIED")
        assert "allow_open_proxy" in error_of(answer)["message"]
    assert "allow_open_proxy" in guarded.log_text()
    assert hub.log.select() == []
    opened = gateway(config, name="opened", arguments=["--allow-open-proxy"])
    assert answered(opened, "hub") == (200, "")
    assert "open_proxy_off" not in opened.log_text()


def test_a_local_external_url_does_not_hide_a_bind_that_is_not_local(gateway: GatewayFactory) -> None:
    server = gateway(arguments=["--host", "0.0.0.0", "--external-url", "http://127.0.0.1:5000"])
    answer = raw.get(server.proxied_url(TINY))
    assert (answer.status, error_of(answer)["code"]) == (403, "DENIED")


def test_nobody_can_write_to_a_proxied_image(gateway: GatewayFactory) -> None:
    server = gateway()
    digest = "sha256:" + "0" * 64
    writes = [
        ("POST", "library/tiny/blobs/uploads/", b""),
        ("PUT", "library/tiny/manifests/latest", b"{}" * 50_000),
        ("PATCH", "library/tiny/blobs/uploads/session", b"x" * 300_000),
        ("DELETE", "library/tiny/manifests/latest", b""),
        ("DELETE", f"library/tiny/blobs/{digest}", b""),
    ]
    for method, path, body in writes:
        answer = raw.request(method, server.proxied_url(path), body=body)
        assert (answer.status, error_of(answer)["code"]) == (405, "UNSUPPORTED")


def refusal(server: Gateway) -> str:
    """The one line with which `serve` exits."""
    where = ["--host", "127.0.0.1", "--port", str(server.port)]
    completed = server.cli("serve", *where)
    assert completed.returncode == 1
    lines = [line for line in completed.stderr.splitlines() if line]
    assert len(lines) == 1, completed.stderr
    assert completed.stdout == ""
    return lines[0]


def test_serve_refuses_a_port_that_is_taken(gateway: GatewayFactory) -> None:
    server = gateway(start=False)
    with socket.create_server(("127.0.0.1", server.port)):
        line = refusal(server)
    assert f"127.0.0.1 port {server.port}" in line
    assert "--port" in line
    assert not (server.data / "run.json").exists()


def test_serve_refuses_a_data_folder_that_another_server_uses(gateway: GatewayFactory) -> None:
    first = gateway(name="same")
    before = (first.data / "run.json").read_text()
    second = gateway(name="same", start=False)
    line = refusal(second)
    assert "another server uses the data folder" in line
    assert "--data" in line
    assert (first.data / "run.json").read_text() == before
    assert raw.get(f"{first.url}/-/health").status == 200
    first.stop()
    second.start()


def test_a_server_says_where_it_is_and_takes_it_back(gateway: GatewayFactory) -> None:
    server = gateway()
    run = (server.data / "run.json").read_text()
    assert str(server.process.pid) in run
    assert server.url in run
    assert server.stop() == 0
    assert not (server.data / "run.json").exists()
