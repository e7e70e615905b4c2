"""Tests of a group's gate with real clients: refusals, older digests, and no way around them."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import Publish
from tests.parts import raw
from tests.parts.clients import Skopeo
from tests.parts.gateway import Gateway
from tests.parts.hub import Hub
from tests.parts.images import ImageLayout

from .conftest import LongLived
from .datafolder import await_rest, error_of

DAYS = 86_400


@pytest.fixture(scope="module")
def server(long_lived: LongLived, plain_hub_servers: Hub) -> Gateway:
    cache = {"ttl": "0s", "negative_ttl": "0s"}
    return long_lived({"upstreams": {"docker.io": plain_hub_servers.settings()}, "cache": cache})


@pytest.fixture(autouse=True)
def upstream_is_back(hub: Hub) -> Iterator[None]:
    yield
    hub.reset()


def make_group(server: Gateway, name: str, *words: str) -> None:
    server.json("group", "create", name, "--visibility=public", "--anonymous-pull", *words)


def seen_earlier(server: Gateway, image: str, digest: str, days: int) -> None:
    """Changes the records as if this server had seen the digest under its tags `days` days ago."""
    with closing(sqlite3.connect(server.data / "cache.db", timeout=10)) as database, database:
        done = database.execute(
            "UPDATE sightings SET first_seen = first_seen - ? WHERE digest = ? "
            "AND image_id IN (SELECT id FROM images WHERE name = ?)",
            (days * DAYS, digest, image),
        )
        assert done.rowcount
        database.execute("UPDATE history SET began_at = min(began_at, (SELECT min(first_seen) FROM sightings))")


def pull_all(server: Gateway, layout: ImageLayout, image: str, group: str = "hub") -> None:
    assert raw.get(server.proxied_url(f"{image}/manifests/latest", group)).digest == layout.digest
    for digest in layout.blobs:
        kind = "manifests" if digest in layout.manifests else "blobs"
        assert raw.get(server.proxied_url(f"{image}/{kind}/{digest}", group)).digest == digest
    await_rest(server, image, *(digest for digest in layout.blobs if digest not in layout.manifests))


def test_a_group_waits_for_a_tag_that_moved_and_pulls_what_it_meant_before(
    server: Gateway, published: Publish, skopeo: Skopeo, scratch: Path
) -> None:
    image = "gate/moved"
    make_group(server, "careful", "--cooldown=3d")
    make_group(server, "strict", "--cooldown=3d", "--cooldown-action=refuse")
    old = published("tiny", repository=image)
    pull_all(server, old, image)
    seen_earlier(server, image, old.digest, 4)
    new = published("other", repository=image)
    pull_all(server, new, image)

    assert skopeo.pull(server.proxied(f"{image}:latest", "careful"), scratch / "careful").missing(old) == []
    assert raw.head(server.proxied_url(f"{image}/manifests/latest", "careful")).headers["docker-content-digest"] == (
        old.digest
    )
    for ask in (raw.get, raw.head):
        served = ask(server.proxied_url(f"{image}/manifests/latest", "careful"))
        assert f"{old.digest} is served, which it pointed to before" in served.headers["warning"]
        assert served.headers["warning"].startswith('299 - "latest has pointed to')
        assert "age" not in served.headers
        assert "warning" not in ask(server.proxied_url(f"{image}/manifests/latest")).headers
    only_new = sorted(set(new.blobs) - set(old.blobs))
    for group in ("careful", "strict"):
        for digest in only_new:
            kind = "manifests" if digest in new.manifests else "blobs"
            for ask in (raw.get, raw.head):
                assert ask(server.proxied_url(f"{image}/{kind}/{digest}", group)).status == 403
    refused = raw.get(server.proxied_url(f"{image}/manifests/latest", "strict"))
    assert (refused.status, error_of(refused)["code"]) == (403, "DENIED")
    assert "waits 3 days" in error_of(refused)["message"]

    explained = server.json("cache", "explain", image, "--group=careful")
    assert (explained["gate"], old.digest in explained["gate_reason"]) == ("older", True)
    assert server.json("cache", "explain", image, "--group=strict")["gate"] == "refused"
    assert server.json("cache", "explain", f"{image}@{only_new[0]}", "--group=strict")["gate"] == "refused"
    assert server.json("cache", "explain", image)["gate"] == "open"

    seen_earlier(server, image, new.digest, 4)
    for group in ("careful", "strict"):
        pull_all(server, new, image, group)
    assert server.json("cache", "explain", image, "--group=strict")["gate"] == "allowed"


def test_no_layer_byte_precedes_a_refusal(server: Gateway, published: Publish, hub: Hub) -> None:
    layout = published("tiny", repository="gate/first")
    make_group(server, "waiting", "--cooldown=3d")
    hub.log.clear()
    assert raw.get(server.proxied_url("gate/first/manifests/latest", "waiting")).status == 403
    assert hub.count("cdn") == 0
    for digest in layout.blobs:
        kind = "manifests" if digest in layout.manifests else "blobs"
        assert raw.get(server.proxied_url(f"gate/first/{kind}/{digest}", "waiting")).status == 403
    assert hub.count("cdn") == 0


def test_a_name_that_is_denied_is_denied_in_every_spelling_and_in_all_its_parts(
    server: Gateway, published: Publish
) -> None:
    layout = published("tiny")
    make_group(server, "picky", "--deny=library/tin?", "--deny=docker.io/secret/*")
    make_group(server, "narrow", "--allow=gate/*")
    pull_all(server, layout, "library/tiny")
    for group in ("picky", "narrow"):
        for name in ("tiny", "library/tiny", "docker.io/tiny", "index.docker.io/library/tiny"):
            for path in ("manifests/latest", f"manifests/{layout.digest}", f"blobs/{layout.layers[0]}", "tags/list"):
                answer = raw.get(server.proxied_url(f"{name}/{path}", group))
                assert (answer.status, error_of(answer)["code"]) == (403, "DENIED")
        for path in ("manifests/latest", f"blobs/{layout.layers[0]}"):
            answer = raw.request("DELETE", server.proxied_url(f"tiny/{path}", group))
            assert (answer.status, error_of(answer)["code"]) == (405, "UNSUPPORTED")
        assert server.json("cache", "explain", "tiny", f"--group={group}")["gate"] == "refused"
        assert server.cli("cache", "refresh", "tiny", f"--group={group}").returncode == 1
    assert raw.get(server.proxied_url("tiny/manifests/latest")).status == 200
    server.json("group", "update", "picky", "--deny=")
    assert raw.get(server.proxied_url("tiny/manifests/latest", "picky")).status == 200


def test_a_pinned_tag_means_its_digest_until_the_pin_is_taken_away(
    server: Gateway, published: Publish, skopeo: Skopeo, scratch: Path
) -> None:
    image = "gate/pinned"
    old = published("tiny", repository=image)
    make_group(server, "pinned", f"--pin={image}:latest={old.digest}")
    new = published("other", repository=image)
    assert skopeo.pull(server.proxied(f"{image}:latest", "pinned"), scratch / "old").missing(old) == []
    head = raw.head(server.proxied_url(f"docker.io/{image}/manifests/latest", "pinned"))
    assert head.headers["docker-content-digest"] == old.digest
    assert raw.get(server.proxied_url(f"{image}/manifests/latest")).digest == new.digest
    assert server.json("cache", "explain", image, "--group=pinned")["gate"] == "pinned"
    server.json("group", "update", "pinned", f"--pin=docker.io/{image}:latest=sha256:{'1' * 64}")
    refused = raw.get(server.proxied_url(f"{image}/manifests/latest", "pinned"))
    assert (refused.status, error_of(refused)["code"]) == (403, "DENIED")
    assert "pins latest" in error_of(refused)["message"]
    shown = server.json("group", "update", "pinned", f"--unpin={image}:latest")
    assert shown["gate"] is None
    assert raw.get(server.proxied_url(f"{image}/manifests/latest", "pinned")).digest == new.digest


def test_the_date_of_the_publisher_counts_where_the_group_trusts_it(server: Gateway, published: Publish) -> None:
    """The test images carry a date of 2020."""
    layout = published("multi", repository="gate/dated")
    make_group(server, "trusting", "--cooldown=3d", "--trust-created")
    make_group(server, "doubting", "--cooldown=3d")
    pull_all(server, layout, "gate/dated", "trusting")
    assert raw.get(server.proxied_url("gate/dated/manifests/latest", "doubting")).status == 403
    for digest in layout.layers:
        assert raw.get(server.proxied_url(f"gate/dated/blobs/{digest}", "doubting")).status == 403
    for image in ("gate/dated", f"gate/dated@{layout.digest}", f"gate/dated@{layout.layers[0]}"):
        assert server.json("cache", "explain", image, "--group=trusting")["gate"] == "allowed"
        assert server.json("cache", "explain", image, "--group=doubting")["gate"] == "refused"
