"""Tests behind a reverse proxy with its defaults, and with the configuration on its page."""

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Publish
from tests.parts import raw
from tests.parts.clients import Podman, Skopeo
from tests.parts.gateway import Gateway
from tests.parts.hub import Hub
from tests.parts.ports import HOST
from tests.parts.processes import wait_until
from tests.parts.proxies import RECOMMENDED, FrontProxy

from .conftest import LongLived
from .datafolder import error_of
from .fronts import KINDS, make_front, snippets

MIRROR = "docker.mirror.localhost"


@pytest.fixture(scope="module", params=KINDS)
def front(request: pytest.FixtureRequest, workplace: Path) -> Iterator[tuple[FrontProxy, int]]:
    """The proxy, and the port to which it forwards everything."""
    proxy, backend = make_front(request.param, workplace)
    proxy.start()
    yield proxy, backend
    proxy.stop()


@pytest.fixture(scope="module")
def server(front: tuple[FrontProxy, int], long_lived: LongLived, plain_hub_servers: Hub) -> Gateway:
    proxy, backend = front
    return long_lived(
        {
            "upstreams": {"docker.io": plain_hub_servers.settings()},
            "external_url": proxy.url,
            "trusted_proxies": [f"{HOST}/32"],
            "virtual_host": [{"name": MIRROR}],
        },
        port=backend,
    )


def test_the_page_has_each_proxy_once() -> None:
    assert (len(snippets("nginx")), len(snippets("haproxy"))) == (1, 1)
    assert [line for line in RECOMMENDED if line not in snippets("nginx")[0]] == []
    assert any("readTimeout: 0s" in text for text in snippets("yaml"))


def test_a_pull_through_it_is_whole(
    front: tuple[FrontProxy, int],
    hub: Hub,
    published: Publish,
    server: Gateway,
    skopeo: Skopeo,
    podman: Podman,
    scratch: Path,
) -> None:
    host = front[0].host
    for name in ("multi", "mid"):
        layout = published(name)
        pulled = skopeo.pull(f"{host}/hub/dependency_proxy/containers/{name}:latest", scratch / name)
        assert (pulled.digest, pulled.missing(layout)) == (layout.digest, [])
    tiny = published("tiny")
    reference = f"{host}/hub/dependency_proxy/containers/tiny:latest"
    podman.pull(reference)
    assert podman.digest(reference) == tiny.digest


def test_links_lead_back_through_it_whatever_is_forwarded(
    front: tuple[FrontProxy, int], hub: Hub, published: Publish, server: Gateway
) -> None:
    proxy, _ = front
    for tag in ("v0", "v1"):
        published("tiny", repository="behind/paged", tag=tag)
    path = "/v2/hub/dependency_proxy/containers/behind/paged/tags/list?n=1"
    forwarded = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "Forwarded": "host=evil.example"}
    answer = raw.get(f"{proxy.url}{path}", forwarded)
    assert json.loads(answer.body)["tags"] == ["v0"]
    assert answer.headers["link"].startswith(f"<{proxy.url}/v2/hub/dependency_proxy/containers/behind/paged/tags/list?")


def test_a_client_chooses_its_address_only_where_the_page_warns_of_it(
    front: tuple[FrontProxy, int], server: Gateway
) -> None:
    """nginx with its defaults names no client, and passes on what one writes."""
    proxy, _ = front
    trusting = "default" in proxy.directory.name
    wanted = {"silent": HOST, "forger": "198.51.100.7"} if trusting else {"silent": "127.0.0.2", "forger": "127.0.0.2"}
    for name, headers in (("silent", {}), ("forger", {"X-Forwarded-For": "198.51.100.7"})):
        client = http.client.HTTPConnection(HOST, proxy.port, timeout=10, source_address=("127.0.0.2", 0))
        client.request("GET", "/v2/", headers={"User-Agent": f"address-of-{name}", **headers})
        client.getresponse().read()
        client.close()
        written = re.compile(rf"^.*\bclient=(\S+).*address-of-{name}.*$", re.MULTILINE)
        wait_until(lambda: written.search(server.log_text()), what="the request is not in the log")  # noqa: B023
        assert set(written.findall(server.log_text())) == {wanted[name]}


def test_a_large_body_comes_to_us_as_far_as_the_proxy_lets_it(
    front: tuple[FrontProxy, int], request: pytest.FixtureRequest, server: Gateway
) -> None:
    """nginx with its defaults refuses a body that is larger than 1 MB."""
    proxy, _ = front
    url = f"{proxy.url}/v2/hub/dependency_proxy/containers/tiny/manifests/latest"
    answer = raw.request("PUT", url, body=b"x" * 3_000_000)
    if "default" in proxy.directory.name:
        assert answer.status == 413
    else:
        assert (answer.status, error_of(answer)["code"]) == (405, "UNSUPPORTED")


def test_a_virtual_host_is_reached_where_the_proxy_passes_host_on(
    front: tuple[FrontProxy, int], hub: Hub, published: Publish, server: Gateway
) -> None:
    proxy, _ = front
    layout = published("tiny")
    answer = raw.get(f"{proxy.url}/v2/library/tiny/manifests/latest", {"Host": MIRROR})
    if "default" in proxy.directory.name:
        assert (answer.status, error_of(answer)["code"]) == (401, "UNAUTHORIZED")
    else:
        assert (answer.status, answer.body) == (200, layout.manifest_bytes)
