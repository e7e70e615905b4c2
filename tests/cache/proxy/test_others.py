"""What other images hold does not show: a proof of a right waits and is refused as a fetch would be."""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest

from cache.oci.digest import Digest
from cache.oci.errors import UpstreamUnavailable
from cache.oci.names import RepositoryName, Tag
from cache.runtime.fair_queue import Requester
from cache.upstream.allowance import UNKNOWN
from cache.values import Link
from tests.cache.proxy.bench import BLOB, HIT, MISS, ONE, Bench, until
from tests.cache.samples import ANONYMOUS, LATEST, WEB


def pause(bench: Bench, seconds: float, *, everything: bool = True) -> None:
    """Begin a pause, or end it where the seconds are 0."""
    end = time.time() + seconds if seconds else 0.0
    state = replace(UNKNOWN, began=time.time(), until=end, everything=everything, strikes=1)
    bench.script.ledger.change(ANONYMOUS, lambda _: state if seconds else UNKNOWN)


def get(bench: Bench, what: str) -> Coroutine[Any, Any, Any]:
    repository = bench.open(WEB)
    return repository.blob(BLOB) if what == "blob" else repository.manifest(ONE.descriptor.digest)


@pytest.mark.parametrize("what", ["blob", "manifest"])
async def test_a_proof_waits_for_its_turn_as_a_fetch_does(bench: Bench, what: str) -> None:
    await bench.hold_tag()
    await bench.hold_blob()
    pause(bench, 10)
    proving = asyncio.ensure_future(get(bench, what))
    await until(lambda: sum(bench.shared.waiting_misses().values()) == 1)
    assert bench.script.take_calls() == []
    pause(bench, 0)
    found = await proving
    assert found.status == MISS
    assert bench.script.take_calls() == ["head blob" if what == "blob" else "head"]
    if what == "blob":
        found.blob.close()


async def test_a_miss_that_others_join_waits_for_the_first_turn_of_any_of_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.script.publish(ONE)
    note, requested = bench.script.note, list[RepositoryName]()

    def noted(what: str, image: RepositoryName, reference: Tag | Digest | None = None) -> None:
        requested.append(image)
        note(what, image, reference)

    monkeypatch.setattr(bench.script, "note", noted)
    crowd = [RepositoryName(f"crowd/{number}") for number in range(5)]
    pause(bench, 10)
    waiting = []
    for count, name in enumerate(crowd, 1):
        waiting += await bench.begin(bench.open(name, requester=Requester("a", "1")).manifest(LATEST))
        await until(lambda count=count: bench.shared.waiting_misses().total() == count)  # type: ignore[misc]
    waiting += await bench.begin(bench.open(crowd[-1], requester=Requester("b", "1")).manifest(LATEST))
    pause(bench, 0)
    await asyncio.gather(*waiting)
    assert requested == [crowd[0], crowd[-1], *crowd[1:-1]]


async def test_readers_of_one_blob_wait_for_the_first_turn_of_any_of_them(bench: Bench) -> None:
    pause(bench, 10)
    alone = [bench.open(RepositoryName(f"crowd/{n}"), requester=Requester("a", "1")).manifest(LATEST) for n in range(5)]
    waiting = await bench.begin(*alone)
    readers = [asyncio.ensure_future(bench.open(requester=Requester(group)).blob(BLOB)) for group in "aab"]
    await until(lambda: bench.shared.waiting_misses().total() == len(alone) + 2)
    [queue] = bench.shared.queues.values()
    assert len(queue._shared) == len(alone) + 1
    pause(bench, 0)
    for found in await asyncio.gather(*readers):
        found.blob.close()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_proof_by_a_head_that_is_free_is_refused_while_pulls_are(bench: Bench) -> None:
    await bench.hold_tag()
    pause(bench, 3_000, everything=False)
    with pytest.raises(UpstreamUnavailable, match="pull limit"):
        await get(bench, "manifest")
    assert bench.script.take_calls() == []


@pytest.mark.parametrize("what", ["blob", "manifest"])
async def test_a_right_that_is_recorded_during_the_lookup_needs_no_proof(
    bench: Bench, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.hold_tag()
    await bench.hold_blob()
    linked, asked = bench.index.linked, 0

    async def recorded_after_the_first_question(link: Link) -> bool:
        nonlocal asked
        asked += 1
        found = await linked(link)
        if asked == 1:
            await bench.index.record(link)
        return found

    monkeypatch.setattr(bench.index, "linked", recorded_after_the_first_question)
    found = await get(bench, what)
    assert found.status == HIT
    assert bench.script.take_calls() == []
    if what == "blob":
        found.blob.close()
