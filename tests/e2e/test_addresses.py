"""Tests of every way to address one image, on one server, and of what none of them reaches."""

import json
import os
import signal
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest

from tests.conftest import GatewayFactory, Publish
from tests.parts import raw
from tests.parts.gateway import Gateway
from tests.parts.hub import Hub
from tests.parts.ports import HOST, free_port
from tests.parts.processes import answers_tcp, wait_until

from .conftest import LongLived
from .datafolder import error_of

MIRROR = "docker.mirror.localhost"
OTHER = "other.example"


def settings(hub: Hub, port: int) -> dict[str, Any]:
    return {
        "upstreams": {"docker.io": hub.settings(), OTHER: {"url": "http://127.0.0.1:9", "private_addresses": True}},
        "listener": [{"port": port}],
        "virtual_host": [{"name": MIRROR}],
    }


@pytest.fixture(scope="module")
def listener() -> str:
    return f"{HOST}:{free_port()}"


@pytest.fixture(scope="module")
def server(long_lived: LongLived, plain_hub_servers: Hub, listener: str) -> Gateway:
    return long_lived(settings(plain_hub_servers, int(listener.rpartition(":")[2])))


Way = tuple[str, Mapping[str, str], str]
WAYS = ["prefix", "upstream below the prefix", "ns", "ns by the host of its URL", "listener", "virtual host"]


def way(mode: str, server: Gateway, listener: str, hub: Hub) -> Way:
    """A way to address images: the base URL of names, its headers, and its query."""
    prefix = f"{server.url}/v2/hub/dependency_proxy/containers/"
    return {
        "prefix": (prefix, {}, ""),
        "upstream below the prefix": (f"{prefix}docker.io/", {}, ""),
        "ns": (f"{server.url}/v2/", {}, "ns=docker.io"),
        "ns by the host of its URL": (f"{server.url}/v2/", {}, f"ns={hub.netloc.replace(':', '%3A')}"),
        "listener": (f"http://{listener}/v2/", {}, ""),
        "virtual host": (f"{server.url}/v2/", {"Host": f"{MIRROR}:5000"}, ""),
    }[mode]


@pytest.mark.parametrize("mode", WAYS)
def test_one_image_by_every_way_and_spelling(
    mode: str, hub: Hub, published: Publish, server: Gateway, listener: str
) -> None:
    layout = published("tiny")
    base, headers, query = way(mode, server, listener, hub)
    spellings = ["tiny", "library/tiny"]
    if mode in ("prefix", "listener", "virtual host"):
        spellings += ["docker.io/tiny", "docker.io/library/tiny", "index.docker.io/tiny"]
    raw.get(f"{base}tiny/manifests/latest?{query}", headers)
    for spelling in spellings:
        answer = raw.get(f"{base}{spelling}/manifests/latest?{query}", headers)
        assert (answer.status, answer.body, answer.headers["x-cache"]) == (200, layout.manifest_bytes, "HIT"), spelling
    blob = raw.get(f"{base}tiny/blobs/{layout.layers[0]}?{query}", headers)
    assert (blob.status, blob.body) == (200, layout.read(layout.layers[0]))
    assert ("oci-namespace" in answer.headers) is bool(query)
    if query:
        assert answer.headers["oci-namespace"] == query.removeprefix("ns=").replace("%3A", ":")
        assert blob.headers["oci-namespace"] == answer.headers["oci-namespace"]
    ping = raw.get(f"{base.partition('/v2/')[0]}/v2/?{query}", headers)
    assert (ping.status, ping.headers["www-authenticate"].partition(" ")[0]) == (401, "Bearer")


