"""Tests of the parts themselves: the properties that the other tests rely on."""

import gzip
import hashlib
import json
import threading
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from . import go_clients, lies, raw
from .certs import Authority
from .clients import ClientFailed, Podman, Skopeo
from .gateway import toml
from .hub import Hub
from .images import INDEX, MANIFEST, SIGNATURE, ImageLayout, Images, make_image, seeded, stored_gzip
from .liar import Liar
from .lies import Framing, Lie
from .ports import OwnPorts, bound, free_port
from .processes import PartFailed, Process, answers_tcp, binary, group_members, wait_until
from .registry import Registry

Publish = Callable[..., ImageLayout]
CONTENT = seeded("parts", 100_000)

DIGESTS = {
    "tiny": "sha256:0441421f9a7ed25d1ed5b6c4d610979b5f4f744a08375cfd261c4e89cfe9b1e6",
    "other": "sha256:f16344793dccdaa614951e68311b05db5f8a1f715aea1dc342e027270826f393",
    "mid": "sha256:0f96dcf14495a20b4ab3222b14be20d7a20658157320dd72231f10d1f1e0fefb",
    "multi": "sha256:2de0315b7b32259f54f30eb89ff6758cf6a55318ab066f8d7f14e03e0edeb18e",
    "referrer": "sha256:f39cd51906b016947675812c0ef2130c33a5d33622daa651adb69de6827d187f",
}


@pytest.fixture
def blob(liar: Liar) -> str:
    return f"{liar.url}/v2/any/blobs/{liar.offer_blob(CONTENT)}"


ACCEPT = {"Accept": f"{MANIFEST}, {INDEX}"}


def pull_token(hub: Hub, repository: str, context: Authority | None = None) -> dict[str, str]:
    tls = context.client_context() if context else None
    scheme = hub.url.partition(":")[0]
    url = f"{scheme}://{hub.token_netloc}/token?service=registry.docker.io&scope=repository:{repository}:pull"
    token = json.loads(raw.get(url, context=tls).body)["token"]
    return {"Authorization": f"Bearer {token}"} | ACCEPT


# Images.


@pytest.mark.parametrize("name", DIGESTS)
def test_images_have_the_same_digest_everywhere(name: str, images: Images) -> None:
    assert images[name].digest == DIGESTS[name]


def test_an_image_made_twice_is_the_same_file_by_file(images: Images, tmp_path: Path) -> None:
    again = make_image("multi", tmp_path / "multi")
    assert {digest: file.read_bytes() for digest, file in again.blobs.items()} == {
        digest: file.read_bytes() for digest, file in images.multi.blobs.items()
    }


def test_every_blob_of_an_image_bears_its_digest_as_name(images: Images) -> None:
    for digest, file in (images.multi.blobs | images.referrer.blobs).items():
        assert digest == "sha256:" + hashlib.sha256(file.read_bytes()).hexdigest()


def test_the_platforms_of_multi_share_one_layer(images: Images) -> None:
    assert len(images.multi.layers) == 4
    assert len(images.multi.manifests) == 4


def test_the_referrer_names_tiny_as_its_subject(images: Images) -> None:
    assert images.referrer.manifest["subject"]["digest"] == images.tiny.digest


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 200_000])
def test_stored_gzip_can_be_read_by_any_gunzip(size: int) -> None:
    assert gzip.decompress(stored_gzip(seeded("gzip", size))) == seeded("gzip", size)


# Ports.


def test_two_processes_have_no_port_in_common() -> None:
    one, other = OwnPorts(), OwnPorts()
    for ports in (one, other):
        ports.reserve()
    assert not {one.next() for _ in range(300)} & {other.next() for _ in range(300)}
    for ports in (one, other):
        ports.close()


def test_a_port_that_is_used_by_others_is_passed_over() -> None:
    ports = OwnPorts()
    used = bound(ports.next() - 1)
    assert used is not None
    with used:
        assert ports.next() != used.getsockname()[1]
    ports.close()


# Processes.


@pytest.mark.usefixtures("processes")
def test_a_process_that_dies_at_once_is_reported_with_its_log(tmp_path: Path) -> None:
    process = Process(["sh", "-c", "echo no such luck; exit 3"], log=tmp_path / "log")
    with pytest.raises(PartFailed, match=r"status 3(?s:.*)no such luck"):
        process.start(answers_tcp(free_port()))


