"""Garbage: no flood of documents begins a search of all objects; what they leave is found at intervals."""

import asyncio
import gc
import json
import weakref
from collections.abc import Iterator

import pytest

from gateway.processes.garbage import search_at_intervals, search_rarely


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)


class Node:
    """An object that refers to itself."""

    def __init__(self) -> None:
        self.itself = self


def test_documents_of_many_objects_begin_no_search_of_all() -> None:
    document = json.dumps([{"a": []}] * 100_000)
    gc.collect()
    search_rarely()
    before = gc.get_stats()[2]["collections"]
    documents = [json.loads(document) for _ in range(3)]
    assert len(documents) == 3
    assert gc.get_stats()[2]["collections"] == before


async def test_cycles_that_have_lived_for_long_are_found_at_intervals() -> None:
    search_rarely()
    node, ended = Node(), asyncio.Event()
    gc.collect(1)
    gc.collect(1)  # the oldest generation has it now
    weakref.finalize(node, ended.set)
    del node
    searching = asyncio.ensure_future(search_at_intervals(0.0))
    async with asyncio.timeout(10):
        await ended.wait()
    searching.cancel()
