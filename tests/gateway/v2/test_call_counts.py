"""The cost of pulls that are warm, in calls of our own functions: the same on each machine, however busy it is."""

import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from types import FrameType

import pytest
import pytest_asyncio

from cache.oci.media_types import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from gateway.auth.principal import ANONYMOUS
from gateway.v2.opener import RegistryOptions
from gateway.wiring.app import create_app
from tests.gateway.asgi import Client, scope_of
from tests.gateway.v2.pushing import ROOTS, PushSurface, open_surface

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[3]
OURS = tuple(f"{ROOT / room}/" for room in ("gateway", "cache"))
HEADERS = [
    ("Host", "127.0.0.1:8080"),
    ("User-Agent", "containerd/2.0"),
    ("Accept", ", ".join((DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX, "*/*"))),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def surface(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PushSurface]:
    async with open_surface(tmp_path_factory.mktemp("calls") / "data") as surface:
        yield surface


async def calls(surface: PushSurface, method: str, path: str, who: str | None) -> Counter[str]:
    """The calls of our functions that a warm request makes, by what is called."""
    counted: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(OURS):
            counted[f"{frame.f_code.co_filename}:{frame.f_code.co_qualname}"] += 1

    app = create_app(surface.services, ROOTS, RegistryOptions(open_proxy=True), log_access=lambda line: None)
    surface.presented.principal = ANONYMOUS if who is None else surface.person(who)
    for is_warm in (False, False, True):
        client = Client(scope_of(method, f"/v2/{path}", HEADERS))
        if is_warm:
            sys.setprofile(count)
        try:
            response = await client.request(app)
        finally:
            sys.setprofile(None)
        assert response.status == 200
    return counted


def ends_of(counted: Counter[str], name: str) -> int:
    return sum(number for called, number in counted.items() if called.endswith(name))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_cached_tag_costs_few_calls(surface: PushSurface, method: str) -> None:
    await surface.cache_manifest("library/counted", "latest")
    counted = await calls(surface, method, "hub/dependency_proxy/containers/library/counted/manifests/latest", None)
    assert counted.total() <= 130, counted.most_common()
    assert ends_of(counted, "first_headers.<locals>.<dictcomp>") == 1
    assert ends_of(counted, "on_behalf_of") == 1


async def test_a_stored_tag_costs_few_calls_and_one_look_for_changes(surface: PushSurface) -> None:
    await surface.push_image("team/app/counted", "latest")
    counted = await calls(surface, "GET", "team/app/counted/manifests/latest", "reporter")
    assert counted.total() <= 185, counted.most_common()
    assert ends_of(counted, "SqliteSignal.refresh") == 1
    assert ends_of(counted, "first_headers.<locals>.<dictcomp>") == 1