@pytest.mark.parametrize("mode", WAYS)
def test_links_to_further_tags_stay_on_the_way_that_the_client_came(
    mode: str, hub: Hub, published: Publish, server: Gateway, listener: str
) -> None:
    for tag in ("v0", "v1", "v2"):
        published("tiny", repository="ways/paged", tag=tag)
    base, headers, query = way(mode, server, listener, hub)
    own = base.partition("/v2/")[0]
    expected = f"http://{MIRROR}:{server.port}" if mode == "virtual host" else own
    url, pages = f"{base}ways/paged/tags/list?n=2&{query}", []
    while url:
        answer = raw.get(url, headers)
        assert answer.status == 200, answer.body
        pages.append(json.loads(answer.body)["tags"])
        link = answer.headers["link"].partition(">")[0].removeprefix("<") if "link" in answer.headers else ""
        assert not link or link.startswith(f"{expected}/v2/")
        url = link.replace(expected, own)
    assert pages == [["v0", "v1"], ["v2"]]


def test_a_namespace_reaches_what_is_configured_and_nothing_else(hub: Hub, published: Publish, server: Gateway) -> None:
    published("tiny")
    url = f"{server.url}/v2/library/tiny/manifests/latest"
    for foreign in ("quay.io", "127.0.0.1:9999", "169.254.169.254", "docker.io.evil.example", "docker.io%2F..", "*"):
        answer = raw.get(f"{url}?ns={foreign}")
        assert (answer.status, error_of(answer)["code"]) == (404, "NAME_UNKNOWN"), foreign
        assert f"configured are docker.io, {OTHER}" in error_of(answer)["message"]
        assert "oci-namespace" not in answer.headers
    twice = raw.get(f"{url}?ns=docker.io&ns={OTHER}")
    assert (twice.status, error_of(twice)["code"]) == (404, "NAME_UNKNOWN")
    assert hub.log.select() == []
    dead = raw.get(f"{url}?ns={OTHER}")
    assert (dead.status, error_of(dead)["code"], dead.headers["oci-namespace"]) == (503, "UNAVAILABLE", OTHER)


def test_our_own_host_as_a_namespace_means_what_is_ours(hub: Hub, published: Publish, server: Gateway) -> None:
    published("tiny")
    answer = raw.get(f"{server.url}/v2/library/tiny/manifests/latest?ns={server.host}")
    assert (answer.status, error_of(answer)["code"]) == (401, "UNAUTHORIZED")
    assert "is not a repository of this server" in error_of(answer)["message"]
    assert hub.log.select() == []


@pytest.mark.parametrize("namespace", ["quay.io", OTHER, "docker.io"])
def test_a_namespace_says_nothing_below_a_group(namespace: str, hub: Hub, published: Publish, server: Gateway) -> None:
    layout = published("tiny")
    answer = raw.get(f"{server.proxied_url('library/tiny/manifests/latest')}?ns={namespace}")
    assert (answer.status, answer.body) == (200, layout.manifest_bytes)
    assert "oci-namespace" not in answer.headers


@pytest.mark.parametrize("namespace", ["docker.io", "quay.io"])
def test_nobody_writes_through_a_namespace(namespace: str, server: Gateway) -> None:
    for method, path in (("POST", "blobs/uploads/"), ("PUT", "manifests/latest"), ("DELETE", "manifests/latest")):
        answer = raw.request(method, f"{server.url}/v2/library/tiny/{path}?ns={namespace}", body=b"x" * 100_000)
        assert (answer.status, error_of(answer)["code"]) == (405, "UNSUPPORTED")


@pytest.mark.parametrize("mode", ["listener", "virtual host"])
def test_an_address_of_one_upstream_answers_for_no_other_and_takes_nothing(
    mode: str, hub: Hub, published: Publish, server: Gateway, listener: str
) -> None:
    """containerd may be configured to use one mirror for everything: an image of another registry is another image."""
    layout = published("tiny")
    base, headers, _ = way(mode, server, listener, hub)
    url = f"{base}library/tiny/manifests/latest"
    answer = raw.get(f"{url}?ns=docker.io", headers)
    assert (answer.status, answer.body, answer.headers["oci-namespace"]) == (200, layout.manifest_bytes, "docker.io")
    for foreign in ("quay.io", OTHER):
        answer = raw.get(f"{url}?ns={foreign}", headers)
        assert (answer.status, error_of(answer)["code"]) == (404, "NAME_UNKNOWN")
    below = raw.get(f"{base}hub/dependency_proxy/containers/library/tiny/manifests/latest", headers)
    assert below.status == 404
    for query in ("", "?ns=docker.io", "?ns=quay.io"):
        written = raw.request("PUT", f"{url}{query}", headers, body=b"{}")
        assert (written.status, error_of(written)["code"]) == (405, "UNSUPPORTED")


