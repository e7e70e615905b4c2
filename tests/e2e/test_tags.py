"""Tests of tags: how long they are fresh, and what happens when the upstream's response changes."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import GatewayFactory, Publish
from tests.parts import lies, raw
from tests.parts.canaries import CANARY
from tests.parts.clients import Skopeo
from tests.parts.gateway import Gateway
from tests.parts.hub import Hub
from tests.parts.images import ImageLayout
from tests.parts.liar import Liar
from tests.parts.lies import Lie
from tests.parts.raw import RawResponse
from tests.parts.registry import Registry

from .conftest import LongLived
from .datafolder import error_of

TYPES = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "*/*",
]


@pytest.fixture(scope="module")
def server(long_lived: LongLived, plain_hub_servers: Hub) -> Gateway:
    """Starts a server whose tags are fresh for a moment only, without prefetching."""
    cache = {"ttl": "0s", "negative_ttl": "0s", "prefetch": False}
    return long_lived({"upstreams": {"docker.io": plain_hub_servers.settings()}, "cache": cache})


def latest(server: Gateway, image: str) -> RawResponse:
    return raw.get(server.proxied_url(f"{image}/manifests/latest"))


def seen(answer: RawResponse) -> tuple[int, str | None, str]:
    """Status, X-Cache and digest of the body."""
    return answer.status, answer.headers.get("x-cache"), answer.digest


def test_a_tag_that_did_not_move_costs_a_head(hub: Hub, published: Publish, server: Gateway) -> None:
    layout = published("tiny", repository="tags/unmoved")
    assert seen(latest(server, "tags/unmoved")) == (200, "MISS", layout.digest)
    hub.log.clear()
    for _ in range(3):
        assert seen(latest(server, "tags/unmoved")) == (200, "REVALIDATED", layout.digest)
    short = raw.head(server.proxied_url("tags/unmoved/manifests/latest"))
    assert short.headers["x-cache"] == "REVALIDATED"
    assert hub.count("hub", "GET") == 0
    assert hub.count("hub", "HEAD", "/manifests/latest") == 4


def test_within_the_ttl_the_upstream_is_not_asked(hub: Hub, published: Publish, gateway: GatewayFactory) -> None:
    layout = published("tiny")
    server = gateway({"upstreams": {"docker.io": hub.settings()}, "cache": {"prefetch": False}})
    latest(server, "library/tiny")
    hub.log.clear()
    assert seen(latest(server, "library/tiny")) == (200, "HIT", layout.digest)
    assert raw.get(server.proxied_url(f"library/tiny/manifests/{layout.digest}")).headers["x-cache"] == "HIT"
    assert hub.log.select() == []


def test_a_tag_that_moved_is_fetched_anew(
    hub: Hub, published: Publish, server: Gateway, skopeo: Skopeo, scratch: Path
) -> None:
    old = published("tiny", repository="tags/moved")
    latest(server, "tags/moved")
    new = published("other", repository="tags/moved")
    assert seen(latest(server, "tags/moved")) == (200, "MISS", new.digest)
    assert seen(latest(server, "tags/moved")) == (200, "REVALIDATED", new.digest)
    assert raw.get(server.proxied_url(f"tags/moved/manifests/{old.digest}")).digest == old.digest
    assert skopeo.pull(server.proxied("tags/moved:latest"), scratch / "new").missing(new) == []


def test_a_tag_that_is_gone_is_unknown_and_its_digest_is_not(
    hub: Hub, published: Publish, server: Gateway, registry: Registry
) -> None:
    layout = published("tiny", repository="tags/gone")
    latest(server, "tags/gone")
    registry.delete("tags/gone", layout.digest)
    for _ in range(2):
        answer = latest(server, "tags/gone")
        assert (answer.status, error_of(answer)["code"]) == (404, "MANIFEST_UNKNOWN")
        assert raw.head(server.proxied_url("tags/gone/manifests/latest")).status == 404
    by_digest = raw.get(server.proxied_url(f"tags/gone/manifests/{layout.digest}"))
    assert seen(by_digest) == (200, "HIT", layout.digest)
    hub.refuse()
    assert latest(server, "tags/gone").status == 503


def test_what_never_was_is_unknown(hub: Hub, published: Publish, server: Gateway) -> None:
    layout = published("tiny")
    unknown = {
        "tags/never/manifests/latest": "MANIFEST_UNKNOWN",
        "library/tiny/manifests/never": "MANIFEST_UNKNOWN",
        f"library/tiny/manifests/sha256:{'0' * 64}": "MANIFEST_UNKNOWN",
        f"library/tiny/blobs/sha256:{'0' * 64}": "BLOB_UNKNOWN",
        f"tags/never/blobs/{layout.layers[0]}": "BLOB_UNKNOWN",
        "tags/never/tags/list": "NAME_UNKNOWN",
    }
    for path, code in unknown.items():
        answer = raw.get(server.proxied_url(path))
        assert (answer.status, error_of(answer)["code"]) == (404, code)


FAILURES: dict[str, tuple[Lie, int, str | None]] = {
    "429 for 40 s": (lies.refused(429, "TOOMANYREQUESTS", 40), 503, "40"),
    "429 for a day": (lies.refused(429, "TOOMANYREQUESTS", 100_000), 503, "60"),
    "429": (lies.refused(429), 503, "30"),
    "500": (lies.refused(500), 503, "5"),
    "502": (lies.refused(502), 503, "5"),
    "503": (lies.refused(503, retry_after=7), 503, "7"),
    "html": (lies.html(), 502, None),
}


@pytest.mark.parametrize(("failure", "status", "retry_after"), FAILURES.values(), ids=FAILURES)
def test_an_upstream_that_fails_makes_a_tag_stale(
    failure: Lie, status: int, retry_after: str | None, liar: Liar, published: Publish, gateway: GatewayFactory
) -> None:
    layout = liar.offer(published("tiny"))
    server = gateway({"upstreams": {"docker.io": liar.settings()}, "cache": {"ttl": "0s"}})
    assert latest(server, "any/name").status == 200
    liar.behave("/manifests/", failure)
    answer = latest(server, "any/name")
    assert seen(answer) == (200, "STALE", layout.digest)
    assert answer.headers["warning"].startswith("299 - ")
    other = latest(server, "any/other")
    assert other.status == status
    if retry_after is None:
        assert "retry-after" not in other.headers
    else:
        assert int(retry_after) - 5 <= int(other.headers["retry-after"]) <= int(retry_after)


def test_a_rate_limit_does_not_matter_while_the_tag_stands(
    hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    server = gateway({"upstreams": {"docker.io": hub.settings()}, "cache": {"ttl": "0s"}})
    old = published("tiny", repository="tags/limited")
    latest(server, "tags/limited")
    hub.exhausted, hub.retry_after = True, 3
    assert seen(latest(server, "tags/limited")) == (200, "REVALIDATED", old.digest)
    published("other", repository="tags/limited")
    asked = hub.count("hub")
    assert seen(latest(server, "tags/limited")) == (200, "STALE", old.digest)
    answer = latest(server, "tags/unlimited")
    assert (answer.status, answer.headers["retry-after"]) == (503, "60")
    assert hub.count("hub") == asked


@pytest.mark.parametrize("outage", ["hub.down", "tokens.down", "token refused"])
def test_an_outage_of_either_service_makes_a_tag_stale(
    outage: str, hub: Hub, published: Publish, server: Gateway
) -> None:
    layout = published("tiny", repository="tags/outage")
    latest(server, "tags/outage")
    hub.tokens.revoke_all()
    if outage == "hub.down":
        hub.down = True
    elif outage == "tokens.down":
        hub.tokens.down = True
    else:
        hub.refuse("token")
    assert seen(latest(server, "tags/outage")) == (200, "STALE", layout.digest)
    assert latest(server, "tags/nothing").status == 503
    hub.reset()
    assert seen(latest(server, "tags/outage")) == (200, "REVALIDATED", layout.digest)


def login(hub: Hub, scratch: Path, password: str, **more: Any) -> dict[str, Any]:
    file = scratch / "password"
    file.write_text(password + "\n")
    settings = hub.settings(username="ada", password_file=str(file), **more)
    return {"upstreams": {"docker.io": settings}, "cache": {"ttl": "0s"}}


def test_a_private_image_is_not_there_for_strangers(hub: Hub, published: Publish, server: Gateway) -> None:
    layout = published("tiny", repository="tags/private")
    hub.private.add("tags/private")
    for path, code in {
        "manifests/latest": "MANIFEST_UNKNOWN",
        f"manifests/{layout.digest}": "MANIFEST_UNKNOWN",
        f"blobs/{layout.layers[0]}": "BLOB_UNKNOWN",
    }.items():
        answer = raw.get(server.proxied_url(f"tags/private/{path}"))
        never = raw.get(server.proxied_url(f"tags/never/{path}"))
        assert (answer.status, error_of(answer)["code"]) == (404, code)
        assert (answer.status, answer.body) == (never.status, never.body)


def test_a_private_image_is_there_for_the_groups_that_the_credential_is_lent_to(
    hub: Hub, published: Publish, gateway: GatewayFactory, skopeo: Skopeo, scratch: Path
) -> None:
    layout = published("tiny", repository="tags/lent")
    hub.private.add("tags/lent")
    hub.tokens.users["ada"] = CANARY
    server = gateway(login(hub, scratch, CANARY, groups=["hub"]))
    assert skopeo.pull(server.proxied("tags/lent:latest"), scratch / "pulled").missing(layout) == []
    server.cli("group", "create", "strangers", "--visibility", "public", "--anonymous-pull")
    other = raw.get(server.proxied_url("tags/lent/manifests/latest", group="strangers"))
    assert (other.status, error_of(other)["code"]) == (404, "MANIFEST_UNKNOWN")
    blob = raw.get(server.proxied_url(f"tags/lent/blobs/{layout.layers[0]}", group="strangers"))
    assert (blob.status, error_of(blob)["code"]) == (404, "BLOB_UNKNOWN")


def test_an_open_group_that_is_not_named_is_a_stranger(
    hub: Hub, published: Publish, gateway: GatewayFactory, scratch: Path
) -> None:
    published("tiny", repository="tags/unnamed")
    hub.private.add("tags/unnamed")
    hub.tokens.users["ada"] = CANARY
    server = gateway(login(hub, scratch, CANARY))
    assert latest(server, "tags/unnamed").status == 404


def test_a_wrong_credential_is_an_outage_and_a_changed_file_ends_it(
    hub: Hub, published: Publish, gateway: GatewayFactory, scratch: Path
) -> None:
    layout = published("tiny", repository="tags/wrong")
    hub.tokens.users["ada"] = CANARY
    server = gateway(login(hub, scratch, "wrong", groups=["hub"]))
    answer = latest(server, "tags/wrong")
    assert (answer.status, error_of(answer)["code"]) == (503, "UNAVAILABLE")
    assert CANARY.encode() not in answer.body
    assert b"wrong\\n" not in answer.body
    (scratch / "password").write_text(CANARY)
    assert seen(latest(server, "tags/wrong")) == (200, "MISS", layout.digest)
    hub.tokens.users["ada"] = "changed"
    hub.tokens.revoke_all()
    assert seen(latest(server, "tags/wrong")) == (200, "STALE", layout.digest)


def test_a_credential_that_loses_an_image_loses_what_is_cached_of_it(
    hub: Hub, published: Publish, gateway: GatewayFactory, registry: Registry, scratch: Path
) -> None:
    layout = published("tiny", repository="tags/revoked")
    hub.private.add("tags/revoked")
    hub.tokens.users["ada"] = CANARY
    server = gateway(login(hub, scratch, CANARY, groups=["hub"]))
    latest(server, "tags/revoked")
    by_digest = server.proxied_url(f"tags/revoked/manifests/{layout.digest}")
    assert raw.get(by_digest).status == 200
    folder = registry.folder.repository("tags/revoked")
    folder.rename(folder.with_name("hidden"))
    try:
        hub.tokens.revoke_all()
        assert latest(server, "tags/revoked").status == 404
        assert raw.get(by_digest).status == 404
    finally:
        folder.with_name("hidden").rename(folder)


@pytest.mark.parametrize("image", ["tiny", "multi"])
def test_what_a_client_accepts_changes_nothing(image: str, hub: Hub, published: Publish, server: Gateway) -> None:
    layout: ImageLayout = published(image)
    shuffled = random.Random(7)
    for _ in range(4):
        # A client that accepts schema 1 alone is refused.
        types = [shuffled.choice(TYPES[:4]), *shuffled.sample(TYPES, k=shuffled.randint(1, len(TYPES)))]
        lines = [("Accept", accepted) for accepted in types] + [("Accept-Encoding", "gzip")]
        answer = raw.get(server.proxied_url(f"library/{image}/manifests/latest"), lines)
        assert (answer.status, answer.body) == (200, layout.manifest_bytes)
        assert answer.headers["content-type"] == layout.media_type
        assert "content-encoding" not in answer.headers
    blob = raw.get(
        server.proxied_url(f"library/{image}/blobs/{layout.layers[0]}"), [("Accept-Encoding", "gzip, deflate, br")]
    )
    assert (blob.digest, "content-encoding" in blob.headers) == (layout.layers[0], False)
    assert {record.header("accept-encoding") for record in hub.log.select()} == {"identity"}


@pytest.fixture(autouse=True)
def upstream_is_back(hub: Hub) -> Iterator[None]:
    yield
    hub.reset()
