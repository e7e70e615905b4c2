"""Lists of tags from registries that page in ways of their own: complete, in the pages that a client wants."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from cache.upstream.registry_client import REFERRERS_PAGES
from cache.upstream.tag_lists import TAG_LIST_LIMIT
from tests.conftest import GatewayFactory, Publish
from tests.parts import lies, raw
from tests.parts.clients import Skopeo
from tests.parts.gateway import Gateway
from tests.parts.images import INDEX, MANIFEST, digest_of
from tests.parts.liar import Answer, Liar
from tests.parts.listings import LISTINGS, NOT_STRAIGHT, Listing, ListingRegistry, by_name, ecr, google, older_quay
from tests.parts.processes import wait_until

from .conftest import LongLived
from .datafolder import error_of

TAGS = [f"v{number:03}" for number in range(230)]
every_listing = pytest.mark.parametrize("listing", LISTINGS, ids=lambda listing: listing.__name__)


@pytest.fixture(scope="module")
def registries() -> Iterator[dict[str, ListingRegistry]]:
    """A registry with 230 tags for each way of paging, by the name of its upstream."""
    with ExitStack() as stack:
        yield {upstream(listing): stack.enter_context(ListingRegistry(listing, TAGS)) for listing in LISTINGS}


@pytest.fixture(scope="module")
def server(registries: dict[str, ListingRegistry], long_lived: LongLived) -> Gateway:
    return long_lived({"upstreams": {name: registry.settings() for name, registry in registries.items()}})


def upstream(listing: Listing) -> str:
    return f"{listing.__name__.replace('_', '-')}.example"


def pages(url: str) -> Iterator[tuple[list[str], str]]:
    """Yield the tags of each page, and the link to the next, which is followed as it is."""
    for _ in range(len(TAGS)):
        answer = raw.get(url)
        assert answer.status == 200, answer.body
        link = answer.headers.get("link") or ""
        yield json.loads(answer.body)["tags"], link
        if not link:
            return
        match = re.fullmatch(r'<([!-~]+)>; rel="next"', link)
        assert match
        assert match[1] != url
        assert match[1].partition("?")[0] == url.partition("?")[0]
        url = match[1]
    raise AssertionError("the list does not end")


@every_listing
def test_every_way_of_paging_gives_the_whole_list_in_pages(listing: Listing, server: Gateway) -> None:
    url = server.proxied_url(f"{upstream(listing)}/library/many/tags/list")
    for size in (7, 100, 1000, 5000):  # some registries refuse more than 1000
        found = [tags for tags, _ in pages(f"{url}?n={size}")]
        assert [tag for tags in found for tag in tags] == TAGS
        assert all(len(tags) <= size for tags in found)
    assert [tag for tags, _ in pages(url) for tag in tags] == TAGS
    assert list(pages(f"{url}?n=0")) == [([], "")]


@every_listing
def test_skopeo_lists_what_it_lists_straight(
    listing: Listing, registries: dict[str, ListingRegistry], server: Gateway, skopeo: Skopeo
) -> None:
    name = f"{upstream(listing)}/library/many"
    if listing not in NOT_STRAIGHT:
        straight = skopeo.tags(f"{registries[upstream(listing)].netloc}/library/many")
        assert [tag for tag in straight if tag and ":" not in tag] == TAGS
    assert skopeo.tags(server.proxied(name)) == TAGS


@pytest.mark.parametrize("listing", [ecr, older_quay, google], ids=lambda listing: listing.__name__)
def test_a_link_holds_for_its_own_list_alone_and_shows_nothing_of_the_upstream(
    listing: Listing, registries: dict[str, ListingRegistry], server: Gateway
) -> None:
    registry, name = registries[upstream(listing)], upstream(listing)
    url = server.proxied_url(f"{name}/library/many/tags/list")
    _, link = next(pages(f"{url}?n=7"))
    last = parse_qs(urlsplit(link[1 : link.index(">")]).query)["last"][0]
    assert last.startswith("~")
    assert registry.netloc not in link
    asked = [other.requests.count() for other in registries.values()]
    altered = last[:-6] + ("A" if last[-6] != "A" else "B") + last[-5:]
    others = (f"{name}/library/other", "by-name.example/library/many")
    wrong = [f"{server.proxied_url(other)}/tags/list?last={quote(last)}" for other in others]
    wrong += [f"{url}?last={quote(text)}" for text in (altered, last[:-9], "~v1.0.AAAA", "~")]
    for address in wrong:
        answer = raw.get(address)
        assert (answer.status, error_of(answer)["code"]) == (400, "TAG_INVALID")
    assert [other.requests.count() for other in registries.values()] == asked
    server.stop()
    server.start()
    assert json.loads(raw.get(f"{url}?n=7&last={quote(last)}").body)["tags"] == TAGS[7:14]


def test_a_link_to_another_host_is_not_followed(gateway: GatewayFactory) -> None:
    def led_astray(registry: ListingRegistry, path: str, query: dict[str, str]) -> Answer:
        found = by_name(registry, path, query)
        if "Link" in found.headers:
            found.headers["Link"] = f'<{canary.url}{path}?last=v000&n=1>; rel="next"'
        return found

    with Liar() as canary, ListingRegistry(led_astray, TAGS) as registry:
        server = gateway({"upstreams": {"docker.io": registry.settings()}})
        found = list(pages(server.proxied_url("library/many/tags/list?n=50")))
        assert [tag for tags, _ in found for tag in tags] == TAGS
        assert canary.netloc not in str(found)
        assert canary.connections == 0


def test_a_list_that_grows_while_a_client_reads_it_goes_on_where_it_was(gateway: GatewayFactory) -> None:
    with ListingRegistry(google, TAGS) as registry:
        server = gateway({"upstreams": {"docker.io": registry.settings()}})
        reading = pages(server.proxied_url("library/many/tags/list?n=100"))
        first, _ = next(reading)
        registry.tags.insert(0, "aaa")
        assert first + [tag for tags, _ in reading for tag in tags] == TAGS


def test_lists_are_served_stale_in_an_outage_and_a_limit_on_them_stops_no_manifest(
    liar: Liar, published: Publish, gateway: GatewayFactory, skopeo: Skopeo, scratch: Path
) -> None:
    layout = liar.offer(published("tiny"), "v1")
    server = gateway({"upstreams": {"docker.io": liar.settings()}, "cache": {"prefetch": False}})
    tags, referrers = "library/tiny/tags/list?n=10", f"library/tiny/referrers/{layout.digest}"
    for path in (tags, referrers):
        assert raw.get(server.proxied_url(path)).headers.get("x-cache") is None
    server.stop()
    server.start()
    liar.behave("/tags/list", lies.refused(429))
    liar.behave("/referrers/", lies.refused(429))
    for path in (tags, referrers):
        answer = raw.get(server.proxied_url(path))
        assert (answer.status, answer.headers["x-cache"]) == (200, "STALE")
        assert int(answer.headers["age"]) >= 0
        assert "last confirmed by 127.0.0.1" in answer.headers["warning"]
    assert skopeo.pull(server.proxied("library/tiny:v1"), scratch / "pulled").missing(layout) == []
    liar.stop()
    answer = raw.get(server.proxied_url(tags))
    assert (json.loads(answer.body)["tags"], answer.headers["x-cache"]) == (["v1"], "STALE")
    assert raw.get(server.proxied_url("library/other/tags/list?n=10")).status == 503


def entry(number: int) -> dict[str, object]:
    kind = "application/vnd.example.sbom" if number % 3 else "application/vnd.example.signature"
    return {"mediaType": MANIFEST, "digest": digest_of(b"%d" % number), "size": 100 + number, "artifactType": kind}


def test_all_pages_of_referrers_come_in_one_list_with_their_filter(
    registries: dict[str, ListingRegistry], server: Gateway
) -> None:
    registry, subject = registries[upstream(by_name)], digest_of(b"subject")
    registry.referrers = [entry(number) for number in range(35)]
    url = server.proxied_url(f"{upstream(by_name)}/library/many/referrers/{subject}")
    everything = raw.get(url)
    assert json.loads(everything.body)["manifests"] == registry.referrers
    assert "link" not in everything.headers
    kind = "application/vnd.example.sbom"
    signatures = raw.get(f"{url}?artifactType={kind}")
    assert json.loads(signatures.body)["manifests"] == [e for e in registry.referrers if e["artifactType"] == kind]
    assert signatures.headers["oci-filters-applied"] == "artifactType"


def test_referrers_without_end_are_refused_and_so_are_those_that_continue_elsewhere(
    liar: Liar, gateway: GatewayFactory
) -> None:
    server = gateway({"upstreams": {"docker.io": liar.settings()}})
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry(1)]}).encode()
    url = server.proxied_url(f"library/many/referrers/{digest_of(b'endless')}")
    for number in range(2 * REFERRERS_PAGES):
        link = f'<?page={number + 1}>; rel="next"'
        liar.behave("/referrers/", lies.answered(200, index, Content_Type=INDEX, Link=link).only(1))
    answer = raw.get(url)
    assert (answer.status, "pages" in error_of(answer)["message"]) == (502, True)
    assert liar.requests.count() <= REFERRERS_PAGES + 1
    liar.honest()
    liar.behave(
        "/referrers/", lies.answered(200, index, Content_Type=INDEX, Link='<http://x.example/?p=1>; rel="next"')
    )
    answer = raw.get(server.proxied_url(f"library/many/referrers/{digest_of(b'elsewhere')}"))
    assert (answer.status, "another host" in error_of(answer)["message"]) == (502, True)
    liar.behave("/referrers/", lies.answered(200, index, Content_Type=INDEX, Link='<?artifactType=>; rel="next"'))
    answer = raw.get(server.proxied_url(f"library/many/referrers/{digest_of(b'circle')}"))
    assert answer.status == 200


def test_a_list_of_6_mb_in_one_piece_is_served_in_pages_and_as_a_whole(gateway: GatewayFactory, skopeo: Skopeo) -> None:
    tags = [f"{digest_of(b'%d' % number)[7:27]}" for number in range(20_000)]
    with ListingRegistry(google, tags) as registry:
        server = gateway({"upstreams": {"docker.io": registry.settings()}})
        url = server.proxied_url("library/many/tags/list")
        assert len(raw.get(f"{registry.url}/v2/library/many/tags/list").body) > 6_000_000
        reading = pages(f"{url}?n=1000")
        assert [next(reading)[0] for _ in range(3)] == [tags[:1000], tags[1000:2000], tags[2000:3000]]
        assert skopeo.tags(server.proxied("library/many")) == tags
        registry.stop()
        wait_until(lambda: "x-cache" in raw.get(f"{url}?n=5").headers, 20)
        answer = raw.get(f"{url}?n=5")
        assert (json.loads(answer.body)["tags"], answer.headers["x-cache"]) == (tags[:5], "STALE")


def test_a_list_is_served_up_to_32_mib_and_one_beyond_is_refused_with_the_reason(
    liar: Liar, gateway: GatewayFactory
) -> None:
    tags = [f"{number:0127}" for number in range(TAG_LIST_LIMIT // 130 - 1)]
    body = json.dumps({"tags": tags}, separators=(",", ":")).encode()
    assert TAG_LIST_LIMIT - 1000 < len(body) <= TAG_LIST_LIMIT
    server = gateway({"upstreams": {"docker.io": liar.settings()}})
    liar.behave("/tags/list", lies.answered(200, body, Content_Type="application/json"))
    answer = raw.get(server.proxied_url("library/large/tags/list"))
    assert (answer.status, json.loads(answer.body)["tags"] == tags) == (200, True)
    too_large = body.replace(b"]", b',"' + b"x" * 1000 + b'"]')
    liar.behave("/tags/list", lies.answered(200, too_large, Content_Type="application/json"))
    answer = raw.get(server.proxied_url("library/larger/tags/list"))
    assert (answer.status, f"more than {TAG_LIST_LIMIT} bytes" in error_of(answer)["message"]) == (502, True)
