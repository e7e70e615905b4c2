"""Requests of other gateways, which may wait for content that itself waits for those gateways."""

import asyncio
import time

import pytest

from cache.oci.errors import InCircle
from cache.proxy import circles
from cache.proxy.circles import NOTHING
from cache.upstream.errors import CameBack, NotFound, UpstreamError
from cache.upstream.loops import passing_on
from tests.cache.download.scripted import ScriptedBody
from tests.cache.proxy.bench import BLOB, CONTENT, Bench, content, until
from tests.cache.samples import APP, LATEST

OTHER = "registry-gateway-0000000000000002"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circles, "CHECK_AFTER", 0.01)


async def test_a_manifest_that_waits_for_the_gateway_that_requests_it_is_refused(bench: Bench) -> None:
    bench.script.failures["head blob", APP, NOTHING] = CameBack("upstream.example responded with 508")
    bench.script.hold("get")
    own = asyncio.create_task(bench.open().manifest(LATEST))
    await until(lambda: bench.script.waiting("get"))
    began = time.monotonic()
    with passing_on([OTHER]), pytest.raises(InCircle, match="waits for the gateway that sent this request on"):
        await bench.open().manifest(LATEST)
    assert time.monotonic() - began < 5
    assert not own.done()
    bench.script.release("get")
    await asyncio.gather(own, return_exceptions=True)
    await until(lambda: len(bench.tasks) == 0)


async def test_a_blob_that_waits_for_the_gateway_that_requests_it_is_refused(bench: Bench) -> None:
    bench.script.failures["head blob", APP, NOTHING] = CameBack("upstream.example responded with 508")
    body = bench.script.bodies[APP] = ScriptedBody(len(CONTENT), responds=False)
    own = asyncio.create_task(bench.open().blob(BLOB))
    await until(lambda: len(bench.flights) == 1)
    with passing_on([OTHER]), pytest.raises(InCircle):
        await bench.open().blob(BLOB)
    body.respond()
    body.send(CONTENT)
    body.end()
    assert await content(await own) == CONTENT


@pytest.mark.parametrize("failure", [None, NotFound("nothing there")])
async def test_a_request_of_another_gateway_waits_on_where_there_is_no_circle(
    bench: Bench, failure: UpstreamError | None
) -> None:
    if failure is not None:
        bench.script.failures["head blob", APP, NOTHING] = failure
    bench.script.hold("get")
    with passing_on([OTHER]):
        waiting = asyncio.create_task(bench.open().manifest(LATEST))
    await until(lambda: "head blob" in bench.script.calls)
    bench.script.release("get")
    assert (await asyncio.gather(waiting, return_exceptions=True))[0] is not None
    assert bench.script.take_calls().count("head blob") == 1


async def test_a_request_of_a_client_sends_nothing_ahead(bench: Bench) -> None:
    bench.script.hold("get")
    waiting = asyncio.create_task(bench.open().manifest(LATEST))
    await until(lambda: bench.script.waiting("get"))
    await asyncio.sleep(0.1)
    bench.script.release("get")
    await asyncio.gather(waiting, return_exceptions=True)
    assert "head blob" not in bench.script.calls