@pytest.mark.usefixtures("processes")
def test_stopping_a_process_ends_its_children_too(tmp_path: Path) -> None:
    process = Process(["sh", "-c", "trap '' TERM; sleep 600 & sleep 600"], log=tmp_path / "log")
    process.start(lambda: len(process.children()) == 2)
    leader = process.pid
    assert len(group_members(leader)) == 3
    process.stop(patience=0.1)
    assert group_members(leader) == []


def test_a_missing_program_is_an_error_that_names_its_package() -> None:
    with pytest.raises(PartFailed, match="apt-get install no-such-package"):
        binary("no-such-program", "no-such-package")


def test_a_client_that_cannot_be_built_is_named(
    monkeypatch: pytest.MonkeyPatch, scratch: Path, processes: None
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(scratch))
    monkeypatch.setattr(go_clients, "find_go", lambda: None)
    with pytest.raises(PartFailed, match=r"Go is not installed; tests need it for crane: tests/run --prepare"):
        go_clients.build_go_client(go_clients.CRANE)
    monkeypatch.setattr(go_clients, "find_go", lambda: "/bin/false")
    with pytest.raises(PartFailed, match="oras cannot be built"):
        go_clients.build_go_client(go_clients.ORAS)


# The registry, and Docker Hub in front of it.


def test_the_registry_keeps_what_was_pushed_over_a_restart(images: Images, skopeo: Skopeo, scratch: Path) -> None:
    registry = Registry(scratch / "registry")
    registry.start()
    registry.push(images.tiny, "a/tiny")
    registry.stop()
    registry.start()
    try:
        assert skopeo.inspect_raw(f"{registry.netloc}/a/tiny:latest") == images.tiny.manifest_bytes
    finally:
        registry.stop()


@pytest.mark.parametrize("name", ["tiny", "multi"])
def test_skopeo_pulls_through_tokens_and_the_cdn(
    name: str, hub: Hub, published: Publish, skopeo: Skopeo, scratch: Path
) -> None:
    layout = published(name)
    pulled = skopeo.pull(f"{hub.netloc}/library/{name}:latest", scratch / "pulled")
    assert pulled.digest == layout.digest
    assert pulled.missing(layout) == []
    assert hub.count("token", "GET", status=200) >= 1
    for layer in layout.layers:
        assert hub.count("hub", "GET", layer, status=307) >= 1
        assert hub.count("cdn", "GET", layer, status=200) >= 1


def test_skopeo_pulls_over_tls_and_believes_the_authority_alone(
    tls_hub: Hub, published: Publish, skopeo: Skopeo, authority: Authority, scratch: Path
) -> None:
    layout = published("multi")
    reference = f"{tls_hub.netloc}/library/multi:latest"
    assert skopeo.pull(reference, scratch / "pulled", trusted=authority.ca_folder).missing(layout) == []
    with pytest.raises(ClientFailed, match="certificate"):
        skopeo.inspect_raw(reference, trusted=Authority(scratch / "other").ca_folder)


def test_podman_pulls_by_tag(hub: Hub, published: Publish, podman: Podman) -> None:
    layout = published("tiny")
    reference = f"{hub.netloc}/library/tiny:latest"
    assert podman.pull(reference) == layout.manifest["config"]["digest"].removeprefix("sha256:")
    assert podman.digest(reference) == layout.digest


def test_a_private_repository_needs_a_user(hub: Hub, published: Publish, skopeo: Skopeo) -> None:
    layout = published("tiny")
    hub.tokens.users["ada"] = "secret"
    hub.private.add("library/tiny")
    reference = f"{hub.netloc}/library/tiny:latest"
    with pytest.raises(ClientFailed, match=r"(?i)unauthorized|denied|authentication required"):
        skopeo.inspect_raw(reference)
    with pytest.raises(ClientFailed, match=r"(?i)username"):
        skopeo.inspect_raw(reference, credential="ada:wrong")
    assert skopeo.inspect_raw(reference, credential="ada:secret") == layout.manifest_bytes


def test_a_token_ends_with_its_lifetime(hub: Hub, published: Publish) -> None:
    published("tiny")
    hub.tokens.lifetime = 0
    answer = raw.get(f"{hub.url}/v2/library/tiny/manifests/latest", pull_token(hub, "library/tiny"))
    assert answer.status == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_only_manifest_gets_are_counted_and_refused(hub: Hub, published: Publish) -> None:
    published("tiny")
    url, token = f"{hub.url}/v2/library/tiny/manifests/latest", pull_token(hub, "library/tiny")
    assert raw.head(url, token).headers["ratelimit-remaining"] == "100;w=21600"
    raw.get(url, token)
    assert raw.head(url, token).headers["ratelimit-remaining"] == "99;w=21600"
    hub.exhausted = True
    refused = raw.get(url, token)
    assert refused.status == 429
    assert json.loads(refused.body)["errors"][0]["code"] == "TOOMANYREQUESTS"
    assert raw.head(url, token).status == 200


