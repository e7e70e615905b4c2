"""Tests of a used-up limit: cached content is served, the upstream receives no requests, and misses wait in a queue."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import GatewayFactory, Publish
from tests.parts import lies, raw
from tests.parts.gateway import Gateway
from tests.parts.hub import Hub
from tests.parts.images import MANIFEST, ImageLayout
from tests.parts.liar import Liar
from tests.parts.processes import wait_until

from .crowd import at_once
from .datafolder import await_rest, error_of
from .test_broken_upstreams import document


def pull(server: Gateway, name: str, layout: ImageLayout) -> list[raw.RawResponse]:
    """Pulls an image by tag, then all its parts by digest."""
    answers = [raw.get(server.proxied_url(f"{name}/manifests/latest"))]
    for digest in layout.blobs:
        kind = "manifests" if digest in layout.manifests else "blobs"
        answers.append(raw.get(server.proxied_url(f"{name}/{kind}/{digest}")))
    return answers


def use_up(server: Gateway, hub: Hub, retry_after: int) -> None:
    hub.exhausted, hub.retry_after = True, retry_after
    answer = raw.get(server.proxied_url("library/first-to-know/manifests/latest"))
    assert (answer.status, error_of(answer)["code"]) == (503, "UNAVAILABLE")


@pytest.mark.parametrize("workers", [1, 4])
def test_a_herd_on_a_limit_that_is_used_up_sends_nothing_and_gets_all_that_is_cached(
    hub: Hub, published: Publish, gateway: GatewayFactory, workers: int
) -> None:
    layout = published("multi")
    published("tiny", repository="library/first-to-know")
    server = gateway({"upstreams": {"docker.io": hub.settings()}, "cache": {"ttl": "0s"}, "workers": workers})
    assert all(answer.status == 200 for answer in pull(server, "library/multi", layout))
    await_rest(server, "library/multi", *(digest for digest in layout.blobs if digest not in layout.manifests))
    use_up(server, hub, 3600)
    hub.log.clear()

    def client(number: int) -> list[raw.RawResponse]:
        if number % 2:
            return [raw.get(server.proxied_url(f"library/never-seen-{number}/manifests/latest"))]
        return pull(server, "library/multi", layout)

    with ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(client, range(200)))
    assert [record for server in ("hub", "token", "cdn") for record in hub.log.select(server=server)] == []
    for number, (first, *rest) in enumerate(answers):
        if number % 2:
            assert (first.status, error_of(first)["code"]) == (503, "UNAVAILABLE")
            assert 1 <= int(first.headers["retry-after"]) <= 60
            assert "docker.io's pull limit for anonymous users is used up until" in error_of(first)["message"]
        else:
            assert (first.body, first.headers["x-cache"]) == (layout.manifest_bytes, "STALE")
            assert "is used up until" in str(first.headers["warning"])
            assert "served from cache: last confirmed by " in str(first.headers["warning"])
            assert [answer.digest for answer in rest] == list(layout.blobs)
            assert {answer.headers["x-cache"] for answer in rest} == {"HIT"}


def test_a_pause_that_is_short_is_waited_for_and_one_request_goes_first(
    hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    layout = published("tiny")
    for number in range(10):
        published("tiny", repository=f"waiting/image{number}")
    published("tiny", repository="library/first-to-know")
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    use_up(server, hub, 3)
    hub.exhausted = False
    hub.log.clear()
    answers = at_once(10, lambda number: raw.get(server.proxied_url(f"waiting/image{number}/manifests/latest")))
    for answer in answers:
        assert (answer.status, answer.digest, answer.headers["x-cache"]) == (200, layout.digest, "MISS")
        assert 1 < answer.seconds < 20
    assert hub.count("hub", "GET", "/manifests/", 200) == 10
    assert hub.count("hub", "GET", "/manifests/", 429) == 0


def test_of_what_is_left_no_more_is_asked_for_than_there_is(
    hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    for number in range(8):
        published("tiny", repository=f"few/image{number}")
    hub.limit = 4
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    assert raw.get(server.proxied_url("few/image0/manifests/latest")).status == 200
    answers = at_once(7, lambda number: raw.get(server.proxied_url(f"few/image{number + 1}/manifests/latest")))
    assert sorted(answer.status for answer in answers) == [200] * 3 + [503] * 4
    assert hub.count("hub", "GET", "/manifests/", 429) == 0


def test_a_pull_that_was_begun_ends_although_nothing_is_left(
    hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    layout = published("mid")
    published("tiny", repository="library/first-to-know")
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    assert raw.get(server.proxied_url("library/mid/manifests/latest")).status == 200
    use_up(server, hub, 3600)
    for digest in layout.layers:
        answer = raw.get(server.proxied_url(f"library/mid/blobs/{digest}"))
        assert (answer.digest, answer.headers["x-cache"]) == (digest, "MISS")


def test_after_a_429_that_is_no_pull_limit_nothing_at_all_is_sent(liar: Liar, gateway: GatewayFactory) -> None:
    server = gateway({"upstreams": {"docker.io": liar.settings()}})
    digest = liar.offer_blob(bytes(50_000))
    liar.behave("/blobs/", lies.refused(429, "TOOMANYREQUESTS").only(1))
    assert raw.get(server.proxied_url(f"any/name/blobs/{digest}")).status == 503
    seen = liar.requests.count()
    for path in (f"blobs/{digest}", "manifests/latest", "tags/list", f"manifests/{digest}"):
        for method in (raw.get, raw.head) if path != "tags/list" else (raw.get,):
            answer = method(server.proxied_url(f"any/name/{path}"))
            assert (answer.status, int(answer.headers["retry-after"]) <= 60) == (503, True)
    assert liar.requests.count() == seen


def test_a_token_service_that_limits_is_left_in_peace_too(
    hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    published("tiny")
    with Liar() as tokens:
        server = gateway({"upstreams": {"docker.io": hub.settings(token_hosts=[tokens.netloc])}})
        tokens.behave("/", lies.refused(429, "TOOMANYREQUESTS", 600))
        with Liar() as registry:
            realm = f'Bearer realm="{tokens.url}/token",service="x"'
            registry.behave("/", lies.answered(401, b"", WWW_Authenticate=realm))
            settings = registry.settings(token_hosts=[tokens.netloc])
            server.stop()
            server.configure({"upstreams": {"docker.io": settings}})
            server.start()
            for number in range(5):
                answer = raw.get(server.proxied_url(f"library/tiny{number}/manifests/latest"))
                assert (answer.status, answer.headers["retry-after"]) == (503, "60")
            assert tokens.requests.count() == 1
            assert registry.requests.count() == 1


def test_the_end_of_a_pause_is_found_by_itself(liar: Liar, gateway: GatewayFactory) -> None:
    server = gateway({"upstreams": {"docker.io": liar.settings()}, "cache": {"ttl": "0s", "prefetch": False}})
    liar.offer_manifest("latest", MANIFEST, document("latest"))
    url = server.proxied_url("any/name/manifests/latest")
    assert raw.get(url).status == 200
    liar.behave("/manifests/", lies.refused(429, "TOOMANYREQUESTS", 2).only(1))
    assert raw.get(url).headers["x-cache"] == "STALE"
    seen = liar.requests.count()
    assert raw.get(url).headers["x-cache"] == "STALE"
    assert liar.requests.count() == seen
    wait_until(lambda: raw.get(url).headers["x-cache"] == "REVALIDATED")


def figures(server: Gateway) -> list[dict[str, Any]]:
    documents: list[dict[str, Any]] = server.json("quota")
    return documents


def test_the_quota_command_tells_what_is_left_with_and_without_a_server(
    hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    for number in range(3):
        published("tiny", repository=f"counted/image{number}")
    server = gateway({"upstreams": {"docker.io": hub.settings(), "quiet.example": {"url": "https://quiet.example"}}})
    for number in range(3):
        assert raw.get(server.proxied_url(f"counted/image{number}/manifests/latest")).status == 200
    wait_until(lambda: figures(server)[0]["remaining"] == 97)
    [told, quiet] = figures(server)
    assert (told["upstream"], told["credential"], told["limit"]) == ("docker.io", "anonymous", 100)
    assert (told["window_seconds"], told["source"], told["state"]) == (21600, "127.0.0.1", "enough is left")
    assert told["resets_at"] and told["told_at"]
    assert (quiet["upstream"], quiet["limit"], quiet["remaining"], quiet["resets_at"]) == ("quiet.example", *[None] * 3)
    server.stop()
    assert figures(server)[0]["remaining"] == 97
    assert "docker.io" in server.cli("quota").stdout


def test_the_quota_command_says_that_there_is_no_data_folder(gateway: GatewayFactory) -> None:
    completed = gateway(start=False).cli("quota")
    assert completed.returncode == 1
    assert "there is no data folder" in completed.stderr


def test_limits_pauses_and_circuits_are_metrics_without_names_of_users(
    hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    published("tiny", repository="library/first-to-know")
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    use_up(server, hub, 3600)
    label = '{upstream="docker.io"}'

    def shown() -> dict[str, float]:
        lines = raw.get(f"{server.url}/-/metrics").body.decode().splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}

    wait_until(lambda: shown().get(f"gateway_upstream_quota_remaining{label}") == 0)
    assert shown()[f"gateway_upstream_quota_limit{label}"] == 100
    assert 3000 < shown()[f"gateway_upstream_backoff_seconds{label}"] <= 3600
    assert shown()[f"gateway_upstream_circuit_open{label}"] == 0
    assert shown()[f"gateway_miss_queue{label}"] == 0


@pytest.mark.parametrize("content", ["", "{", json.dumps({"x": 1})])
def test_a_ledger_that_is_damaged_stops_nothing(
    content: str, hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    published("tiny")
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    (server.data / "quota.json").write_text(content)
    assert raw.get(server.proxied_url("library/tiny/manifests/latest")).status == 200
    assert figures(server)[0]["upstream"] == "docker.io"
