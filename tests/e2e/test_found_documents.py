"""Tests of documents that depart from the specification: what a client pulls straight, it pulls through the server."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import GatewayFactory
from tests.parts import lies, raw
from tests.parts.clients import Skopeo
from tests.parts.found_documents import FOUND, SCHEMA_1, found, schema_1, with_foreign_layer
from tests.parts.gateway import Gateway
from tests.parts.images import MANIFEST, Images, digest_of
from tests.parts.liar import Liar
from tests.parts.lies import Lie

from .conftest import LongLived
from .datafolder import error_of


@pytest.fixture(scope="module")
def upstream() -> Iterator[Liar]:
    with Liar() as liar:
        yield liar


@pytest.fixture(scope="module")
def server(long_lived: LongLived, upstream: Liar) -> Gateway:
    return long_lived({"upstreams": {"docker.io": upstream.settings()}, "cache": {"ttl": "0s"}})


@pytest.fixture(autouse=True)
def honest_again(upstream: Liar) -> Iterator[None]:
    yield
    upstream.honest()


@pytest.mark.parametrize("name", FOUND)
def test_what_is_pulled_straight_is_pulled_byte_for_byte(
    name: str, upstream: Liar, server: Gateway, images: Images, skopeo: Skopeo, scratch: Path
) -> None:
    tag = re.sub("[^a-z]+", "-", name)
    image = upstream.offer(images.tiny)
    media_type, document = found(name, image)
    digest = upstream.offer_manifest(tag, media_type, document)
    for outcome in ("MISS", "REVALIDATED"):
        answer = raw.get(server.proxied_url(f"found/{tag}/manifests/{tag}"))
        assert (answer.status, answer.body, answer.headers["content-type"]) == (200, document, media_type)
        assert answer.headers["x-cache"] == outcome
    assert raw.get(server.proxied_url(f"found/{tag}/manifests/{digest}")).body == document
    explained = server.json("cache", "explain", f"found/{tag}:{tag}")
    assert explained["parts"][0]["here"] is True

    if "thousands" in name:  # of whose layers none exist
        assert skopeo.inspect_raw(server.proxied(f"found/{tag}:{tag}")) == document
        return
    straight, through = scratch / "straight", scratch / "through"
    straight.mkdir()
    platform = ("linux", "amd64")
    source = f"docker://{upstream.netloc}/found/{tag}:{tag}"
    pulled = skopeo.copy(source, f"dir:{straight}", every_platform=False, platform=platform, check=False)
    if pulled.returncode == 0:
        skopeo.pull(server.proxied(f"found/{tag}:{tag}"), through, every_platform=False, platform=platform)
        files = [{file.name: file.read_bytes() for file in way.iterdir()} for way in (straight, through)]
        assert files[0] == files[1]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": f"{MANIFEST}\r\nContent-Type: {MANIFEST}"},
        {"Content-Type": f'"{MANIFEST}"'},
        {"Content-Type": MANIFEST.upper()},
        {"Docker-Content-Digest": "DIGEST\r\nDocker-Content-Digest: DIGEST"},
        {"Docker-Content-Digest": '"DIGEST"'},
        {"Docker-Content-Digest": "SHA256:0000"},
        {"Docker-Content-Digest": "nonsense"},
    ],
    ids=repr,
)
def test_headers_that_were_sent_twice_or_quoted_say_what_they_say(
    headers: dict[str, str], upstream: Liar, server: Gateway, images: Images
) -> None:
    """No public registry is known to send them; https://www.rfc-editor.org/rfc/rfc9110#section-8.3 tells of proxies
    that do."""
    image = upstream.offer(images.tiny)
    name = f"case/{digest_of(repr(headers).encode())[-20:]}"
    sent = {key: value.replace("DIGEST", image.digest) for key, value in headers.items()}
    upstream.behave(f"{name}/manifests/", Lie(headers=sent))
    for method in ("HEAD", "GET"):
        answer = raw.request(method, server.proxied_url(f"{name}/manifests/latest"))
        assert (answer.status, answer.headers["docker-content-digest"]) == (200, image.digest)
        assert answer.headers["content-type"] == MANIFEST


@pytest.mark.parametrize("media_type", [SCHEMA_1, "application/json"])
def test_schema_1_is_refused_by_name_and_is_no_fault_of_the_host(
    media_type: str, upstream: Liar, server: Gateway
) -> None:
    name = f"old/{media_type.partition('/')[2].replace('+', '.')}"
    upstream.offer_manifest("schema-1", media_type, schema_1(name))
    for _ in range(4):  # three wrong documents open an image's circuit
        for method in ("HEAD", "GET"):
            answer = raw.request(method, server.proxied_url(f"{name}/manifests/schema-1"))
            assert answer.status == 404
    detail = error_of(answer)["message"]
    assert "schema 1" in detail and "push it" in detail
    metrics = raw.get(f"{server.url}/-/metrics").body.decode()
    assert not re.search(r"^gateway_upstream_faults_total{.* [1-9]", metrics, re.MULTILINE)
    assert "circuit_opened" not in server.log_text()


@pytest.mark.parametrize("running", [True, False])
def test_a_layer_that_its_registry_does_not_serve_fails_no_warming(
    running: bool, liar: Liar, gateway: GatewayFactory, images: Images
) -> None:
    image = liar.offer(images.tiny)
    liar.offer_manifest("foreign", MANIFEST, with_foreign_layer(image))
    server = gateway({"upstreams": {"docker.io": liar.settings()}})
    if not running:
        server.stop()
    file = server.directory / "images.list"
    file.write_text("acme/windows:foreign\n")
    done = server.cli("cache", "warm", str(file), "--json")
    assert (done.returncode, json.loads(done.stdout)["failed"]) == (0, [])
    assert liar.requests.count(path_contains=digest_of(b"foreign")) == 0


def test_json_that_comes_compressed_is_undone(upstream: Liar, server: Gateway, images: Images) -> None:
    """Red Hat's registry compresses documents although none is accepted: https://github.com/quay/quay/issues/1310."""
    image = upstream.offer(images.tiny)
    upstream.behave("packed/image/", lies.encoded())
    answer = raw.get(server.proxied_url("packed/image/manifests/latest"))
    assert (answer.status, answer.body) == (200, image.manifest_bytes)
    assert "content-encoding" not in answer.headers
    assert "latest" in json.loads(raw.get(server.proxied_url("packed/image/tags/list")).body)["tags"]
    wanted = [record.header("accept-encoding") for record in upstream.requests.select(path_contains="packed/image/")]
    assert set(wanted) == {"identity"}
