"""Operations: metrics after real pulls and who may read them, readiness, and the log."""

import asyncio
import json
import platform
import sqlite3
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import ASGIApp
from structlog.testing import capture_logs

from cache.oci.errors import RefusalReason
from cache.runtime.fair_queue import NOBODY
from cache.runtime.on_behalf import current_requester
from gateway.db import groups
from gateway.db.engine import Database
from gateway.observability.logs import AccessLines
from gateway.observability.metrics import Metrics
from gateway.observability.server_state import ServerState
from gateway.release import installed_version
from gateway.settings.tables import Settings
from gateway.wiring.app import running
from tests.conftest import GatewayFactory, Publish
from tests.gateway.asgi import Exchange, send_request
from tests.gateway.made import made_line, make
from tests.parts import raw
from tests.parts.gateway import Gateway
from tests.parts.hub import Hub
from tests.parts.images import ImageLayout
from tests.parts.processes import wait_until

ACCEPT = [("Accept", "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json")]
HUB = {"upstream": "docker.io"}
ABSENT = f"sha256:{'0' * 64}"
TINY = "library/tiny/manifests/latest"


class Counts:
    """Samples of one exposition."""

    def __init__(self, server: Gateway) -> None:
        answer = raw.get(f"{server.url}/-/metrics")
        assert answer.status == 200
        self._samples = [
            sample for family in text_string_to_metric_families(answer.body.decode()) for sample in family.samples
        ]

    def of(self, name: str, **labels: str) -> float:
        """The sum of all samples that have these labels; others may vary."""
        return sum(
            sample.value
            for sample in self._samples
            if sample.name == f"gateway_{name}" and labels.items() <= sample.labels.items()
        )

    def labels(self) -> Iterator[tuple[str, str]]:
        for sample in self._samples:
            yield from sample.labels.items()


@pytest.fixture
def tiny(published: Publish) -> ImageLayout:
    return published("tiny")


def pulled(server: Gateway, path: str, *headers: tuple[str, str]) -> raw.RawResponse:
    return raw.get(server.proxied_url(path), [*ACCEPT, *headers])


def blob_path(layout: ImageLayout) -> str:
    return f"library/tiny/blobs/{layout.layers[0]}"


def size_of(layout: ImageLayout) -> int:
    return layout.blobs[layout.layers[0]].stat().st_size


# Metrics


def test_pulls_count_received_and_sent_bytes(hub: Hub, tiny: ImageLayout, gateway: GatewayFactory) -> None:
    server = gateway({"upstreams": {"docker.io": hub.settings()}, "cache": {"prefetch": False}})
    manifest = pulled(server, TINY)
    assert pulled(server, blob_path(tiny)).complete
    wait_until(lambda: Counts(server).of("fills_total") == 1, what="the fill does not end")
    counts = Counts(server)
    both = len(manifest.body) + size_of(tiny)
    assert counts.of("pulls_total", kind="manifest", outcome="MISS") == 1
    assert counts.of("pulls_total", kind="blob", outcome="MISS") == 1
    assert counts.of("sent_bytes_total", origin="upstream") == both
    assert counts.of("sent_bytes_total", origin="cache") == 0
    assert counts.of("received_bytes_total", **HUB) >= both  # and the tokens
    assert counts.of("saved_pulls_total") == 0
    assert counts.of("upstream_requests_total", **HUB, method="GET", status="2xx") >= 3  # manifest, blob, token
    assert counts.of("upstream_requests_total", **HUB, status="3xx") == 1
    assert counts.of("upstream_requests_total", **HUB, status="4xx") == 1  # the challenge
    assert counts.of("first_byte_seconds_count", kind="blob", outcome="MISS") == 1
    assert counts.of("fills_total", **HUB, result="committed") == 1
    assert counts.of("fill_seconds_count", **HUB) == counts.of("fill_bytes_per_second_count", **HUB) == 1
    assert counts.of("responses_total", surface="registry", status="2xx") == 2
    assert counts.of("responses_total", surface="operations", status="2xx") >= 1  # requested until the server was ready
    hits_and_ranges_count_as_bytes_of_the_cache(server, hub, tiny)
    no_label_names_an_image_or_a_digest(server)


