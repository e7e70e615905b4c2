"""Records of lists: found again by another process, bounded for each image and in all, deleted with the image."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from cache.index import lists
from cache.index.admin import CacheAdmin
from cache.index.lists import ListRecord
from cache.index.records import LIST_SECONDS
from cache.index.sql import SqlIndex
from cache.oci.names import RepositoryName
from tests.cache.samples import ALICE, ANONYMOUS, APP, NOON, WEB

QUERY = "tags n=1000"
FOUND = ListRecord(b"content", NOON)


@pytest.fixture
async def index(tmp_path: Path) -> AsyncIterator[SqlIndex]:
    index = SqlIndex(tmp_path / "cache.db")
    yield index
    index.close()


async def test_a_list_is_found_under_its_image_credential_and_query_alone(index: SqlIndex) -> None:
    await index.lists.record(ALICE, APP, QUERY, FOUND)
    assert await index.lists.find(ALICE, APP, QUERY) == FOUND
    other = SqlIndex(index.path)
    assert await other.lists.find(ALICE, APP, QUERY) == FOUND
    other.close()
    for source, image, query in ((ANONYMOUS, APP, QUERY), (ALICE, WEB, QUERY), (ALICE, APP, "tags ")):
        assert await index.lists.find(source, image, query) is None


async def test_a_later_list_takes_the_place_of_an_earlier_one(index: SqlIndex) -> None:
    later = ListRecord(b"more", NOON + timedelta(seconds=1))
    for found in (FOUND, later):
        await index.lists.record(ALICE, APP, QUERY, found)
    assert await index.lists.find(ALICE, APP, QUERY) == later


async def test_a_list_that_has_not_changed_is_written_once_a_minute(index: SqlIndex) -> None:
    for seconds, written in ((0, 0), (59, 0), (60, 60), (119, 60)):
        await index.lists.record(ALICE, APP, QUERY, ListRecord(b"content", NOON + timedelta(seconds=seconds)))
        found = await index.lists.find(ALICE, APP, QUERY)
        assert found
        assert found.checked_at == NOON + timedelta(seconds=written)


async def test_lists_are_deleted_with_their_image(index: SqlIndex) -> None:
    for number in range(3):
        for image in (APP, WEB):
            await index.lists.record(ALICE, image, f"tags {number}", FOUND)
    await index.forget(ALICE, APP)
    assert [await index.lists.find(ALICE, APP, f"tags {number}") for number in range(3)] == [None] * 3
    assert await index.lists.find(ALICE, WEB, "tags 0") == FOUND
    await index.lists.forget(ALICE, WEB)
    assert await index.lists.find(ALICE, WEB, "tags 0") is None
    await index.lists.record(ALICE, WEB, "tags 0", FOUND)
    CacheAdmin(index.path).remove(ALICE, WEB, [], [])
    assert await index.lists.find(ALICE, WEB, "tags 0") is None


async def test_one_image_has_a_limited_number_of_lists(index: SqlIndex) -> None:
    await index.lists.record(ALICE, WEB, QUERY, FOUND)
    for number in range(lists.LISTS_OF_IMAGE + 5):
        later = ListRecord(b"content", NOON + timedelta(seconds=number))
        await index.lists.record(ALICE, APP, f"tags {number}", later)
    kept = [await index.lists.find(ALICE, APP, f"tags {number}") for number in range(lists.LISTS_OF_IMAGE + 5)]
    assert [found is not None for found in kept] == [False] * 5 + [True] * lists.LISTS_OF_IMAGE
    assert await index.lists.find(ALICE, WEB, QUERY) == FOUND


async def test_all_lists_together_take_a_limited_number_of_bytes(index: SqlIndex) -> None:
    count = lists.BYTES_IN_ALL // lists.LIST_BYTES
    for number in range(count + 2):
        large = ListRecord(b"%d" % number + bytes(lists.LIST_BYTES - 2), NOON + timedelta(seconds=number))
        await index.lists.record(ALICE, RepositoryName(f"image{number}"), QUERY, large)
    held = [await index.lists.find(ALICE, RepositoryName(f"image{number}"), QUERY) for number in range(count + 2)]
    assert sum(len(found.content) for found in held if found) <= lists.BYTES_IN_ALL
    assert held[:2] == [None, None]
    assert held[-1]
    await index.lists.record(ALICE, APP, QUERY, ListRecord(bytes(lists.LIST_BYTES + 1), NOON))
    assert await index.lists.find(ALICE, APP, QUERY) is None


async def test_old_lists_are_swept_with_their_image(index: SqlIndex) -> None:
    admin = CacheAdmin(index.path)
    await index.lists.record(ALICE, APP, QUERY, FOUND)
    assert admin.sweep_records(NOON.timestamp() + LIST_SECONDS - 1) == 0
    assert admin.sweep_records(NOON.timestamp() + LIST_SECONDS + 1) == 2
    assert admin.images() == []
