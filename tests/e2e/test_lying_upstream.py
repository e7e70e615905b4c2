"""Tests of lying upstreams: no client ever gets a complete wrong response, and nothing wrong is kept."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.conftest import GatewayFactory
from tests.parts import lies, raw
from tests.parts.canaries import CANARY
from tests.parts.certs import Authority
from tests.parts.clients import ClientFailed, Skopeo
from tests.parts.gateway import Gateway
from tests.parts.images import INDEX, MANIFEST, Images, digest_of, seeded
from tests.parts.liar import Liar
from tests.parts.lies import Lie
from tests.parts.processes import wait_until
from tests.parts.raw import RawResponse

from .conftest import LongLived
from .crowd import at_once
from .datafolder import await_log, await_rest, error_of, holds, spools

SMALL, LARGE = 9_000, 300_000
NOWHERE = "http://127.0.0.1:9/token"
REFUSED_BY_BREAKER = re.compile(r"since \d\d:\d\d:\d\d UTC")


@dataclass(frozen=True)
class Liars:
    """The same lies over http and https, behind one server, with the upstream names plain.example and tls.example."""

    plain: Liar
    tls: Liar
    server: Gateway

    def __getitem__(self, transport: str) -> Liar:
        return {"plain": self.plain, "tls": self.tls}[transport]

    def url(self, transport: str, path: str) -> str:
        return self.server.proxied_url(f"{transport}.example/{path}")

    def honest(self) -> None:
        self.plain.honest()
        self.tls.honest()


class Case:
    """A blob that one of the liars offers in an image of its own."""

    def __init__(self, behind: Liars, transport: str, name: str, size: int) -> None:
        self.transport, self.size, self.image = transport, size, f"{transport}.example/{name}"
        self.digest = behind[transport].offer_blob(seeded(f"{self.image} {size}", size))
        self.url = behind.url(transport, f"{name}/blobs/{self.digest}")


@pytest.fixture(scope="module")
def behind(long_lived: LongLived, authority: Authority) -> Iterator[Liars]:
    with Liar() as plain, Liar(authority) as tls:
        upstreams = {"plain.example": plain.settings(), "tls.example": tls.settings()}
        yield Liars(plain, tls, long_lived({"upstreams": upstreams}))


@pytest.fixture
def server(behind: Liars) -> Gateway:
    return behind.server


@pytest.fixture(autouse=True)
def honest_again(behind: Liars, server: Gateway) -> Iterator[None]:
    yield
    behind.honest()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Name of an image that no other test uses."""
    return "case/" + digest_of(request.node.nodeid.encode())[-20:]