def hits_and_ranges_count_as_bytes_of_the_cache(server: Gateway, hub: Hub, tiny: ImageLayout) -> None:
    before = Counts(server)
    requests = len(hub.log.select())
    manifest = pulled(server, TINY)
    part = pulled(server, blob_path(tiny), ("Range", "bytes=10-109"))
    assert (part.status, len(part.body)) == (206, 100)
    after = Counts(server)
    assert len(hub.log.select()) == requests
    assert after.of("sent_bytes_total", origin="cache") == len(manifest.body) + 100
    assert after.of("sent_bytes_total", origin="upstream") == before.of("sent_bytes_total", origin="upstream")
    assert after.of("pulls_total", kind="blob", outcome="HIT") == 1
    assert after.of("saved_pulls_total", **HUB) == 1  # of the manifest; a blob costs no pull
    assert after.of("upstream_requests_total") == before.of("upstream_requests_total")


def no_label_names_an_image_or_a_digest(server: Gateway) -> None:
    raw.get(server.proxied_url("library/never-there/manifests/v1"))
    raw.request("BREW", server.proxied_url(TINY))
    known = {"kind", "outcome", "upstream", "origin", "surface", "status", "method", "result", "fault", "le"}
    known |= {"reason", "version", "python"}
    for label, value in Counts(server).labels():
        assert label in known
        assert not any(word in value for word in ("tiny", "never", "sha256", "BREW", "hub"))


def test_a_stale_response_is_a_saved_pull_and_the_outage_shows(
    hub: Hub, tiny: ImageLayout, gateway: GatewayFactory
) -> None:
    server = gateway({"upstreams": {"docker.io": hub.settings()}, "cache": {"ttl": "0s"}})
    pulled(server, TINY)
    hub.refuse()
    assert pulled(server, TINY).headers["x-cache"] == "STALE"
    counts = Counts(server)
    assert counts.of("pulls_total", kind="manifest", outcome="STALE") == 1
    assert counts.of("saved_pulls_total", **HUB) == 1
    assert counts.of("upstream_requests_total", **HUB, status="none") >= 1


