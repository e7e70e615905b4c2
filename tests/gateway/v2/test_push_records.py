"""Pushes to projects and pulls from them show in the log and in the metrics."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from tests.gateway.v2.pushing import PushSurface, open_surface

NAME = "team/app/image"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def surface(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PushSurface]:
    async with open_surface(tmp_path_factory.mktemp("records") / "data") as surface:
        yield surface


def counted(surface: PushSurface) -> dict[str, float]:
    """The metrics of pushes and pulls of projects, by name and labels."""
    lines = surface.services.metrics.exposition().decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs if "push" in name or "native" in name}


async def test_the_log_names_project_kind_and_bytes(surface: PushSurface) -> None:
    with capture_logs() as events:
        upload = await surface.begin(NAME)
        await surface.call("PATCH", upload, [b"12", b"345"])
        await surface.push_image(NAME, "latest")
        await surface.call("GET", f"{NAME}/manifests/latest")
        await surface.call("DELETE", f"{NAME}/tags/reference/latest")
    lines = [event for event in events if event["event"] == "request"]
    assert {(line["project"], line["group"], line["upstream"]) for line in lines} == {("team/app", None, None)}
    kinds = [(line["method"], line["kind"], line["received"] > 0) for line in lines]
    assert kinds == [
        ("POST", "upload", False),
        ("PATCH", "upload", True),
        ("POST", "upload", True),
        ("POST", "upload", True),
        ("PUT", "manifest", True),
        ("GET", "manifest", False),
        ("DELETE", "tag", False),
    ]
    assert lines[1]["received"] == 5


async def test_the_metrics_count_what_was_pushed_and_pulled(surface: PushSurface) -> None:
    before = counted(surface)
    digest = await surface.push_blob(NAME, b"counted")
    await surface.call("POST", f"team/lib/blobs/uploads/?mount={digest}&from={NAME}")
    await surface.call("POST", f"{NAME}/blobs/uploads/?digest={digest}", b"refused")
    await surface.call("GET", f"{NAME}/blobs/{digest}")
    await surface.call("HEAD", f"{NAME}/blobs/{digest}")
    await surface.push_image(NAME, "counted", text="of the metrics")
    await surface.call("GET", f"{NAME}/manifests/counted")
    grown = {name: value - before[name] for name, value in counted(surface).items() if value != before[name]}
    received = grown.pop("gateway_pushed_bytes_total")
    assert received > len(b"counted") + len(b"refused")
    assert grown.pop('gateway_sent_bytes_total{origin="native"}') > len(b"counted")
    assert grown == {
        'gateway_pushes_total{kind="blob"}': 4.0,
        'gateway_pushes_total{kind="manifest"}': 1.0,
        'gateway_native_pulls_total{kind="blob"}': 1.0,
        'gateway_native_pulls_total{kind="manifest"}': 1.0,
    }