WRONG_BODIES: dict[str, Callable[[int], Lie]] = {
    "first byte flipped": lambda size: lies.flipped(0),
    "middle byte flipped": lambda size: lies.flipped(size // 2),
    "last byte flipped": lambda size: lies.flipped(-1),
    "nothing sent": lambda size: lies.short(0),
    "half sent": lambda size: lies.short(size // 2),
    "last byte missing": lambda size: lies.short(size - 1),
    "a byte too few, and said so": lambda size: Lie(body=seeded("shorter", size - 1)),
    "a byte too many, and said so": lambda size: lies.long(),
    "reset in the middle": lambda size: lies.reset(size // 2),
    "reset at the end": lambda size: lies.reset(size - 1),
    "empty": lambda size: Lie(body=b""),
    "html": lambda size: lies.html(),
    "html as bytes": lambda size: Lie(body=lies.html().body),
    "gzip": lambda size: lies.encoded(),
    "chunked, unfinished": lambda size: lies.unfinished(size // 2),
    "chunked, all but the end": lambda size: lies.unfinished(),
    "chunked, flipped": lambda size: Lie(framing=lies.Framing.CHUNKED, flip=-1),
    "chunked, too long": lambda size: Lie(framing=lies.Framing.CHUNKED, extra=b"!"),
    "until close, cut": lambda size: lies.until_close(size - 1),
    "until close, flipped": lambda size: Lie(framing=lies.Framing.CLOSE, flip=size // 2),
    "until close, too long": lambda size: Lie(framing=lies.Framing.CLOSE, extra=b"!"),
}
HEALED = {"half sent", "last byte missing", "reset in the middle", "reset at the end"} | {
    "chunked, unfinished",
    "chunked, all but the end",
}
"""Lies after which a retry succeeds: the liar interrupts each response at the same offset, but the rest is shorter."""

WRONG_ANSWERS: dict[str, Callable[[int], Lie]] = {
    "redirect loop": lambda size: lies.redirected("?again"),
    "redirect to nothing": lambda size: lies.redirected("http://[broken"),
    "redirect to a file": lambda size: lies.redirected("file:///etc/passwd"),
    "redirect without a place": lambda size: Lie(status=307, body=b""),
    "foreign realm": lambda size: lies.foreign_realm(NOWHERE),
    "500": lambda size: lies.refused(500),
    "503": lambda size: lies.refused(503, retry_after=7),
    "429": lambda size: lies.refused(429, "TOOMANYREQUESTS", 1),
    "304": lambda size: Lie(status=304, body=b""),
    "204": lambda size: Lie(status=204, body=b""),
    "206": lambda size: Lie(status=206, body=b"part"),
    "no such status": lambda size: Lie(status=799, body=b""),
}
WHOLE_UPSTREAM = {"429"}
"""Responses that concern all images of an upstream, so that two of them at once would not be told apart."""

RIGHT_BODIES: dict[str, Lie] = {
    "chunked": lies.chunked(),
    "until close": lies.until_close(),
    "more after the end": lies.surplus(),
    "little by little": lies.trickled(3_001, 0.001),
}

TRANSPORTS = ("plain", "tls")
every_transport = pytest.mark.parametrize("transport", TRANSPORTS)
every_crowd = pytest.mark.parametrize("clients", [1, 8])


def gets(url: str, clients: int) -> list[RawResponse]:
    return at_once(clients, lambda _: raw.get(url))


def get_after_crowd(url: str, clients: int) -> RawResponse:
    """The response to one more client after `clients` that were lied to.

    Clients of a crowd that come too late to share a failure cause one each, and a few in a row open the circuit breaker
    of the image. Its refusal says since when the upstream fails; the request is then repeated until it is let through.
    """
    responses: list[RawResponse] = []

    def let_through() -> bool:
        responses.append(raw.get(url))
        last = responses[-1]
        return clients == 1 or last.status != 503 or not REFUSED_BY_BREAKER.search(error_of(last)["message"])

    wait_until(let_through, what=f"the circuit breaker stays open for {url}")
    return responses[-1]


def assert_no_answer(answer: RawResponse, size: int) -> None:
    """Asserts an error response, or a body that no client can take for complete."""
    if answer.status == 200:
        assert not answer.complete
        assert size > 32 * 1024 or "content-length" not in answer.headers, "a small blob waits for its verdict"
    else:
        assert answer.status in (502, 503)
        assert error_of(answer)["message"]
        assert ("retry-after" in answer.headers) == (answer.status == 503)
        assert "x-cache" not in answer.headers


def assert_nothing_is_kept(server: Gateway, digest: str) -> None:
    assert not holds(server, digest)
    wait_until(lambda: not any(digest.partition(":")[2] in spool for spool in spools(server)))


@every_crowd
@pytest.mark.parametrize("kind", [*WRONG_BODIES, *WRONG_ANSWERS])
def test_a_blob_is_right_or_does_not_complete(kind: str, clients: int, behind: Liars, name: str) -> None:
    """A small and a large one over each transport at once: most of the time is a wait for retries."""
    cases = [[Case(behind, each, f"{name}-{size}", size) for each in TRANSPORTS] for size in (SMALL, LARGE)]
    for together in cases if kind in WHOLE_UPSTREAM else [[*cases[0], *cases[1]]]:
        assert_right_or_incomplete(kind, clients, behind, together)


def assert_right_or_incomplete(kind: str, clients: int, behind: Liars, cases: list[Case]) -> None:
    for case in cases:
        behind[case.transport].behave(case.digest, (WRONG_BODIES | WRONG_ANSWERS)[kind](case.size), "GET")

    def is_healed(number: int) -> bool:
        case = cases[number]
        answers = gets(case.url, clients)
        healed = kind in HEALED and all(answer.complete and answer.status == 200 for answer in answers)
        for answer in answers:
            assert answer.digest == case.digest if healed else assert_no_answer(answer, case.size) is None
        if not healed:
            assert_nothing_is_kept(behind.server, case.digest)
        return healed

    healed = at_once(len(cases), is_healed)
    behind.honest()

    def is_right_later(number: int) -> None:
        case = cases[number]
        later = get_after_crowd(case.url, clients)
        assert (later.status, later.complete, later.digest) == (200, True, case.digest)
        assert later.headers["x-cache"] in (("HIT", "COALESCED", "REVALIDATED") if healed[number] else ("MISS",))
        await_rest(behind.server, case.image, case.digest)

    at_once(len(cases), is_right_later)


@every_transport
@every_crowd
@pytest.mark.parametrize("kind", RIGHT_BODIES)
def test_a_blob_may_come_in_any_framing(kind: str, clients: int, transport: str, behind: Liars, name: str) -> None:
    liar = behind[transport]
    for size in (SMALL, LARGE):
        content = seeded(f"{name} {size}", size)
        digest = liar.offer_blob(content)
        liar.behave(digest, RIGHT_BODIES[kind], "GET")
        url = behind.url(transport, f"{name}/blobs/{digest}")
        for answer in gets(url, clients):
            assert (answer.status, answer.complete, answer.body) == (200, True, content)
        await_rest(behind.server, f"{transport}.example/{name}", digest)
        again = raw.get(url)
        assert (again.headers["content-length"], again.digest) == (str(size), digest)


@every_transport
@pytest.mark.parametrize("lie", [lies.digest_header(), lies.media_type("text/plain")], ids=["digest", "type"])
def test_what_an_upstream_says_about_the_right_bytes_is_not_passed_on(
    lie: Lie, transport: str, behind: Liars, name: str
) -> None:
    digest = behind[transport].offer_blob(seeded(name, LARGE))
    behind[transport].behave(digest, lie)
    answer = raw.get(behind.url(transport, f"{name}/blobs/{digest}"))
    assert (answer.complete, answer.digest) == (True, digest)
    assert answer.headers["docker-content-digest"] == digest
    assert answer.headers["content-type"] == "application/octet-stream"


def document(name: str) -> bytes:
    """A manifest that no other test uses."""
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(b"{}"), "size": 2}
    padding = {"test.padding": "x" * 600, "test.name": name}
    image = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [], "annotations": padding}
    return json.dumps(image).encode()


class DocumentCase:
    """A manifest that one of the liars offers in an image of its own, and that is requested `by` its tag or digest."""

    def __init__(self, behind: Liars, transport: str, name: str, by: str) -> None:
        self.transport, self.name = transport, name
        self.content = document(f"{transport} {name}")
        tag = name.rpartition("/")[2]
        digest = behind[transport].offer_manifest(tag, MANIFEST, self.content)
        self.url = behind.url(transport, f"{name}/manifests/{tag if by == 'tag' else digest}")


@every_crowd
@pytest.mark.parametrize("kind", [*WRONG_BODIES, *WRONG_ANSWERS, "other type", "no type", "other kind", "too large"])
def test_a_manifest_is_right_or_is_not_given(kind: str, clients: int, behind: Liars, name: str) -> None:
    """By tag and by digest over each transport at once: most of the time is a wait for retries."""
    cases = [[DocumentCase(behind, each, f"{name}-{by}", by) for each in TRANSPORTS] for by in ("tag", "digest")]
    for together in cases if kind in WHOLE_UPSTREAM else [[*cases[0], *cases[1]]]:
        assert_right_or_not_given(kind, clients, behind, together)


def assert_right_or_not_given(kind: str, clients: int, behind: Liars, cases: list[DocumentCase]) -> None:
    about_the_head = {
        "other type": lies.media_type("application/json"),
        "no type": Lie(headers={"Content-Type": None}),
        "other kind": lies.media_type(INDEX),
        "too large": lies.long(b" " * 5_000_000),
        "gzip": replace(lies.encoded(), flip=-1),  # of the honest bytes it is undone
    }
    for case in cases:
        lie = about_the_head.get(kind) or (WRONG_BODIES | WRONG_ANSWERS)[kind](len(case.content))
        behind[case.transport].behave(f"/{case.name}/", lie, "GET")

    def is_not_given(number: int) -> None:
        for answer in gets(cases[number].url, clients):
            assert_no_answer(answer, 0)

    at_once(len(cases), is_not_given)
    behind.honest()

    def is_right_later(number: int) -> None:
        later = get_after_crowd(cases[number].url, clients)
        assert (later.status, later.complete, later.body) == (200, True, cases[number].content)
        assert later.headers["x-cache"] == "MISS"

    at_once(len(cases), is_right_later)


@every_transport
@pytest.mark.parametrize("kind", RIGHT_BODIES)
def test_a_manifest_may_come_in_any_framing(kind: str, transport: str, behind: Liars, name: str) -> None:
    liar, content = behind[transport], document(name)
    digest = liar.offer_manifest("framed", MANIFEST, content)
    liar.behave(f"/{name}/", RIGHT_BODIES[kind], "GET")
    for reference in ("framed", digest):
        answer = raw.get(behind.url(transport, f"{name}/manifests/{reference}"))
        assert (answer.status, answer.body) == (200, content)


@every_transport
def test_a_manifest_under_another_digest_is_not_taken_for_a_tag(transport: str, behind: Liars, name: str) -> None:
    digest = behind[transport].offer_manifest("named", MANIFEST, document(name))
    behind[transport].behave(f"/{name}/manifests/named", lies.digest_header(), "GET")
    answer = raw.get(behind.url(transport, f"{name}/manifests/named"))
    assert (answer.status, error_of(answer)["code"]) == (502, "UNKNOWN")
    assert raw.get(behind.url(transport, f"{name}/manifests/{digest}")).status == 200


def test_a_head_that_lies_about_a_tag_misleads_nobody_for_long(behind: Liars, name: str) -> None:
    content = document(name)
    behind.plain.offer_manifest("head", MANIFEST, content)
    behind.plain.behave(f"/{name}/manifests/head", lies.digest_header(), "HEAD")
    claimed = raw.head(behind.url("plain", f"{name}/manifests/head")).headers["docker-content-digest"]
    assert raw.get(behind.url("plain", f"{name}/manifests/{claimed}")).status == 404
    assert raw.get(behind.url("plain", f"{name}/manifests/head")).body == content
    later = raw.head(behind.url("plain", f"{name}/manifests/head"))
    assert later.headers["docker-content-digest"] == digest_of(content)


def test_a_tag_that_moves_to_wrong_bytes_stays_where_it_was(liar: Liar, gateway: GatewayFactory) -> None:
    old, new = document("old"), document("new")
    liar.offer_manifest("latest", MANIFEST, old)
    server = gateway({"upstreams": {"docker.io": liar.settings()}, "cache": {"ttl": "0s"}})
    url = server.proxied_url("any/name/manifests/latest")
    assert raw.get(url).body == old
    moved = liar.offer_manifest("latest", MANIFEST, new)
    liar.behave(moved, lies.flipped(100), "GET")
    answer = raw.get(url)
    assert (answer.body, answer.headers["x-cache"]) == (old, "STALE")
    liar.honest()
    answer = raw.get(url)
    assert (answer.body, answer.headers["x-cache"]) == (new, "MISS")


def test_a_real_client_fails_on_wrong_bytes_and_succeeds_on_right_ones(
    behind: Liars, images: Images, skopeo: Skopeo, scratch: Path
) -> None:
    layout = behind.tls.offer(images.tiny)
    behind.tls.behave(layout.layers[1], lies.flipped(-1).only(20), "GET")
    reference = behind.server.proxied("tls.example/real/client:latest")
    with pytest.raises(ClientFailed):
        skopeo.pull(reference, scratch / "wrong")
    assert_nothing_is_kept(behind.server, layout.layers[1])
    behind.tls.honest()
    assert skopeo.pull(reference, scratch / "right").missing(layout) == []


@every_transport
def test_what_is_sent_after_an_answer_does_not_spoil_the_next_one(transport: str, behind: Liars, name: str) -> None:
    liar, content = behind[transport], document(name)
    liar.offer_manifest("first", MANIFEST, content)
    other = liar.offer_manifest("other", MANIFEST, document(f"{name} other"))
    liar.behave(f"/{name}/manifests/first", lies.surplus(), "GET")
    assert raw.get(behind.url(transport, f"{name}/manifests/first")).body == content
    answer = raw.get(behind.url(transport, f"{name}/manifests/other"))
    assert (answer.status, answer.digest) == (200, other)


def test_a_challenge_that_led_nowhere_is_not_remembered(liar: Liar, gateway: GatewayFactory) -> None:
    server = gateway({"upstreams": {"docker.io": liar.settings()}})
    digest = liar.offer_blob(seeded("challenged", SMALL))
    url = server.proxied_url(f"any/name/blobs/{digest}")
    liar.behave(digest, lies.foreign_realm(NOWHERE).only(1), "GET")
    assert raw.get(url).status == 503
    assert raw.get(url).digest == digest


def test_a_foreign_token_service_hears_nothing(
    liar: Liar, canary: Liar, gateway: GatewayFactory, scratch: Path
) -> None:
    (scratch / "password").write_text(CANARY)
    login = {"username": "ada", "password_file": str(scratch / "password"), "groups": ["hub"]}
    server = gateway({"upstreams": {"docker.io": liar.settings(**login)}})
    digest = liar.offer_blob(seeded("foreign", SMALL))
    liar.behave("/v2/", lies.foreign_realm(f"{canary.url}/token"))
    for path in (f"any/name/blobs/{digest}", "any/name/manifests/latest"):
        answer = raw.get(server.proxied_url(path))
        assert answer.status == 503
        assert "token_hosts" in error_of(answer)["message"]
    assert all(record.header("authorization") is None for record in liar.requests.select())


def test_a_credential_does_not_follow_a_redirect(
    liar: Liar, tls_liar: Liar, gateway: GatewayFactory, authority: Authority, scratch: Path
) -> None:
    (scratch / "password").write_text(CANARY)
    login = {"username": "ada", "password_file": str(scratch / "password"), "groups": ["hub"]}
    ca = {"ca_file": str(authority.ca_file)}
    server = gateway({"upstreams": {"docker.io": liar.settings(**login, **ca)}})
    digest = tls_liar.offer_blob(seeded("redirected", SMALL))
    liar.behave(digest, lies.redirected(f"{tls_liar.url}/v2/cdn/blobs/{digest}"))
    liar.behave(digest, lies.answered(401, b"", WWW_Authenticate='Basic realm="here"').only(1))
    assert raw.get(server.proxied_url(f"any/name/blobs/{digest}")).digest == digest
    assert [record.header("authorization") is None for record in liar.requests.select()] == [True, False]
    [followed] = tls_liar.requests.select("liar", "GET")
    assert followed.header("authorization") is None


def test_a_redirect_back_to_the_gateway_is_not_served_again(behind: Liars, name: str) -> None:
    first, second = (behind.plain.offer_blob(seeded(f"{name} {number}", SMALL)) for number in (1, 2))
    behind.plain.behave(first, lies.redirected(behind.url("plain", f"{name}/blobs/{second}")))
    before = len(behind.plain.requests.select("liar", "GET", second))
    answer = raw.get(behind.url("plain", f"{name}/blobs/{first}"))
    assert answer.status == 503
    assert "508" in error_of(answer)["message"]
    assert len(behind.plain.requests.select("liar", "GET", second)) == before == 0


def test_a_circle_through_another_gateway_ends_where_it_began(
    behind: Liars, name: str, gateway: GatewayFactory
) -> None:
    """Our upstream redirects to another gateway, whose upstream we are."""
    first, second = (behind.plain.offer_blob(seeded(f"{name} {number}", SMALL)) for number in (1, 2))
    ours = f"{behind.server.url}/hub/dependency_proxy/containers/plain.example"
    other = gateway({"upstreams": {"docker.io": {"url": ours, "private_addresses": True}}})
    behind.plain.behave(first, lies.redirected(other.proxied_url(f"{name}/blobs/{second}")))
    answer = raw.get(behind.url("plain", f"{name}/blobs/{first}"))
    assert answer.status == 503
    assert behind.plain.requests.select("liar", "GET", second) == []
    await_log(behind.server, "through 1 other gateway")
    await_log(other, "responded with 508: requests to it come back")


def test_a_gateway_may_stand_behind_another_one(behind: Liars, name: str, gateway: GatewayFactory) -> None:
    front = gateway(
        {
            "upstreams": {
                "docker.io": {
                    "url": f"{behind.server.url}/hub/dependency_proxy/containers/plain.example",
                    "private_addresses": True,
                }
            }
        }
    )
    digest = behind.plain.offer_blob(seeded(name, SMALL))
    assert raw.get(front.proxied_url(f"{name}/blobs/{digest}")).digest == digest


def test_a_failed_download_that_others_follow_ends_for_all_of_them(behind: Liars, name: str) -> None:
    digest = behind.plain.offer_blob(seeded(name, LARGE))
    lie = behind.plain.behave(digest, Lie(flip=-1, hold=lies.stalled(150_000).hold), "GET")
    assert lie.hold is not None
    url = behind.url("plain", f"{name}/blobs/{digest}")
    streams = [raw.open_stream("GET", url) for _ in range(8)]
    assert [len(stream.read(100_000)) for stream in streams] == [100_000] * 8
    lie.hold.release()
    for stream in streams:
        with stream:
            stream.read_all()
            assert not stream.complete
    assert behind.plain.requests.count("liar", "GET", digest) == 1
    assert_nothing_is_kept(behind.server, digest)