def test_followers_of_one_fetch_are_counted_while_they_follow_and_after(
    hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    layout = published("mid")
    layer = max(layout.layers, key=lambda digest: layout.blobs[digest].stat().st_size)
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    path = f"library/mid/blobs/{layer}"
    held = hub.hold(layer)
    with ThreadPoolExecutor(3) as clients:
        answers = [clients.submit(pulled, server, path) for _ in range(3)]
        assert held.reached.wait(30)
        wait_until(lambda: Counts(server).of("followers") == 3, what="three clients do not follow")
        counts = Counts(server)
        assert counts.of("flights") == 1
        assert counts.of("requests_in_progress") == 4  # and the one for the metrics
        assert counts.of("connections") == 4
        held.release()
        assert all(answer.result().complete for answer in answers)
    wait_until(lambda: Counts(server).of("flights") == 0, what="the flight does not end")
    counts = Counts(server)
    assert counts.of("followers") == 0
    assert counts.of("pulls_total", kind="blob", outcome="MISS") == 1
    assert counts.of("pulls_total", kind="blob", outcome="COALESCED") == 2
    size = layout.blobs[layer].stat().st_size
    assert counts.of("sent_bytes_total", origin="cache") == 2 * size
    assert counts.of("sent_bytes_total", origin="upstream") == size
    assert pulled(server, f"library/mid/blobs/{ABSENT}").status == 404
    wait_until(lambda: Counts(server).of("fills_total") == 2, what="the fill does not end")
    counts = Counts(server)
    assert counts.of("fills_total", **HUB, result="failed") == counts.of("fill_seconds_count") == 1
    assert counts.of("responses_total", surface="registry", status="4xx") == 1


def test_every_worker_exposes_the_counts_of_all(hub: Hub, tiny: ImageLayout, gateway: GatewayFactory) -> None:
    server = gateway({"upstreams": {"docker.io": hub.settings()}, "workers": 2})
    for _ in range(20):
        pulled(server, TINY)
    for _ in range(5):
        wait_until(lambda: Counts(server).of("pulls_total", kind="manifest") == 20, what="not all pulls are counted")
    assert Counts(server).of("first_byte_seconds_count", kind="manifest") == 20
    assert Counts(server).of("workers") == 2
    build = {"version": installed_version() or "unknown", "python": platform.python_version()}
    assert Counts(server).of("build_info", **build) == 1
    for _ in range(20):
        raw.get(f"{server.url}/v2/absent/x/manifests/v1")
    for _ in range(5):
        wait_until(lambda: Counts(server).of("refusals_total", reason="login") == 20, what="not all are counted")


def test_waits_are_counted_in_bulk_as_they_are_one_by_one() -> None:
    metrics = Metrics()
    waits = [0.5, 1, 2, 250, 19_999, 31_000, 0]
    for wait in waits:
        metrics.note_response(made_line(outcome="HIT", kind="blob", upstream="u", first_byte_ms=wait))
    text = metrics.exposition().decode()
    for bound in ("0.001", "0.003", "0.3", "20.0", "30.0", "+Inf"):
        below = sum(wait / 1000 <= float(bound) for wait in waits)
        assert f'gateway_first_byte_seconds_bucket{{kind="blob",le="{bound}",outcome="HIT"}} {below:.1f}' in text
    assert f'gateway_first_byte_seconds_sum{{kind="blob",outcome="HIT"}} {sum(waits) / 1000}' in text


# Access to the metrics


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "metrics-token"
    file.write_text("of-the-metrics\n")
    return file


@asynccontextmanager
async def served(tmp_path: Path, url: str = "http://127.0.0.1:8080", **settings: Any) -> AsyncIterator[ASGIApp]:
    await make(Settings(data=tmp_path))
    async with running(Settings(data=tmp_path, **settings), [url]) as (app,):
        yield app


FAR = "https://registry.example.com"


async def metrics_status(app: ASGIApp, authorization: str | None = None) -> int:
    found = await send_request(app, "GET", "/-/metrics", [("Authorization", authorization)] if authorization else [])
    assert (b"gateway_" in found.body) == (found.status == 200)
    if found.status == 401:
        assert found.headers["www-authenticate"].startswith("Bearer")
    return found.status


async def test_with_a_token_file_the_metrics_require_the_token(tmp_path: Path, token: Path) -> None:
    async with served(tmp_path, FAR, metrics_token_file=token) as app:
        for given in (
            None,
            "Bearer wrong",
            "Basic of-the-metrics",
            "Bearer",
            "of-the-metrics",
            "Bearer of-the-metricss",
        ):
            assert await metrics_status(app, given) == 401
        assert await metrics_status(app, "Bearer of-the-metrics") == 200
        await asyncio.to_thread(token.write_text, "another")
        assert await metrics_status(app, "Bearer of-the-metrics") == 401
        assert await metrics_status(app, "bearer another") == 200


@pytest.mark.parametrize("name", ["metrics-token", "absent"])
async def test_an_empty_or_missing_token_file_lets_nobody_in(tmp_path: Path, token: Path, name: str) -> None:
    await asyncio.to_thread(token.write_text, "\n")
    token = token.with_name(name)
    async with served(tmp_path, metrics_token_file=token) as app:
        for given in (None, "Bearer ", "Bearer of-the-metrics"):
            assert await metrics_status(app, given) == 403


async def test_without_a_token_they_are_read_on_a_loopback_server_alone(tmp_path: Path) -> None:
    async with served(tmp_path / "near") as app:
        assert await metrics_status(app) == 200
    for url, host in ((FAR, "127.0.0.1"), ("http://127.0.0.1", "192.0.2.1")):
        async with served(tmp_path / "far", url, host=host) as app:
            for headers in ([], [("Host", "localhost")], [("X-Forwarded-For", "127.0.0.1")]):
                refused = await send_request(app, "GET", "/-/metrics", headers)
                assert refused.status == 403
                assert "metrics_token_file" in refused.error["message"]


@pytest.mark.parametrize(("access", "status"), [("open", 200), ("off", 404)])
async def test_the_setting_opens_the_metrics_to_all_or_to_nobody(
    tmp_path: Path, token: Path, access: str, status: int
) -> None:
    async with served(tmp_path, FAR, metrics_access=access, metrics_token_file=token) as app:
        assert await metrics_status(app) == status
        assert await metrics_status(app, "Bearer of-the-metrics") == status


# Liveness and readiness


async def ready(app: ASGIApp) -> Exchange:
    assert (await send_request(app, "GET", "/-/health")).status == 200
    return await send_request(app, "GET", "/-/ready")


@pytest.mark.parametrize(("name", "table"), [("gateway.db", "groups"), ("cache.db", "changes")])
async def test_a_server_whose_database_is_broken_is_alive_and_not_ready(tmp_path: Path, name: str, table: str) -> None:
    async with served(tmp_path) as app:
        assert json.loads((await ready(app)).body) == {"status": "ready", "writable": True}
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            connection.execute(f"DROP TABLE {table}")
        answer = await ready(app)
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")


async def test_probes_at_once_share_one_look_at_the_databases_that_waits_for_no_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query, queries = Database.query, []

    def note_query(database: Database, work: Any) -> Any:
        if getattr(work, "func", None) is groups.find:  # what collects in the background looks into the database, too
            queries.append(current_requester())
        return query(database, work)

    async with served(tmp_path) as app:
        monkeypatch.setattr(Database, "query", note_query)
        answers = await asyncio.gather(*(send_request(app, "GET", "/-/ready") for _ in range(50)))
    assert {answer.status for answer in answers} == {200}
    assert queries == [NOBODY]


async def test_a_server_without_its_data_is_not_ready(tmp_path: Path) -> None:
    async with served(tmp_path) as app:
        (tmp_path / "cache").rename(tmp_path / "elsewhere")
        assert (await ready(app)).status == 503


async def test_a_stopping_server_is_not_ready(tmp_path: Path) -> None:
    await make(Settings(data=tmp_path))
    server_state = ServerState()
    async with running(Settings(data=tmp_path), ["http://127.0.0.1:8080"], server_state=server_state) as (app,):
        assert (await ready(app)).status == 200
        server_state.stopping = True
        assert (await ready(app)).error["code"] == "UNAVAILABLE"


# The log


def lines_of(server: Gateway, event: str) -> list[dict[str, Any]]:
    """Log lines of one event that a stopped server wrote with log_format json."""
    lines = [json.loads(line) for line in server.log_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def test_a_json_line_describes_request_and_response(hub: Hub, tiny: ImageLayout, gateway: GatewayFactory) -> None:
    server = gateway({"upstreams": {"docker.io": hub.settings()}, "log_format": "json", "cache": {"prefetch": False}})
    headers = [("User-Agent", "docker/29.1 \xe9" + "x" * 300), ("X-Request-Id", "mine"), *ACCEPT]
    answer = raw.get(f"{server.proxied_url(TINY)}?token=hunter2", headers)
    pulled(server, blob_path(tiny))
    pulled(server, f"library/tiny/blobs/{ABSENT}")
    server.stop()
    manifest, blob, *_ = [line for line in lines_of(server, "request") if line["kind"]]
    for field in ("timestamp", "duration_ms", "first_byte_ms"):
        assert manifest.pop(field)
    assert manifest.pop("user_agent") == ("docker/29.1 \xe9" + "x" * 300)[:200]
    assert manifest == {
        "event": "request",
        "level": "info",
        "method": "GET",
        "path": f"/v2/hub/dependency_proxy/containers/{TINY}",
        "status": 200,
        "outcome": "MISS",
        "kind": "manifest",
        "group": "hub",
        "upstream": "docker.io",
        "bytes": len(answer.body),
        "complete": True,
        "client": "127.0.0.1",
        "request_id": "mine",
        "refusal": None,
        "reason": None,
        "project": None,
        "received": 0,
        "principal": None,
    }
    assert (blob["kind"], blob["outcome"], blob["bytes"]) == ("blob", "MISS", size_of(tiny))
    assert "hunter2" not in server.log_text()
    each_fill_is_logged_when_it_begins_and_when_it_ends(server, tiny)


def each_fill_is_logged_when_it_begins_and_when_it_ends(server: Gateway, tiny: ImageLayout) -> None:
    assert [line["digest"] for line in lines_of(server, "fill_began")] == [tiny.layers[0], ABSENT]
    came, failed = sorted(lines_of(server, "fill_ended"), key=lambda line: str(line["outcome"]))
    assert (came["outcome"], came["upstream"], came["bytes"]) == ("committed", "docker.io", size_of(tiny))
    assert came["seconds"] > 0
    assert came["bytes_per_second"] == pytest.approx(size_of(tiny) / came["seconds"], rel=0.2, abs=1e6)
    assert (failed["outcome"], failed["level"]) == ("failed", "warning")
    assert "does not have this content" in failed["reason"]


@pytest.mark.parametrize("form", ["console", "json"])
async def test_a_line_begins_with_what_a_person_looks_for_first(form: Literal["console", "json"]) -> None:
    written = StringIO()
    lines = AccessLines(form, written)
    refused = {"refusal": "gate", "reason": "the group denies it", "group": "hub", "upstream": "docker.io"}
    lines.write(made_line(status=403, method="HEAD", path="/v2/x", **refused))
    lines.write(made_line(status=503))
    lines.close()
    first, second = written.getvalue().splitlines()
    if form == "console":
        assert "[info     ] request status=403 outcome=None method=HEAD path=/v2/x refusal=gate reason='the gr" in first
        assert "[warning  ] request status=503 " in second
        return
    names = ["event", "level", "timestamp", "status", "outcome", "method", "path", "refusal", "reason", "group"]
    assert list(json.loads(first))[: len(names)] == names
    assert [json.loads(line)["level"] for line in (first, second)] == ["info", "warning"]


async def test_probes_of_machines_stay_out_of_the_log_unless_they_fail(tmp_path: Path) -> None:
    await make(Settings(data=tmp_path))
    server_state = ServerState()
    async with running(Settings(data=tmp_path), ["http://127.0.0.1:8080"], server_state=server_state) as (app,):
        with capture_logs() as events:
            for path in ("/-/health", "/-/ready", "/-/metrics", "/-/other"):
                await send_request(app, "GET", path)
            server_state.stopping = True
            await ready(app)
    lines = [event for event in events if event["event"] == "request"]
    assert [(line["path"], line["status"], line["log_level"]) for line in lines] == [
        ("/-/other", 404, "info"),
        ("/-/ready", 503, "warning"),
    ]
    assert (lines[1]["refusal"], lines[1]["reason"]) == ("unavailable", "this process is stopping")


async def test_refusals_are_counted_by_their_reason(tmp_path: Path) -> None:
    await make(Settings(data=tmp_path))
    metrics = Metrics()
    paths = {
        "/v2/absent/x/manifests/v1": "login",
        "/v2/hub/dependency_proxy/containers/quay.example/a/manifests/1": "name_unknown",
        "/v2/hub/dependency_proxy/containers/a/manifests/.no": "invalid",
        "/nothing": "unsupported",
        "/-/health": "",
    }
    async with running(Settings(data=tmp_path), ["http://127.0.0.1:8080"], metrics=metrics) as (app,):
        for path in paths:
            await send_request(app, "GET", path)
    text = metrics.exposition().decode()
    for reason in RefusalReason:
        count = list(paths.values()).count(reason.value)
        assert f'gateway_refusals_total{{reason="{reason.value}"}} {count:.1f}' in text


def test_nothing_that_a_client_sends_forges_a_line(gateway: GatewayFactory) -> None:
    server = gateway({})
    nasty = "%0d%0a2026-01-01T00:00:00Z%20[info]%20forged%1b[2J%c2%85%e2%80%ae"
    raw.get(f"{server.url}/v2/{nasty}/manifests/latest")
    raw.get(f"{server.url}/v2/", [("User-Agent", 'x" status=200 \xe9\x85\xad\x9b')])
    server.stop()
    assert all(line.isprintable() for line in server.log_text().splitlines())
    forged, named = [line for line in server.log_text().splitlines() if "/v2/" in line]
    assert nasty in forged  # unchanged, with its escapes
    assert """user_agent='x" status=200 \xe9\\x85\\xad\\x9b'""" in named


@pytest.mark.parametrize("form", ["console", "json"])
@pytest.mark.parametrize("nasty", ["a\r\n\x1b[2J\x85\x9b\xad\u202e b=c", "a\nb", "a\x1b[2J"])
async def test_a_line_is_one_line_whatever_is_in_it(form: Literal["console", "json"], nasty: str) -> None:
    written = StringIO()
    lines = AccessLines(form, written)
    lines.write(made_line(path=nasty, user_agent=nasty))
    lines.close()
    text = written.getvalue()
    assert text.endswith("\n")
    assert text[:-1].isprintable()
    assert form == "console" or json.loads(text)["path"] == nasty
