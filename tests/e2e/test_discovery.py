"""Tests of lists: the tags of a proxied image, and the referrers of a manifest."""

import json

import pytest

from tests.conftest import GatewayFactory, Publish
from tests.parts import lies, raw
from tests.parts.gateway import Gateway
from tests.parts.hub import Hub
from tests.parts.images import INDEX, SIGNATURE
from tests.parts.liar import Liar

from .conftest import LongLived
from .datafolder import error_of

TAGS = [f"v{number}" for number in range(5)]
EXTERNAL = "http://127.0.0.1:7/registry"


@pytest.fixture(scope="module")
def server(long_lived: LongLived, plain_hub_servers: Hub) -> Gateway:
    return long_lived({"upstreams": {"docker.io": plain_hub_servers.settings()}, "external_url": EXTERNAL})


def test_tags_come_in_pages_whose_links_bear_the_external_url(hub: Hub, published: Publish, server: Gateway) -> None:
    for tag in TAGS:
        published("tiny", repository="lists/paged", tag=tag)
    name = "hub/dependency_proxy/containers/lists/paged"
    path, pages = f"/v2/{name}/tags/list?n=2", []
    while True:
        answer = raw.get(f"{server.url}{path}", {"Host": "evil.localhost", "X-Forwarded-Host": "evil.example"})
        assert (answer.status, json.loads(answer.body)["name"]) == (200, name)
        pages.append(json.loads(answer.body)["tags"])
        assert "evil" not in str(answer.headers)
        if "link" not in answer.headers:
            break
        link, _, relation = answer.headers["link"].partition(">; ")
        assert relation == 'rel="next"'
        assert link.startswith(f"<{EXTERNAL}/v2/{name}/tags/list?")
        path = link.removeprefix(f"<{EXTERNAL}")
    assert pages == [["v0", "v1"], ["v2", "v3"], ["v4"]]
    whole = raw.get(f"{server.url}/v2/{name}/tags/list")
    assert json.loads(whole.body)["tags"] == TAGS
    assert "x-cache" not in whole.headers
    after = raw.get(f"{server.url}/v2/{name}/tags/list?last=v2")
    assert json.loads(after.body)["tags"] == ["v3", "v4"]
    for wrong in ("-1", "x", "1.5", ""):
        assert raw.get(f"{server.url}/v2/{name}/tags/list?n={wrong}").status == 400


@pytest.mark.parametrize("with_api", [True, False])
def test_referrers_by_their_address_or_by_the_tag_that_stands_in_for_it(
    with_api: bool, hub: Hub, published: Publish, server: Gateway
) -> None:
    subject = published("tiny", repository="lists/signed")
    signature = published("referrer", repository="lists/signed")
    hub.referrers = with_api
    address = server.proxied_url(f"lists/signed/referrers/{subject.digest}")

    everything = raw.get(address)
    assert (everything.status, everything.headers["content-type"]) == (200, INDEX)
    listed = json.loads(everything.body)
    assert (listed["schemaVersion"], listed["mediaType"]) == (2, INDEX)
    assert [(entry["digest"], entry["artifactType"]) for entry in listed["manifests"]] == [
        (signature.digest, SIGNATURE)
    ]
    assert "oci-filters-applied" not in everything.headers
    assert "x-cache" not in everything.headers

    wanted = raw.get(f"{address}?artifactType={SIGNATURE.replace('+', '%2B')}")
    assert wanted.headers["oci-filters-applied"] == "artifactType"
    assert [entry["digest"] for entry in json.loads(wanted.body)["manifests"]] == [signature.digest]

    other = raw.get(f"{address}?artifactType=application/other")
    assert (other.status, other.headers["oci-filters-applied"]) == (200, "artifactType")
    assert json.loads(other.body)["manifests"] == []

    found = raw.get(server.proxied_url(f"lists/signed/manifests/{signature.digest}"))
    assert found.body == signature.manifest_bytes


def test_nothing_refers_to_most_manifests(hub: Hub, published: Publish, server: Gateway) -> None:
    layout = published("tiny")
    answer = raw.get(server.proxied_url(f"library/tiny/referrers/{layout.digest}"))
    assert (answer.status, json.loads(answer.body)["manifests"]) == (200, [])


def test_a_list_that_is_none_is_not_passed_on(liar: Liar, published: Publish, gateway: GatewayFactory) -> None:
    layout = liar.offer(published("tiny"))
    server = gateway({"upstreams": {"docker.io": liar.settings()}})
    for body in (b"not json", b"[]", b'{"tags": "x", "manifests": "x"}', b'{"tags": 1, "manifests": 1}'):
        liar.behave("/v2/", lies.answered(200, body, Content_Type="application/json"))
        for path in ("tags/list", f"referrers/{layout.digest}"):
            answer = raw.get(server.proxied_url(f"any/name/{path}"))
            assert (answer.status, error_of(answer)["code"]) == (502, "UNKNOWN")
    liar.behave("/v2/", lies.html())
    assert raw.get(server.proxied_url("any/name/tags/list")).status == 502


def test_the_ping_says_what_this_is(server: Gateway) -> None:
    answer = raw.get(f"{server.url}/v2/")
    challenge = f'Bearer realm="{EXTERNAL}/jwt/auth",service="registry-gateway"'
    assert (answer.status, answer.headers["www-authenticate"]) == (401, challenge)
    assert answer.headers["docker-distribution-api-version"] == "registry/2.0"
    assert "server" not in answer.headers
