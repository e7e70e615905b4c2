"""Flows: work on documents, which a task does elsewhere where it may take long."""

import asyncio
import gzip
import threading
import tracemalloc
from concurrent.futures import Future
from typing import Any

import pytest

from cache.oci.document import OFF_LOOP_BYTES
from cache.upstream.egress import Egress, Response
from cache.upstream.errors import Unavailable
from cache.upstream.flow import Compute, Flow, Obtain, Open, Step, Wait, carry_out, carry_out_blocking, decompressed
from cache.upstream.reach import Reach
from tests.parts.liar import Liar


def computed(function: Any, size: int) -> Flow[Any]:
    return (yield Compute(function, size))


async def test_large_documents_are_computed_outside_the_event_loop_one_at_a_time() -> None:
    egress, here = Egress(Reach()), threading.current_thread()
    assert await carry_out(computed(threading.current_thread, OFF_LOOP_BYTES - 1), egress) is here
    elsewhere = await carry_out(computed(threading.current_thread, OFF_LOOP_BYTES), egress)
    assert elsewhere is not here
    assert await carry_out(computed(threading.current_thread, OFF_LOOP_BYTES), egress) is elsewhere
    assert carry_out_blocking(computed(threading.current_thread, OFF_LOOP_BYTES), egress) is here
    await egress.close()


async def test_a_credential_that_is_long_in_coming_delays_no_document() -> None:
    egress, asked, printed = Egress(Reach()), threading.Event(), threading.Event()

    def credential() -> str:
        asked.set()
        return "printed" if printed.wait(10) else "late"

    def obtained() -> Flow[str]:
        found: str = yield Obtain(credential)
        return found

    obtaining = asyncio.create_task(carry_out(obtained(), egress))
    assert await asyncio.to_thread(asked.wait, 10)
    assert await carry_out(computed(lambda: "parsed", OFF_LOOP_BYTES), egress) == "parsed"
    assert not obtaining.done()
    printed.set()
    assert await obtaining == "printed"
    assert carry_out_blocking(obtained(), egress) == "printed"
    await egress.close()


@pytest.mark.parametrize("size", [1, OFF_LOOP_BYTES])
async def test_an_error_is_raised_inside_the_flow(size: int) -> None:
    def fail() -> None:
        raise ValueError("no")

    def flow() -> Flow[str]:
        try:
            yield Compute(fail, size)
        except ValueError as error:
            return str(error)
        return ""

    egress = Egress(Reach())
    assert await carry_out(flow(), egress) == "no"
    await egress.close()


def opened_and_left(liar: Liar, opened: list[Response], after: Step) -> Flow[None]:
    opened.append((yield Open("GET", f"{liar.url}/v2/")))
    yield after


def fail() -> None:
    raise Unavailable("no")


async def test_a_flow_that_fails_leaves_no_response_open(liar: Liar) -> None:
    egress, opened = Egress(Reach(private_addresses=True)), list[Response]()
    with pytest.raises(Unavailable):
        await carry_out(opened_and_left(liar, opened, Compute(fail, 1)), egress)
    with pytest.raises(Unavailable):
        await asyncio.to_thread(carry_out_blocking, opened_and_left(liar, opened, Compute(fail, 1)), egress)
    assert [response.is_closed for response in opened] == [True, True]
    await egress.close()


async def test_a_flow_that_is_cancelled_leaves_no_response_open(liar: Liar) -> None:
    egress, opened = Egress(Reach(private_addresses=True)), list[Response]()
    waits = asyncio.Event()

    def flow() -> Flow[None]:
        yield from opened_and_left(liar, opened, Compute(waits.set, 1))
        yield Wait(Future())

    task = asyncio.create_task(carry_out(flow(), egress))
    await asyncio.wait_for(waits.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert opened[0].is_closed
    await egress.close()


def test_a_document_is_decompressed_up_to_its_limit_and_no_further() -> None:
    bomb = gzip.compress(bytes(100_000_000))
    tracemalloc.start()
    assert decompressed(bomb, 1_000_000) is None
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    assert decompressed(gzip.compress(b"text"), 4) == b"text"
    assert decompressed(gzip.compress(b"text"), 3) is None
    with pytest.raises(Unavailable, match="ended early"):
        decompressed(gzip.compress(b"text")[:-1], 4)