def signed_url(hub: Hub, layout: ImageLayout, digest: str) -> str:
    url = f"{hub.url}/v2/library/{layout.name}/blobs/{digest}"
    return raw.get(url, pull_token(hub, f"library/{layout.name}")).headers["location"]


def test_the_cdn_refuses_credentials_and_late_or_altered_addresses(hub: Hub, published: Publish) -> None:
    layout = published("tiny")
    url = signed_url(hub, layout, layout.layers[0])
    assert raw.get(url).status == 200
    assert raw.get(url, {"Authorization": "Bearer x"}).status == 400
    assert raw.get(url + "0").status == 403
    hub.cdn.url_lifetime = -1
    assert raw.get(signed_url(hub, layout, layout.layers[0])).status == 403


def test_the_cdn_serves_ranges(hub: Hub, published: Publish) -> None:
    layout = published("tiny")
    whole = layout.read(layout.layers[1])
    url = signed_url(hub, layout, layout.layers[1])
    for asked, expected in (("10-19", whole[10:20]), ("100-", whole[100:]), ("-5", whole[-5:])):
        answer = raw.get(url, {"Range": f"bytes={asked}"})
        assert (answer.status, answer.body) == (206, expected)
    assert raw.get(url, {"Range": f"bytes={len(whole)}-"}).status == 416


@pytest.mark.parametrize("tls", [False, True])
def test_a_held_blob_stops_after_its_first_bytes(
    tls: bool, request: pytest.FixtureRequest, published: Publish, authority: Authority
) -> None:
    layout = published("tiny")
    hub: Hub = request.getfixturevalue("tls_hub" if tls else "hub")
    trusted = authority if tls else None
    context = authority.client_context() if tls else None
    layer = layout.layers[1]
    hold = hub.hold(layer, after=1000)
    token = pull_token(hub, "library/tiny", trusted)
    url = raw.get(f"{hub.url}/v2/library/tiny/blobs/{layer}", token, context=context).headers["location"]
    with raw.open_stream("GET", url, context=context) as stream:
        assert stream.read(1000) == layout.read(layer)[:1000]
        assert hold.reached.wait(30)
        assert hub.log.select("cdn")[0].sent == 1000
        hold.release()
        assert stream.read_all() == layout.read(layer)[1000:]
        assert stream.complete


def test_the_log_knows_that_a_client_left(hub: Hub, published: Publish) -> None:
    layout = published("tiny")
    hub.hold(layout.layers[1], after=1000)
    with raw.open_stream("GET", signed_url(hub, layout, layout.layers[1])) as stream:
        stream.read(1000)
        stream.abort()
    record = hub.log.wait_for(1, "cdn", "GET", layout.layers[1])[0]
    wait_until(lambda: record.aborted)
    assert record.sent == 1000


@pytest.mark.parametrize("tls", [False, True])
def test_servers_stop_and_come_back_under_a_body_that_is_held(
    tls: bool, request: pytest.FixtureRequest, published: Publish, authority: Authority
) -> None:
    layout = published("tiny")
    hub: Hub = request.getfixturevalue("tls_hub" if tls else "hub")
    trusted = authority if tls else None
    context = authority.client_context() if tls else None
    layer = layout.layers[1]
    hub.hold(layer, after=1000)
    token = pull_token(hub, "library/tiny", trusted)
    url = raw.get(f"{hub.url}/v2/library/tiny/blobs/{layer}", token, context=context).headers["location"]
    with raw.open_stream("GET", url, context=context) as stream:
        assert len(stream.read(1000)) == 1000
        hub.refuse()
        assert not answers_tcp(int(hub.netloc.partition(":")[2]))()
        stream.read_all()
        assert not stream.complete
    hub.accept()
    hub.cdn.release()
    assert raw.get(url, context=context).body == layout.read(layer)


def test_a_hub_that_is_down_says_so_on_each_server_of_its_own(hub: Hub, published: Publish) -> None:
    layout = published("tiny")
    token = pull_token(hub, "library/tiny")
    url = signed_url(hub, layout, layout.layers[0])
    hub.down = hub.tokens.down = hub.cdn.down = True
    for address in (f"{hub.url}/v2/", f"http://{hub.token_netloc}/token", url):
        assert raw.get(address, token).status == 503


