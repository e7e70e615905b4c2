"""Tests of the ways to an upstream: below a path, and as other programs have it."""

import base64
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from tests.conftest import GatewayFactory, Publish
from tests.parts import lies, raw
from tests.parts.canaries import CANARY, found_below
from tests.parts.certs import Authority
from tests.parts.clients import Skopeo
from tests.parts.hub import Hub
from tests.parts.images import Images, seeded
from tests.parts.liar import Liar
from tests.parts.processes import wait_until
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


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_a_proxy_in_the_environment_is_named_in_a_warning(variable: str, liar: Liar, gateway: GatewayFactory) -> None:
    environment = {variable: f"http://user:{CANARY}@proxy.example:3128"}
    server = gateway({"upstreams": {"docker.io": liar.settings()}}, environment=environment)
    [warning] = [line for line in server.log_text().splitlines() if "setting_has_no_effect" in line]
    assert variable in warning
    checks = json.loads(server.cli("doctor", "--json").stdout)
    [check] = [check for check in checks if check["name"] == f"setting {variable}"]
    assert check["detail"].startswith(variable)
    assert CANARY not in json.dumps(check)


def test_a_token_service_elsewhere_needs_no_setting_for_anonymous_pulls(
    hub: Hub, published: Publish, gateway: GatewayFactory, skopeo: Skopeo, scratch: Path
) -> None:
    layout = published("tiny")
    server = gateway({"upstreams": {"docker.io": hub.settings(token_hosts=[])}})
    assert skopeo.pull(server.proxied("tiny:latest"), scratch / "pulled").missing(layout) == []
    assert {record.header("authorization") for record in hub.log.select("token")} == {None}


# What the upstream is shown beside a password.

BEHIND_TLS = """\
server {{
    listen 80 ssl;
    ssl_certificate {authority.cert_file};
    ssl_certificate_key {authority.key_file};
    ssl_client_certificate {authority.ca_file};
    ssl_verify_client {demand};
    location / {{
        proxy_pass http://127.0.0.1:8080;
        proxy_set_header X-Shown $ssl_client_verify;
        proxy_set_header Host $http_host;
    }}
}}
"""
"""nginx that asks for a client certificate, and tells the server behind it whether one was shown
(https://nginx.org/en/docs/http/ngx_http_ssl_module.html)."""


