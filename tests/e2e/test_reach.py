"""Tests of the ways to an upstream: below a path, and as other programs have it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from tests.conftest import GatewayFactory, Publish
from tests.parts import lies, raw
from tests.parts.canaries import CANARY
from tests.parts.clients import Skopeo
from tests.parts.hub import Hub
from tests.parts.images import Images, seeded
from tests.parts.liar import Liar
from tests.parts.proxies import Nginx
from tests.parts.registry import Registry

PREFIXED = """\
server {
    listen 80;
    location = /v2/ { return 200 '{}'; }
    location /v2/docker-remote/ { proxy_pass http://127.0.0.1:8080/v2/; proxy_set_header Host $http_host; }
}
"""
"""A registry below the path of its repository, as Artifactory serves it by the "Repository Path Method"
(https://jfrog.com/help/r/jfrog-artifactory-documentation/docker-registry)."""


def below(url: str, path: str, **more: Any) -> dict[str, Any]:
    """Settings of an upstream whose URL has a path. Nothing is fetched ahead, since tests count requests."""
    upstream = {"url": f"{url}/{path}", "private_addresses": True, **more}
    return {"upstreams": {"docker.io": upstream}, "cache": {"prefetch": False}}


def test_an_image_is_pulled_from_a_registry_below_a_path(
    registry: Registry, published: Publish, images: Images, gateway: GatewayFactory, skopeo: Skopeo, scratch: Path
) -> None:
    layout = published("tiny", repository="library/tiny")
    proxy = Nginx(scratch / "nginx", registry.port, written=PREFIXED)
    proxy.start()
    try:
        assert raw.get(f"{proxy.url}/v2/library/tiny/manifests/latest").status == 404
        server = gateway(below(proxy.url, "docker-remote"))
        assert skopeo.pull(server.proxied("tiny:latest"), scratch / "pulled").missing(layout) == []
        assert {check["ok"] for check in server.json("doctor") if check["name"].startswith("upstream")} <= {True, None}
    finally:
        proxy.stop()


def test_the_path_is_part_of_the_scope_of_a_token(
    hub: Hub, published: Publish, gateway: GatewayFactory, skopeo: Skopeo, scratch: Path
) -> None:
    layout = published("tiny", repository="acme/library/tiny")
    settings = hub.settings(url=f"{hub.url}/acme")
    server = gateway({"upstreams": {"docker.io": settings}})
    assert skopeo.pull(server.proxied("tiny:latest"), scratch / "pulled").missing(layout) == []
    scopes = {parse_qs(record.query)["scope"][0] for record in hub.log.select("token")}
    assert scopes == {"repository:acme/library/tiny:pull"}


def test_registries_of_one_host_share_no_tag_and_no_right(
    registry: Registry, published: Publish, gateway: GatewayFactory
) -> None:
    one, two = published("tiny", repository="one/app"), published("other", repository="two/app")
    upstreams = {
        f"{name}.example": {"url": f"{registry.url}/{name}", "private_addresses": True} for name in ("one", "two")
    }
    server = gateway({"upstreams": upstreams})
    for _ in range(2):
        for name, layout in (("one", one), ("two", two)):
            answer = raw.get(server.proxied_url(f"{name}.example/app/manifests/latest"))
            assert answer.headers["docker-content-digest"] == layout.digest
    assert raw.get(server.proxied_url(f"two.example/app/manifests/{one.digest}")).status == 404
    alone = next(layer for layer in one.layers if layer not in two.layers)
    assert raw.get(server.proxied_url(f"two.example/app/blobs/{alone}")).status == 404
    kept = {(entry["upstream"], entry["digest"]) for entry in server.json("cache", "list")}
    assert kept == {(f"{registry.url}/one", one.digest), (f"{registry.url}/two", two.digest)}


def test_a_group_of_another_gateway_is_an_upstream(
    registry: Registry, published: Publish, gateway: GatewayFactory, skopeo: Skopeo, scratch: Path
) -> None:
    layout = published("tiny", repository="library/tiny")
    far = gateway({"upstreams": {"docker.io": registry.settings()}}, name="far")
    near = gateway(below(far.url, "hub/dependency_proxy/containers"), name="near")
    assert skopeo.pull(near.proxied("tiny:latest"), scratch / "pulled").missing(layout) == []


def test_a_mirror_may_lie_below_a_path(
    liar: Liar, registry: Registry, published: Publish, gateway: GatewayFactory, skopeo: Skopeo, scratch: Path
) -> None:
    layout = published("tiny", repository="mirrored/library/tiny")
    server = gateway({"upstreams": {"docker.io": liar.settings(mirrors=[f"{registry.url}/mirrored"])}})
    liar.stop()
    assert skopeo.pull(server.proxied("tiny:latest"), scratch / "pulled").missing(layout) == []


# Beyond an outbound proxy.

OUTBOUND = """\
map $http_host $beyond {{
    hostnames;
    registry.example 127.0.0.1:8080;
    *.pkg.dev 127.0.0.1:{elsewhere};
}}
server {{
    listen 80;
    location / {{ proxy_pass http://$beyond; proxy_set_header Host $http_host; proxy_http_version 1.1; }}
}}
"""
"""nginx as an outbound proxy for plain HTTP, with names that only it knows."""


@pytest.fixture
def outbound(liar: Liar, elsewhere: Liar, scratch: Path, processes: None) -> Iterator[Nginx]:
    proxy = Nginx(scratch / "outbound", liar.port, written=OUTBOUND.format(elsewhere=elsewhere.port))
    proxy.start()
    yield proxy
    proxy.stop()


@pytest.fixture
def elsewhere() -> Iterator[Liar]:
    with Liar() as elsewhere:
        yield elsewhere


def through(proxy: Nginx, **more: Any) -> dict[str, Any]:
    upstream = {"url": "http://registry.example", "proxy": proxy.url, **more}
    return {"upstreams": {"docker.io": upstream}, "cache": {"prefetch": False}}


def test_redirects_lead_to_hosts_below_a_name_and_no_credential_with_them(
    liar: Liar, elsewhere: Liar, outbound: Nginx, gateway: GatewayFactory, scratch: Path
) -> None:
    (scratch / "password").write_text(CANARY)
    login = {"username": "ada", "password_file": str(scratch / "password"), "groups": ["hub"]}
    server = gateway(through(outbound, redirect_hosts=["*.pkg.dev"], **login))
    digest = elsewhere.offer_blob(seeded("beyond", 40_000))
    liar.behave(digest, lies.redirected(f"http://europe-docker.pkg.dev/v2/any/blobs/{digest}"))
    liar.behave(digest, lies.answered(401, b"", WWW_Authenticate='Basic realm="here"').only(1))
    assert raw.get(server.proxied_url(f"any/name/blobs/{digest}")).digest == digest
    assert {record.header("authorization") for record in elsewhere.requests.select()} == {None}
    assert [record.header("authorization") is None for record in liar.requests.select()] == [True, False]


def test_what_is_not_named_is_not_reached_through_the_proxy(
    liar: Liar, elsewhere: Liar, outbound: Nginx, gateway: GatewayFactory
) -> None:
    server = gateway(through(outbound, redirect_hosts=["*.example"]))
    digest = elsewhere.offer_blob(seeded("beyond", 40_000))
    liar.behave(digest, lies.redirected(f"http://europe-docker.pkg.dev/v2/any/blobs/{digest}"))
    assert raw.get(server.proxied_url(f"any/name/blobs/{digest}")).status == 503
    liar.behave("/manifests/", lies.foreign_realm("http://europe-docker.pkg.dev/token"))
    assert raw.get(server.proxied_url("any/name/manifests/latest")).status == 503
    assert elsewhere.requests.count() == 0


def test_a_token_service_elsewhere_needs_no_setting_for_anonymous_pulls(
    hub: Hub, published: Publish, gateway: GatewayFactory, skopeo: Skopeo, scratch: Path
) -> None:
    layout = published("tiny")
    server = gateway({"upstreams": {"docker.io": hub.settings(token_hosts=[])}})
    assert skopeo.pull(server.proxied("tiny:latest"), scratch / "pulled").missing(layout) == []
    assert {record.header("authorization") for record in hub.log.select("token")} == {None}