def test_tags_come_in_pages(hub: Hub, published: Publish) -> None:
    for tag in ("v1", "v2", "v3"):
        published("tiny", repository="library/paged", tag=tag)
    token = pull_token(hub, "library/paged")
    first = raw.get(f"{hub.url}/v2/library/paged/tags/list?n=2", token)
    assert json.loads(first.body)["tags"] == ["v1", "v2"]
    assert first.headers["link"] == '</v2/library/paged/tags/list?n=2&last=v2>; rel="next"'
    rest = raw.get(f"{hub.url}/v2/library/paged/tags/list?n=2&last=v2", token)
    assert json.loads(rest.body)["tags"] == ["v3"]
    assert "link" not in rest.headers


def test_referrers_are_listed_by_address_or_by_tag(hub: Hub, published: Publish) -> None:
    subject = published("tiny", repository="library/signed")
    signature = published("referrer", repository="library/signed")
    token = pull_token(hub, "library/signed")
    by_tag = raw.get(f"{hub.url}/v2/library/signed/manifests/{subject.digest.replace(':', '-')}", token)
    assert json.loads(by_tag.body)["manifests"][0]["digest"] == signature.digest
    address = f"{hub.url}/v2/library/signed/referrers/{subject.digest}"
    assert raw.get(address, token).status == 404
    hub.referrers = True
    listed = json.loads(raw.get(address, token).body)["manifests"]
    assert [(found["digest"], found["artifactType"]) for found in listed] == [(signature.digest, SIGNATURE)]


# The liar.


def test_an_honest_liar_serves_a_real_client(liar: Liar, images: Images, skopeo: Skopeo, scratch: Path) -> None:
    liar.offer(images.multi)
    assert skopeo.pull(f"{liar.netloc}/any/name:latest", scratch / "pulled").missing(images.multi) == []


def test_tls_liar_serves_a_real_client(
    tls_liar: Liar, images: Images, skopeo: Skopeo, authority: Authority, scratch: Path
) -> None:
    tls_liar.offer(images.tiny)
    reference = f"{tls_liar.netloc}/any/name:latest"
    assert skopeo.pull(reference, scratch / "pulled", trusted=authority.ca_folder).missing(images.tiny) == []


@pytest.mark.parametrize("at", [0, 50_000, -1])
def test_a_flipped_byte_is_the_only_difference(at: int, liar: Liar, blob: str) -> None:
    liar.behave("/blobs/", lies.flipped(at))
    answer = raw.get(blob)
    assert answer.complete
    assert [n for n in range(len(CONTENT)) if answer.body[n] != CONTENT[n]] == [at % len(CONTENT)]


@pytest.mark.parametrize(
    ("lie", "received", "complete", "promised"),
    [
        (Lie(), CONTENT, True, "100000"),
        (lies.short(70_000), CONTENT[:70_000], False, "100000"),
        (lies.short(0), b"", False, "100000"),
        (lies.reset(70_000), CONTENT[:70_000], False, "100000"),
        (lies.long(), CONTENT + b"!", True, "100001"),
        (lies.surplus(), CONTENT, True, "100000"),
        (lies.chunked(), CONTENT, True, None),
        (lies.unfinished(), CONTENT, False, None),
        (lies.unfinished(70_000), CONTENT[:70_000], False, None),
        (lies.until_close(), CONTENT, False, None),
        (lies.until_close(70_000), CONTENT[:70_000], False, None),
        (lies.trickled(40_000, 0.01), CONTENT, True, "100000"),
        (lies.encoded(), stored_gzip(CONTENT), True, str(len(stored_gzip(CONTENT)))),
    ],
    ids=lambda value: "lie" if isinstance(value, Lie) else "",
)
def test_bodies_are_spoilt_as_promised(
    lie: Lie, received: bytes, complete: bool, promised: str | None, liar: Liar, blob: str
) -> None:
    liar.behave("/blobs/", lie)
    answer = raw.get(blob)
    assert answer.body == received
    assert (answer.status, answer.complete, answer.headers.get("content-length")) == (200, complete, promised)
    assert answer.reset == (lie.reset is not None)
    assert liar.requests.count("liar", "GET", "/blobs/") == 1


