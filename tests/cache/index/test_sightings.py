"""Sightings under a clock that was wrong for a while: none is of the future, or of before the history began."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from cache.index import sightings
from cache.index.sql import SqlIndex
from cache.oci.names import RepositoryName, Tag
from cache.values import Sighting, TagPointer
from tests.cache.samples import ANONYMOUS, APP, LATEST, NOON, WEB, manifest_of

ONE, TWO = manifest_of("one").descriptor, manifest_of("two").descriptor
YEARS, DAY = timedelta(days=9999), timedelta(days=1)
CREATED = NOON - 9 * DAY


class History:
    """An index whose first sighting is of CREATED, under a clock that a test sets."""

    def __init__(self, path: Path) -> None:
        self.now = CREATED
        self.index = SqlIndex(path, clock=lambda: self.now.timestamp())

    async def see(self, now: datetime, target: object = ONE, tag: Tag = LATEST, image: RepositoryName = APP) -> None:
        self.now = now
        await self.index.record(replace(TagPointer(ANONYMOUS, image, tag, ONE, now), target=target))

    async def seen(self, now: datetime) -> list[Sighting]:
        self.now = now
        return [found for found in await self.index.sightings(ANONYMOUS, APP) if found.tag == LATEST]


@pytest.fixture
async def history(tmp_path: Path) -> AsyncIterator[History]:
    history = History(tmp_path / "cache.db")
    await history.see(CREATED, tag=Tag("old"))
    yield history
    history.index.close()


@pytest.mark.parametrize("wrong", [NOON + YEARS, CREATED - DAY, datetime.fromtimestamp(0, NOON.tzinfo)])
async def test_a_sighting_by_a_wrong_clock_counts_as_one_of_now(history: History, wrong: datetime) -> None:
    await history.see(wrong)
    for now in (NOON, NOON + DAY):
        assert all(found.first_seen == found.last_seen == now for found in await history.seen(now) if wrong > now)
        assert all(found.first_seen == now for found in await history.seen(now))
    await history.see(NOON + 2 * DAY)
    assert await history.seen(NOON + 4 * DAY) == [Sighting(LATEST, ONE.digest, NOON + 2 * DAY, NOON + 2 * DAY)]


async def test_a_moment_of_a_wrong_clock_leaves_the_first_sighting_as_it_was(history: History) -> None:
    await history.see(NOON)
    await history.see(NOON + YEARS)
    await history.see(NOON + DAY)
    await history.see(NOON + YEARS, TWO)
    await history.see(NOON + 2 * DAY, TWO)
    assert await history.seen(NOON + 3 * DAY) == [
        Sighting(LATEST, ONE.digest, NOON, NOON + DAY),
        Sighting(LATEST, TWO.digest, NOON + 2 * DAY, NOON + 2 * DAY),
    ]


async def test_a_time_that_another_digest_interrupts_begins_anew_and_the_longest_is_kept(history: History) -> None:
    for day, target in enumerate((ONE, ONE, ONE, TWO, ONE, TWO, TWO)):
        await history.see(NOON + day * DAY, target)
    assert await history.seen(NOON + 9 * DAY) == [
        Sighting(LATEST, ONE.digest, NOON + 4 * DAY, NOON + 4 * DAY, 2 * DAY),
        Sighting(LATEST, TWO.digest, NOON + 5 * DAY, NOON + 6 * DAY),
    ]
    for target, longest in ((ONE, 2 * DAY), (TWO, timedelta(0))):
        [found] = await history.index.ancestors(ANONYMOUS, APP, target.digest)
        assert found.longest == longest


async def test_a_time_under_a_clock_of_the_future_is_not_the_longest(history: History) -> None:
    await history.see(NOON)
    await history.see(NOON + YEARS)
    await history.see(NOON + YEARS + DAY, TWO)
    await history.see(NOON + YEARS + 2 * DAY)
    for day in (1, 2):
        assert all(found.longest == timedelta(0) for found in await history.seen(NOON + day * DAY))
        [found] = await history.index.ancestors(ANONYMOUS, APP, ONE.digest)
        assert found.longest == timedelta(0)
        await history.see(NOON + (day + 0.5) * DAY)


async def test_a_history_that_began_under_a_wrong_clock_keeps_no_tag_from_growing_older(tmp_path: Path) -> None:
    history = History(tmp_path / "cache.db")
    await history.see(NOON + YEARS)
    await history.see(NOON)
    await history.see(NOON + DAY)
    assert await history.seen(NOON + 2 * DAY) == [Sighting(LATEST, ONE.digest, NOON, NOON + DAY)]
    history.index.close()


async def test_a_pointer_of_the_future_is_overwritten(history: History) -> None:
    await history.see(NOON + YEARS)
    await history.see(NOON, TWO)
    for index in (history.index, SqlIndex(history.index.path)):
        pointer = await index.find_pointer(ANONYMOUS, APP, LATEST)
        assert pointer == TagPointer(ANONYMOUS, APP, LATEST, TWO, NOON)
    index.close()


async def test_the_oldest_sightings_are_deleted_where_there_are_too_many(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sightings, "KEPT_IN_ALL", 10)
    monkeypatch.setattr(sightings, "TRIM_EVERY", 5)
    for number in range(30):
        await history.see(NOON + timedelta(minutes=number), tag=Tag(f"t{number}"))
    found = {sighting.tag.text for sighting in await history.index.sightings(ANONYMOUS, APP)}
    assert len(found) <= 15
    assert "t29" in found
    assert "old" not in found


async def test_a_flood_of_tags_makes_no_other_image_forget_its_sightings(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sightings, "KEPT_IN_ALL", 20)
    monkeypatch.setattr(sightings, "TRIM_EVERY", 5)
    await history.see(NOON)
    await history.see(NOON + timedelta(minutes=1), TWO)
    for number in range(50):
        await history.see(NOON + timedelta(minutes=2 + number), tag=Tag(f"t{number}"), image=WEB)
    assert [sighting.digest for sighting in await history.seen(NOON + DAY)] == [ONE.digest, TWO.digest]
    found = {sighting.tag.text for sighting in await history.index.sightings(ANONYMOUS, WEB)}
    assert len(found) <= 23
    assert "t49" in found
    assert "t0" not in found