class InFront:
    """Starts nginx with TLS in front of ports."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        self._directory, self._authority = directory, authority
        self.started: list[Nginx] = []

    def __call__(self, port: int, demand: str = "optional") -> str:
        """The URL at which a port is reached with TLS."""
        written = BEHIND_TLS.format(authority=self._authority, demand=demand)
        proxy = Nginx(self._directory / f"front-{port}", port, written=written)
        proxy.start()
        self.started.append(proxy)
        return f"https://{proxy.host}"


@pytest.fixture
def in_front(scratch: Path, authority: Authority, processes: None) -> Iterator[InFront]:
    in_front = InFront(scratch, authority)
    yield in_front
    for proxy in in_front.started:
        proxy.stop()


def identified(url: str, authority: Authority, **more: Any) -> dict[str, Any]:
    """Settings of an upstream that is shown a client certificate."""
    upstream = {
        "url": url,
        "private_addresses": True,
        "ca_file": str(authority.ca_file),
        "client_cert": str(authority.cert_file),
        "client_key": str(authority.key_file),
        "groups": ["hub"],
    }
    return {"upstreams": {"docker.io": upstream | more}, "cache": {"prefetch": False}}


def test_an_image_is_pulled_from_a_registry_that_demands_a_certificate(
    registry: Registry,
    published: Publish,
    gateway: GatewayFactory,
    in_front: InFront,
    authority: Authority,
    skopeo: Skopeo,
    scratch: Path,
) -> None:
    layout = published("tiny")
    url = in_front(registry.port, "on")
    server = gateway(identified(url, authority))
    assert skopeo.pull(server.proxied("tiny:latest"), scratch / "pulled").missing(layout) == []
    checks = {check["name"]: check for check in server.json("doctor")}
    assert checks["upstream docker.io: client certificate"]["ok"] is True
    stranger = gateway(identified(url, authority, client_cert="", client_key=""), name="stranger")
    assert raw.get(stranger.proxied_url("library/tiny/manifests/latest")).status >= 404


def test_certificate_and_fixed_headers_go_to_the_upstream_alone(
    liar: Liar, elsewhere: Liar, gateway: GatewayFactory, in_front: InFront, authority: Authority, scratch: Path
) -> None:
    (scratch / "key").write_text(f"{CANARY}\n")
    own, other = in_front(liar.port), in_front(elsewhere.port)
    server = gateway(identified(own, authority, headers={"X-Api-Key": f"file:{scratch / 'key'}"}))
    digest = elsewhere.offer_blob(seeded("identified", 40_000))
    liar.behave(digest, lies.redirected(f"{other}/v2/any/blobs/{digest}"))
    assert raw.get(server.proxied_url(f"any/name/blobs/{digest}")).digest == digest
    liar.behave("/manifests/", lies.foreign_realm(f"{other}/token"))
    raw.get(server.proxied_url("any/name/manifests/latest"))
    assert shown_to(liar) == {("SUCCESS", CANARY)}
    assert elsewhere.requests.count(path_contains="/token") == 1
    assert shown_to(elsewhere) == {("NONE", None)}


def test_a_redirect_s_target_cannot_have_a_token_made_with_what_the_upstream_is_shown(
    liar: Liar, elsewhere: Liar, gateway: GatewayFactory, in_front: InFront, authority: Authority
) -> None:
    own, other = in_front(liar.port), in_front(elsewhere.port)
    server = gateway(identified(own, authority, headers={"X-Api-Key": CANARY}))
    liar.behave("/manifests/", lies.redirected(f"{other}/v2/any/name/manifests/latest"))
    elsewhere.behave("/manifests/", lies.foreign_realm(f"{own}/token", "repository:any/private:pull"))
    raw.get(server.proxied_url("any/name/manifests/latest"))
    asked = [record for record in liar.requests.select() if record.path.startswith("/token")]
    assert {(record.header("x-shown"), record.header("x-api-key")) for record in asked} == {("NONE", None)}


def test_a_group_that_does_not_use_the_account_shows_nothing(
    liar: Liar, images: Images, gateway: GatewayFactory, in_front: InFront, authority: Authority
) -> None:
    liar.offer(images.tiny)
    config = identified(in_front(liar.port), authority, groups=[], headers={"X-Api-Key": CANARY})
    server = gateway(config)
    assert raw.get(server.proxied_url("any/name/manifests/latest")).status == 200
    assert shown_to(liar) == {("NONE", None)}
    assert CANARY not in server.cli("config", "show").stdout


def shown_to(liar: Liar) -> set[tuple[str | None, str | None]]:
    """What requests showed beside a password: whether a certificate, and which fixed header."""
    return {(record.header("x-shown"), record.header("x-api-key")) for record in liar.requests.select()}


def test_a_password_comes_from_a_command(
    liar: Liar, images: Images, gateway: GatewayFactory, skopeo: Skopeo, scratch: Path
) -> None:
    """As at private ECR: Basic, and a password that ends
    (https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry_auth.html)."""
    layout = liar.offer(images.tiny)
    command = ["sh", "-c", f"echo {CANARY} >&2; test -e {scratch}/logged-out || echo {CANARY}"]
    login = {"username": "AWS", "password_command": command, "groups": ["hub"]}
    server = gateway({"upstreams": {"docker.io": liar.settings(**login)}, "cache": {"prefetch": False, "ttl": "0s"}})
    liar.behave("/v2/", lies.answered(401, b"", WWW_Authenticate='Basic realm="https://r.example/"').only(1))
    assert skopeo.pull(server.proxied("tiny:latest"), scratch / "pulled").missing(layout) == []
    basic = "Basic " + base64.b64encode(f"AWS:{CANARY}".encode()).decode()
    assert [record.header("authorization") for record in liar.requests.select()][:2] == [None, basic]
    checks = {check["name"]: check for check in server.json("doctor")}
    assert checks["upstream docker.io: password command"]["ok"] is True
    (scratch / "logged-out").touch()
    completed = server.cli("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(completed.stdout)}
    assert checks["upstream docker.io: password command"]["ok"] is False
    assert "printed no password" in checks["upstream docker.io: password command"]["detail"]
    assert CANARY not in completed.stdout + completed.stderr


def test_a_command_is_run_once_for_all_workers_of_a_server(liar: Liar, gateway: GatewayFactory, scratch: Path) -> None:
    digest, runs = liar.offer_blob(seeded("command", 1000)), scratch / "runs"
    login = {
        "username": "AWS",
        "password_command": ["sh", "-c", f"echo run >> {runs}; echo {CANARY}"],
        "groups": ["hub"],
    }
    server = gateway({"upstreams": {"docker.io": liar.settings(**login)}, "workers": 1})

    def pull(image: str) -> None:
        challenge = lies.answered(401, b"", WWW_Authenticate='Basic realm="https://r.example/"')
        liar.behave(f"/{image}/", challenge.only(1))
        assert raw.get(server.proxied_url(f"acme/{image}/blobs/{digest}")).status == 200

    pull("one")
    before = server.worker
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: server.workers != [] and before not in server.workers, what="no new worker")
    pull("two")
    assert runs.read_text() == "run\n"
    assert found_below(server.data) == {}
    server.restart()
    pull("three")
    assert runs.read_text() == "run\n" * 2
