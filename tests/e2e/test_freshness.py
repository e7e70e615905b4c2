"""Tests of freshness as users see it: rules for tags, outages without delays, and rights that no outage grants."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import GatewayFactory, Publish
from tests.parts import raw
from tests.parts.canaries import CANARY
from tests.parts.gateway import Gateway
from tests.parts.hub import Hub
from tests.parts.liar import Liar
from tests.parts.lies import stalled
from tests.parts.processes import wait_until
from tests.parts.raw import RawResponse
from tests.parts.registry import Registry

from .datafolder import await_rest, error_of

FIRST_STALE = 3.0
LATER_STALE = 1.5
"""Seconds that check a promise (2 s, and 250 ms) on a machine that does other work."""


def manifest(server: Gateway, image: str, reference: str = "latest", group: str = "hub") -> RawResponse:
    return raw.get(server.proxied_url(f"{image}/manifests/{reference}", group))


def test_a_rule_for_release_tags_asks_less_often_than_for_others(
    hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    for tag in ("latest", "v1.2.3"):
        published("tiny", repository="fresh/rules", tag=tag)
    rules = [{"tags": "v[0-9]*", "ttl": "1d", "images": "fresh/*", "upstream": "docker.io"}]
    cache = {"ttl": "0s", "rules": rules, "prefetch": False}
    server = gateway({"upstreams": {"docker.io": hub.settings()}, "cache": cache})
    for tag in ("latest", "v1.2.3"):
        assert manifest(server, "fresh/rules", tag).headers["x-cache"] == "MISS"
    hub.log.clear()
    assert manifest(server, "fresh/rules", "v1.2.3").headers["x-cache"] == "HIT"
    head = raw.head(server.proxied_url("fresh/rules/manifests/v1.2.3"))
    assert (head.headers["x-cache"], hub.log.select()) == ("HIT", [])
    assert manifest(server, "fresh/rules").headers["x-cache"] == "REVALIDATED"
    assert "24h" in server.json("cache", "explain", "fresh/rules:v1.2.3")["reason"]
    assert server.json("cache", "explain", "fresh/rules")["state"] == "stale"


def test_what_does_not_exist_costs_one_question(hub: Hub, published: Publish, gateway: GatewayFactory) -> None:
    published("tiny", repository="fresh/absent")
    server = gateway({"upstreams": {"docker.io": hub.settings()}, "cache": {"negative_ttl": "1d"}})
    for reference in ("nothing", f"sha256:{'1' * 64}"):
        answers = [manifest(server, "fresh/absent", reference) for _ in range(5)]
        answers.append(raw.head(server.proxied_url(f"fresh/absent/manifests/{reference}")))
        assert {answer.status for answer in answers} == {404}
        assert len({answer.body for answer in answers[:5]}) == 1
        assert hub.count("hub", path_contains=f"/manifests/{reference}", status=404) == 1
    assert manifest(server, "fresh/absent").status == 200
    published("other", repository="fresh/absent", tag="nothing")
    assert manifest(server, "fresh/absent", "nothing").status == 404
    refreshed = server.json("cache", "refresh", "fresh/absent:nothing")
    assert manifest(server, "fresh/absent", "nothing").digest == refreshed["digest"]


@pytest.mark.parametrize("ways", ["refused", "silent"])
def test_in_an_outage_all_that_is_cached_is_served_and_nobody_waits_long(
    ways: str, liar: Liar, published: Publish, gateway: GatewayFactory
) -> None:
    """The upstream closes its port, or accepts requests and never responds."""
    layout = liar.offer(published("multi"))
    tags = [f"v{number}" for number in range(6)]
    for tag in tags:
        liar.offer(layout, tag=tag)
    server = gateway({"upstreams": {"docker.io": liar.settings()}, "cache": {"ttl": "0s"}})
    for tag in tags:
        assert manifest(server, "library/multi", tag).status == 200
    for digest in layout.blobs:
        kind = "manifests" if digest in layout.manifests else "blobs"
        assert raw.get(server.proxied_url(f"library/multi/{kind}/{digest}")).complete
    await_rest(server, "library/multi", *(digest for digest in layout.blobs if digest not in layout.manifests))
    lies = [liar.behave(f"/manifests/{tag}", stalled(-1)) for tag in tags] if ways == "silent" else []
    if ways == "refused":
        liar.stop()
    first, *others = [manifest(server, "library/multi", tag) for tag in tags]
    for answer in (first, *others):
        assert (answer.status, answer.headers["x-cache"], answer.digest) == (200, "STALE", layout.digest)
        assert f"last confirmed by {liar.netloc} " in answer.headers["warning"]
        assert "failing since 20" in answer.headers["warning"]
    assert first.seconds < FIRST_STALE
    assert max(answer.seconds for answer in others) < LATER_STALE
    for digest in layout.blobs:
        kind = "manifests" if digest in layout.manifests else "blobs"
        answer = raw.get(server.proxied_url(f"library/multi/{kind}/{digest}"))
        assert (answer.status, answer.headers["x-cache"], answer.digest) == (200, "HIT", digest)
        assert answer.seconds < LATER_STALE
    for lie in lies:
        assert lie.hold is not None
        lie.hold.release()


def test_a_group_that_wants_nothing_stale_is_refused_in_an_outage(
    hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    layout = published("tiny", repository="fresh/only")
    server = gateway({"upstreams": {"docker.io": hub.settings()}, "cache": {"ttl": "0s"}})
    shown = server.json("group", "create", "strict", "--visibility=public", "--anonymous-pull", "--fresh-only")
    assert shown["proxy"]["fresh_only"] is True
    for group in ("hub", "strict"):
        assert manifest(server, "fresh/only", group=group).status == 200
    hub.refuse()
    assert manifest(server, "fresh/only").headers["x-cache"] == "STALE"
    refused = manifest(server, "fresh/only", group="strict")
    assert (refused.status, error_of(refused)["code"]) == (503, "UNAVAILABLE")
    assert "fresh-only" in error_of(refused)["message"]
    assert int(refused.headers["retry-after"]) >= 1
    assert raw.head(server.proxied_url("fresh/only/manifests/latest", "strict")).status == 503
    assert manifest(server, "fresh/only", layout.digest, "strict").headers["x-cache"] == "HIT"
    explained = server.json("cache", "explain", "fresh/only", "--group=strict")
    assert (explained["state"], "fresh-only" in explained["reason"]) == ("expired", True)
    assert server.json("cache", "explain", "fresh/only")["state"] == "stale"
    assert server.json("group", "update", "strict", "--no-fresh-only")["proxy"]["fresh_only"] is False
    assert manifest(server, "fresh/only", group="strict").headers["x-cache"] == "STALE"


def test_an_outage_gives_nothing_back_that_a_refusal_took(
    hub: Hub, published: Publish, gateway: GatewayFactory, registry: Registry, scratch: Path
) -> None:
    """A refusal holds by tag and by digest, for a credential that lost the right and for one that never had it."""
    layout = published("tiny", repository="fresh/revoked")
    hub.private.add("fresh/revoked")
    hub.tokens.users["ada"] = CANARY
    (scratch / "password").write_text(CANARY)
    settings = hub.settings(username="ada", password_file=str(scratch / "password"), groups=["hub"])
    server = gateway({"upstreams": {"docker.io": settings}, "cache": {"ttl": "0s", "negative_ttl": "0s"}})
    server.json("group", "create", "strangers", "--visibility=public", "--anonymous-pull")
    references = ("latest", layout.digest)
    for reference in references:
        assert manifest(server, "fresh/revoked", reference).status == 200
    layer = server.proxied_url(f"fresh/revoked/blobs/{layout.layers[0]}")
    assert raw.get(layer).status == 200
    await_rest(server, "fresh/revoked", layout.layers[0])
    hub.refuse()
    assert manifest(server, "fresh/revoked").headers["x-cache"] == "STALE"
    for reference in references:
        assert manifest(server, "fresh/revoked", reference, "strangers").status == 503
    hub.accept()
    folder = registry.folder.repository("fresh/revoked")
    folder.rename(folder.with_name("hidden"))
    try:
        hub.tokens.revoke_all()
        wait_until(lambda: manifest(server, "fresh/revoked").status == 404, what="the upstream is not asked again")
        hub.refuse()
        for reference in references:
            assert manifest(server, "fresh/revoked", reference).status == 503
            assert raw.head(server.proxied_url(f"fresh/revoked/manifests/{reference}")).status == 503
        assert raw.get(layer).status == 503
    finally:
        folder.with_name("hidden").rename(folder)


@pytest.fixture(autouse=True)
def upstream_is_back(hub: Hub) -> Iterator[None]:
    yield
    hub.reset()