@pytest.mark.parametrize(
    ("lie", "complete"),
    [(Lie(), True), (lies.short(70_000), False), (lies.reset(70_000), False), (lies.until_close(70_000), False)],
)
def test_bodies_are_spoilt_over_tls_too(lie: Lie, complete: bool, tls_liar: Liar, authority: Authority) -> None:
    digest = tls_liar.offer_blob(CONTENT)
    tls_liar.behave("/blobs/", lie)
    answer = raw.get(f"{tls_liar.url}/v2/any/blobs/{digest}", context=authority.client_context())
    assert answer.complete is complete
    assert answer.body == (CONTENT if complete else CONTENT[:70_000])


def test_a_stalled_body_goes_on_when_released(liar: Liar, blob: str) -> None:
    lie = liar.behave("/blobs/", lies.stalled(30_000))
    with raw.open_stream("GET", blob) as stream:
        assert stream.read(30_000) == CONTENT[:30_000]
        assert lie.hold is not None
        assert lie.hold.reached.wait(30)
        assert stream.received == 30_000
        lie.hold.release()
        assert stream.read_all() == CONTENT[30_000:]


def test_a_stalled_head_does_not_keep_the_liar_from_stopping(liar: Liar, blob: str) -> None:
    lie = liar.behave("/blobs/", lies.stalled(-1))
    outcome: list[BaseException] = []

    def ask() -> None:
        try:
            raw.get(blob)
        except raw.BrokenHead as failure:
            outcome.append(failure)

    asking = threading.Thread(target=ask)
    asking.start()
    assert lie.hold is not None
    assert lie.hold.reached.wait(30)
    liar.stop()
    asking.join(5)
    assert not asking.is_alive()


@pytest.mark.parametrize(
    ("lie", "status", "header", "value"),
    [
        (lies.html(), 200, "content-type", "text/html"),
        (lies.encoded(), 200, "content-encoding", "gzip"),
        (lies.digest_header(), 200, "docker-content-digest", "sha256:" + 64 * "0"),
        (lies.media_type(MANIFEST), 200, "content-type", MANIFEST),
        (lies.redirected("/v2/round/and/round"), 307, "location", "/v2/round/and/round"),
        (lies.foreign_realm("http://elsewhere/t"), 401, "www-authenticate", 'Bearer realm="http://elsewhere/t"'),
        (lies.refused(403, "DENIED"), 403, "content-type", "application/json"),
        (lies.refused(429, "TOOMANYREQUESTS", 7), 429, "retry-after", "7"),
        (lies.refused(503), 503, "content-type", "application/json"),
        (lies.answered(200, b"{}", X_Any="thing"), 200, "x-any", "thing"),
    ],
)
def test_heads_are_spoilt_as_promised(lie: Lie, status: int, header: str, value: str, liar: Liar, blob: str) -> None:
    liar.behave("/blobs/", lie)
    answer = raw.get(blob)
    assert (answer.status, answer.complete) == (status, True)
    assert answer.headers[header].startswith(value)


def test_a_range_is_served_honestly_unless_told_otherwise(liar: Liar, blob: str) -> None:
    asked = {"Range": "bytes=90000-"}
    assert (raw.get(blob, asked).status, raw.get(blob, asked).body) == (206, CONTENT[90_000:])
    liar.behave("/blobs/", lies.whole())
    assert (raw.get(blob, asked).status, raw.get(blob, asked).body) == (200, CONTENT)


def test_a_lie_can_be_told_a_number_of_times_and_for_one_method(liar: Liar, blob: str) -> None:
    liar.behave("/blobs/", lies.refused(500).only(2), "GET")
    assert raw.head(blob).status == 200
    assert [raw.get(blob).status for _ in range(3)] == [500, 500, 200]
    liar.behave("/blobs/", Lie(framing=Framing.CLOSE))
    liar.honest()
    assert raw.get(blob).complete


def test_a_canary_counts_every_connection() -> None:
    with Liar() as canary:
        assert canary.connections == 0
        assert answers_tcp(canary.port)()
        raw.get(canary.url)
        assert canary.connections == 2


def test_settings_become_toml() -> None:
    config = {
        "workers": 1,
        "upstreams": {"docker.io": {"url": "http://127.0.0.1:1", "token_hosts": ["a:1"], "private_addresses": True}},
        "cache": {"ttl": "1s", "rules": [{"tags": "v*", "ttl": "1d"}]},
        "listener": [{"port": 1}, {"port": 2}],
    }
    assert tomllib.loads(toml(config)) == config