def test_a_host_that_is_not_configured_changes_nothing_and_never_comes_back(
    hub: Hub, published: Publish, server: Gateway
) -> None:
    published("tiny")
    for host in ("evil.localhost", f"evil.{MIRROR}", f"{MIRROR}.evil.localhost", "localhost"):
        for path in ("library/tiny/manifests/latest", "library/tiny/tags/list?n=1", ""):
            answer = raw.get(f"{server.url}/v2/{path}", {"Host": host, "X-Forwarded-Host": MIRROR})
            assert answer.status == 401
            assert host not in f"{answer.headers}{answer.body!r}"
    upper = raw.get(f"{server.url}/v2/library/tiny/tags/list?n=1", {"Host": f"{MIRROR.upper()}:1"})
    assert upper.status == 200
    assert MIRROR.upper() not in f"{upper.headers}{upper.body!r}"


@pytest.mark.parametrize("place", ["listener.host", "listener.external_url", "external_url", "registry_url"])
def test_one_address_beyond_this_machine_closes_what_is_open_to_strangers(
    place: str, hub: Hub, published: Publish, long_lived: LongLived
) -> None:
    published("tiny")
    own = {"port": free_port()}
    config = settings(hub, 0)
    if place == "listener.host":
        own |= {"host": "0.0.0.0", "external_url": "http://127.0.0.1:5000"}
    elif place == "listener.external_url":
        own |= {"external_url": "https://docker.example.com"}
    else:
        config |= {place: "https://registry.example.com"}
    server = long_lived(config | {"listener": [own]})
    assert "allow_open_proxy" in server.log_text()
    for url, headers in (
        (server.proxied_url("library/tiny/manifests/latest"), {}),
        (f"{server.url}/v2/library/tiny/manifests/latest?ns=docker.io", {}),
        (f"http://{HOST}:{own['port']}/v2/library/tiny/manifests/latest", {}),
        (f"{server.url}/v2/library/tiny/manifests/latest", {"Host": MIRROR}),
    ):
        answer = raw.get(url, headers)
        assert (answer.status, error_of(answer)["code"]) == (403, "DENIED")
        assert "allow_open_proxy" in error_of(answer)["message"]
    assert hub.log.select() == []


def test_a_listener_whose_port_is_taken_is_named(server: Gateway, long_lived: LongLived) -> None:
    taken = server.port
    other = Gateway(server.directory.with_name("taken"), {"listener": [{"port": taken}]})
    completed = other.cli("serve", "--port", "0")
    assert completed.returncode == 1
    [line] = completed.stderr.splitlines()
    assert f"127.0.0.1 port {taken}" in line
    assert "listener[1].host or listener[1].port" in line


def test_all_addresses_are_told_to_other_commands(server: Gateway, listener: str) -> None:
    run = json.loads((server.data / "run.json").read_text())
    assert run["addresses"] == [server.url, f"http://{listener}"]


def replaced(server: Gateway, gone: set[int]) -> bool:
    return len(server.workers) == 2 and not gone & set(server.workers)


def test_every_worker_serves_every_address_and_so_does_one_that_takes_its_place(
    hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    layout, port = published("tiny"), free_port()
    server = gateway({"workers": 2, "upstreams": {"docker.io": hub.settings()}, "listener": [{"port": port}]})
    url = f"http://{HOST}:{port}/v2/library/tiny/manifests/latest"
    first = server.workers
    for worker in first:
        os.kill(worker, signal.SIGKILL)
        gone = {*first[: first.index(worker) + 1]}
        wait_until(partial(replaced, server, gone))
        for _ in range(4):
            assert raw.get(url).body == layout.manifest_bytes
            assert raw.get(f"{server.url}/v2/").status == 401
    assert set(first) & set(server.workers) == set()
    assert server.stop() == 0
    assert not answers_tcp(port)()
