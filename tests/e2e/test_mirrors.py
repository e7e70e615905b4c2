"""Tests of mirrors: they replace a failing upstream, and grant no more than the upstream itself would."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import GatewayFactory
from tests.parts import lies, raw
from tests.parts.canaries import CANARY
from tests.parts.clients import Skopeo
from tests.parts.gateway import Gateway
from tests.parts.images import MANIFEST, Images, seeded
from tests.parts.liar import Liar

from .datafolder import await_rest
from .test_broken_upstreams import document


@pytest.fixture
def mirror() -> Iterator[Liar]:
    with Liar() as mirror:
        yield mirror


def mirrored(liar: Liar, *mirrors: Liar, **more: Any) -> dict[str, Any]:
    """Return settings with mirrors. Nothing is fetched ahead, since tests count the requests that a mirror gets."""
    settings = liar.settings(mirrors=[mirror.url for mirror in mirrors], **more)
    return {"upstreams": {"docker.io": settings}, "cache": {"ttl": "0s", "prefetch": False}}


@pytest.mark.parametrize("fault", ["down", "limited", "wrong"])
def test_an_image_is_pulled_although_the_upstream_cannot_give_it(
    fault: str, liar: Liar, mirror: Liar, gateway: GatewayFactory, images: Images, skopeo: Skopeo, scratch: Path
) -> None:
    layout = liar.offer(images.tiny)
    mirror.offer(images.tiny)
    server = gateway(mirrored(liar, mirror))
    if fault == "down":
        liar.stop()
    elif fault == "limited":
        liar.behave("/v2/", lies.refused(429, "TOOMANYREQUESTS", 3600))
    else:
        liar.behave("/blobs/", lies.html())
        liar.behave("/manifests/", lies.flipped(5))
    assert skopeo.pull(server.proxied("any/name:latest"), scratch / "pulled").missing(layout) == []


def test_a_blob_that_breaks_off_goes_on_from_the_mirror_and_its_client_notices_nothing(
    liar: Liar, mirror: Liar, gateway: GatewayFactory
) -> None:
    content = seeded("broken", 300_000)
    digest = liar.offer_blob(content)
    mirror.offer_blob(content)
    server = gateway(mirrored(liar, mirror))
    liar.behave("/blobs/", lies.reset(200_000))
    url = server.proxied_url(f"any/name/blobs/{digest}")
    answer = raw.get(url)
    assert (answer.complete, answer.body) == (True, content)
    assert mirror.requests.count(path_contains=digest) == 1


def test_a_head_of_a_mirror_gives_no_right_to_what_is_here(liar: Liar, mirror: Liar, gateway: GatewayFactory) -> None:
    """The upstream does not have the blob in that image; the mirror only claims to have it."""
    digest = liar.offer_blob(seeded("held", 200_000))
    server = gateway(mirrored(liar, mirror))
    assert raw.get(server.proxied_url(f"any/name/blobs/{digest}")).complete
    await_rest(server, "any/name", digest)
    liar.behave("/v2/other/", lies.refused(404))
    mirror.offer_blob(seeded("held", 200_000))
    mirror.behave("/blobs/", lies.flipped(5), method="GET")
    answer = raw.get(server.proxied_url(f"other/name/blobs/{digest}"))
    assert not (answer.status == 200 and answer.complete)
    assert mirror.requests.count(path_contains=digest) >= 1


def test_a_tag_that_is_cached_is_not_moved_by_a_mirror(liar: Liar, mirror: Liar, gateway: GatewayFactory) -> None:
    new, old = document("new"), document("old")
    liar.offer_manifest("latest", MANIFEST, new)
    mirror.offer_manifest("latest", MANIFEST, old)
    server = gateway(mirrored(liar, mirror))
    url = server.proxied_url("any/name/manifests/latest")
    assert raw.get(url).body == new
    liar.stop()
    answer = raw.get(url)
    assert (answer.body, answer.headers["x-cache"]) == (new, "STALE")
    assert mirror.connections == 0


def test_pulls_with_a_credential_never_ask_a_mirror(
    liar: Liar, canary: Liar, gateway: GatewayFactory, scratch: Path
) -> None:
    (scratch / "password").write_text(CANARY)
    login = {"username": "ada", "password_file": str(scratch / "password"), "groups": ["hub"]}
    server: Gateway = gateway(mirrored(liar, canary, **login))
    digest = liar.offer_blob(seeded("secret", 1_000))
    liar.stop()
    for path in ("manifests/latest", f"manifests/{digest}", f"blobs/{digest}", "tags/list"):
        assert raw.get(server.proxied_url(f"any/name/{path}")).status == 503
