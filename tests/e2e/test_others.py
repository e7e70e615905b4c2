"""Tests of what one image's clients can learn of others: nothing, whatever the upstream's state."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.conftest import GatewayFactory
from tests.parts import lies, raw
from tests.parts.gateway import Gateway
from tests.parts.images import MANIFEST, digest_of, seeded
from tests.parts.liar import Liar
from tests.parts.lies import Lie
from tests.parts.processes import wait_until
from tests.parts.raw import RawResponse

from .datafolder import await_rest

SIZE = 40_000
"""Bytes of a blob: more than the 32 KiB of which nothing is sent before the digest is verified."""

REQUESTS = [(method, kind) for method in ("GET", "HEAD") for kind in ("blobs", "manifests")]
DIFFERS = {"date", "x-request-id", "docker-content-digest", "etag"}
"""Headers that differ between two responses for any two digests, or at any two times."""


def offered(liar: Liar, kind: str, name: str) -> str:
    """Offer a blob, or a manifest of the same length whatever its name; return its digest."""
    if kind == "blobs":
        return liar.offer_blob(seeded(name, SIZE))
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(b"{}"), "size": 2}
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []}
    annotations = {"test.name": f"{name:>12}"}
    return liar.offer_manifest(
        name.replace(" ", "-"), MANIFEST, json.dumps(document | {"annotations": annotations}).encode()
    )


def fine(liar: Liar, server: Gateway) -> None:
    pass


def refused(liar: Liar, server: Gateway) -> None:
    liar.behave("/mine/", lies.refused(404))


def denied(liar: Liar, server: Gateway) -> None:
    liar.behave("/mine/", lies.refused(403, "DENIED"))


def failing(liar: Liar, server: Gateway) -> None:
    liar.behave("/mine/", lies.refused(503))


def paused(liar: Liar, server: Gateway) -> None:
    liar.behave("/limited/", lies.refused(429, "TOOMANYREQUESTS", 3_600))
    assert raw.get(server.proxied_url("limited/image/manifests/latest")).status == 503


def pulls_used_up(liar: Liar, server: Gateway) -> None:
    limit = {"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "0;w=21600", "Retry-After": "3600"}
    liar.behave("/limited/", Lie(status=429, body=b"", headers=limit))
    assert raw.get(server.proxied_url("limited/image/manifests/latest")).status == 503


def circuit_open(liar: Liar, server: Gateway) -> None:
    liar.stop()
    for number in range(4):
        assert raw.get(server.proxied_url(f"down/number{number}/manifests/latest")).status == 503


@dataclass(frozen=True)
class Pair:
    """Two requests that are alike, each for an image of its own: for what another image holds, and for what nobody
    holds."""

    server: Gateway
    method: str
    kind: str
    digests: tuple[str, str]

    def paths(self) -> list[str]:
        return [
            f"mine/{self.method.lower()}-{self.kind}-{name}/{self.kind}/{digest}"
            for name, digest in zip(("held", "unheld"), self.digests, strict=True)
        ]

    def seen(self, method: str) -> list[tuple[object, ...]]:
        """What the clients of the two images see."""
        return [
            told(raw.request(method, self.server.proxied_url(path)), digest)
            for path, digest in zip(self.paths(), self.digests, strict=True)
        ]

    def rest(self) -> None:
        for path, digest in zip(self.paths(), self.digests, strict=True):
            if self.kind == "blobs":
                await_rest(self.server, path.partition("/blobs/")[0], digest)


@pytest.mark.parametrize(
    "weather",
    [fine, refused, denied, failing, paused, pulls_used_up, circuit_open],
    ids=lambda each: each.__name__,
)
def test_what_another_image_holds_is_as_what_nobody_holds(
    weather: Callable[[Liar, Gateway], None], liar: Liar, gateway: GatewayFactory
) -> None:
    server = gateway({"upstreams": {"docker.io": liar.settings()}, "cache": {"prefetch": False}})
    pairs = []
    for method, kind in REQUESTS:
        held, unheld = (offered(liar, kind, f"{method} {name}") for name in ("held", "unheld"))
        assert raw.get(server.proxied_url(f"others/image/{kind}/{held}")).headers["x-cache"] == "MISS"
        if kind == "blobs":
            await_rest(server, "others/image", held)
        pairs.append(Pair(server, method, kind, (held, unheld)))
    weather(liar, server)

    def alike(pair: Pair) -> bool:
        held, unheld = pair.seen(pair.method)
        if weather in (failing, circuit_open) and held != unheld:
            return False  # the circuit opened between the two, or one of them was a probe
        assert held == unheld
        return True

    for pair in pairs:
        wait_until(lambda pair=pair: alike(pair))
        if weather is fine:  # whatever was won, what comes next is alike, too
            held, unheld = pair.seen("GET") if pair.method == "HEAD" else ((), ())
            assert held == unheld
            pair.rest()
            held, unheld = pair.seen("GET")
            assert held == unheld
            assert "x-cache: HIT" in held


def told(response: RawResponse, digest: str) -> tuple[object, ...]:
    """What a response tells beyond its digest, the moment, and the numbers in a sentence."""
    headers = sorted(
        f"{name.lower()}: {value}" for name, value in response.headers.lines if name.lower() not in DIFFERS
    )
    if response.status < 400:
        return response.status, response.complete, response.digest in (digest, digest_of(b"")), *headers
    words = re.sub(r"sha256:[0-9a-f]+|mine/[a-z/-]+|[0-9]+", "#", response.body.decode())
    return response.status, words, response.seconds > 2, *(re.sub("[0-9]+", "#", header) for header in headers)
