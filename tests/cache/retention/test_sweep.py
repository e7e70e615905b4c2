"""The sweep over a real index and real files: what is evicted, what stays, and that nothing is left half done."""

import asyncio
import fcntl
import itertools
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from cache.events import CacheEvents, CacheLevel
from cache.index import maintenance
from cache.index.admin import CacheAdmin
from cache.index.maintenance import CachedItem, CacheMaintenance
from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.oci.media_types import OCI_INDEX
from cache.oci.names import Tag
from cache.retention import sweep
from cache.retention.eviction import EvictionLimits
from cache.retention.sweep import Evictor, Sweeper, SweepTimings, prefixes
from cache.runtime.disk import DiskSpace
from cache.runtime.locks import ProcessRole
from cache.sqlite import DatabaseUnusable
from cache.values import BlobInfo, Link, TagPointer
from tests.cache.keeper import Keeper
from tests.cache.samples import ALICE, ANONYMOUS, APP, LATEST, NOON, WEB, manifest_of, open_descriptors

SIZE = 1000


@pytest.fixture
async def keeper(tmp_path: Path) -> AsyncIterator[Keeper]:
    before = open_descriptors()
    keeper = Keeper(tmp_path, max_size=10 * SIZE)
    yield keeper
    keeper.close()
    assert open_descriptors() <= before


def tidy(keeper: Keeper, *digests: Digest) -> None:
    """Tidy the folders of these digests."""
    for prefix in prefixes():
        if any(str(digest).startswith(prefix) for digest in digests):
            keeper.evictor.tidy(prefix)


@pytest.fixture
def few_folders(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that a search for room walks, which are 512 otherwise."""
    few = prefixes()[:4]
    monkeypatch.setattr(sweep, "prefixes", lambda: few)
    return few


async def test_below_the_cap_nothing_is_evicted(keeper: Keeper) -> None:
    digests = [await keeper.put(seed=number) for number in range(10)]
    assert keeper.evictor.sweep() == 0
    assert all(await keeper.held(*digests))
    assert keeper.evicted == []


async def test_above_the_cap_the_least_worth_are_evicted_down_to_the_low_mark(keeper: Keeper) -> None:
    digests = [await keeper.put(seed=number, age=1000 - number) for number in range(12)]
    assert keeper.evictor.sweep() == 3 * SIZE
    assert await keeper.held(*digests) == [False] * 3 + [True] * 9
    assert keeper.evictor.level().size == 9 * SIZE
    assert keeper.evicted == [(3, 3 * SIZE)]


async def test_the_totals_are_those_of_all_rows_whoever_wrote_them(keeper: Keeper) -> None:
    one, two = await keeper.put(500, seed=1), await keeper.put(700, seed=2)
    await keeper.index.record(BlobInfo(one, 500))
    manifest = manifest_of("one")
    await keeper.index.record(manifest)
    await keeper.index.record(manifest)
    assert keeper.maintenance.filled().bytes == 1200 + len(manifest.raw)
    assert keeper.maintenance.filled().blobs == 2
    keeper.maintenance.remove([one, manifest.descriptor.digest])
    assert (keeper.maintenance.filled().bytes, keeper.maintenance.filled().blobs) == (700, 1)
    assert await keeper.held(two) == [True]


async def test_rows_whose_files_are_gone_count_for_the_cap_but_make_no_room(keeper: Keeper) -> None:
    digests = [await keeper.put(seed=number, age=1000 - number) for number in range(12)]
    for digest in digests[:3]:
        keeper.file(digest).unlink()
    assert keeper.evictor.sweep() == 3 * SIZE
    assert await keeper.held(*digests) == [False] * 3 + [True] * 9
    keeper.file(digests[3]).unlink()
    assert keeper.evictor.make_room(1) == SIZE
    assert await keeper.held(*digests[3:6]) == [False, False, True]


async def test_a_blob_that_is_being_read_stays_until_it_is_closed(keeper: Keeper) -> None:
    digests = [await keeper.put(seed=number, age=1000 - number) for number in range(12)]
    reading = keeper.store.open(digests[0])
    assert reading is not None
    keeper.evictor.sweep()
    assert await keeper.held(*digests[:5]) == [True, False, False, False, True]
    reading.close()
    await keeper.put(seed="more")
    await keeper.put(seed="still more")
    keeper.evictor.sweep()
    assert await keeper.held(digests[0]) == [False]


async def test_what_another_process_reads_stays(keeper: Keeper) -> None:
    """Each open file has a lock of its own, so a second descriptor here is as good as another process."""
    digest = await keeper.put(20 * SIZE, age=1000)
    descriptor = os.open(keeper.file(digest), os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    assert keeper.evictor.sweep() == 0
    os.close(descriptor)
    assert keeper.evictor.sweep() == 20 * SIZE


async def test_a_blob_larger_than_the_cap_is_evicted_alone(keeper: Keeper) -> None:
    small = [await keeper.put(seed=number, age=1000) for number in range(8)]
    large = await keeper.put(11 * SIZE)
    keeper.evictor.sweep()
    assert await keeper.held(large, *small) == [False] + [True] * 8


@pytest.mark.parametrize("reference", ["", "latest", "digest"])
async def test_what_is_pinned_stays_with_all_below_it(keeper: Keeper, reference: str) -> None:
    manifest = manifest_of("pinned")
    assert manifest.config
    await keeper.put_image(manifest, "latest", age=5000)
    config = keeper.write(b"pinned")
    assert config == manifest.config.digest
    await keeper.index.record(BlobInfo(config, 6), Link(ANONYMOUS, APP, config))
    keeper.used(config, 5000)
    digest = manifest.descriptor.digest
    keeper.pin(ANONYMOUS, APP, str(digest) if reference == "digest" else reference)
    other = [await keeper.put(seed=number, age=10, image=WEB) for number in range(12)]
    keeper.evicting(EvictionLimits(0)).sweep()
    assert await keeper.held(config, *other) == [True] + [False] * 12
    assert await keeper.index.find_manifest(digest) == manifest
    assert keeper.maintenance.manifest_bytes(digest) == manifest.raw


async def test_a_pin_protects_what_is_below_an_entry_of_a_foreign_media_type(keeper: Keeper) -> None:
    child = manifest_of("child")
    entry = {"mediaType": "application/x", "digest": str(child.descriptor.digest), "size": len(child.raw)}
    index = Manifest.parse(OCI_INDEX, json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode())
    await keeper.put_image(index, "latest", age=5000)
    await keeper.put_image(child, "child", age=5000)
    config = keeper.write(b"child")
    await keeper.index.record(BlobInfo(config, 5), Link(ANONYMOUS, APP, config))
    keeper.used(config, 5000)
    keeper.pin(ANONYMOUS, APP, "latest")
    await keeper.index.forget(ANONYMOUS, APP, Tag("child"))
    keeper.evicting(EvictionLimits(0)).sweep()
    assert await keeper.held(config) == [True]
    assert config in CacheAdmin(keeper.folder / "cache.db").closure([index.descriptor.digest])


async def test_a_pin_tells_what_it_protects(keeper: Keeper) -> None:
    manifest = manifest_of("pinned")
    assert manifest.config
    admin = CacheAdmin(keeper.folder / "cache.db")
    digest = manifest.descriptor.digest
    await keeper.index.record(manifest, Link(ANONYMOUS, APP, digest))
    assert admin.pin(ANONYMOUS, APP, "latest") == set()
    everything = {digest, *(entry.digest for entry in manifest.references())}
    assert [admin.pin(ANONYMOUS, APP, reference) for reference in ("", str(digest))] == [everything, everything]


async def test_a_pinned_tag_that_is_gone_upstream_is_pinned_as_what_it_was(keeper: Keeper) -> None:
    manifest = manifest_of("pinned")
    await keeper.put_image(manifest, "latest")
    keeper.pin(ANONYMOUS, APP, "latest")
    await keeper.index.forget(ANONYMOUS, APP, LATEST)
    keeper.evicting(EvictionLimits(0)).sweep()
    assert keeper.maintenance.manifest_bytes(manifest.descriptor.digest) == manifest.raw


async def test_what_is_gone_upstream_is_evicted_last_until_a_tag_points_to_it_again(keeper: Keeper) -> None:
    manifest = manifest_of("gone")
    assert manifest.config
    await keeper.put_image(manifest, "latest", age=5000)
    config = keeper.write(b"gone")
    await keeper.index.record(BlobInfo(config, 4), Link(ANONYMOUS, APP, config))
    keeper.used(config, 5000)
    await keeper.index.forget(ANONYMOUS, APP, LATEST)
    others = [await keeper.put(seed=number, age=10) for number in range(12)]
    keeper.evictor.sweep()
    assert await keeper.held(config) == [True]
    assert keeper.maintenance.manifest_bytes(manifest.descriptor.digest) is not None
    assert (await keeper.held(*others)).count(False) > 0
    await keeper.put_image(manifest, "again", age=5000)
    await keeper.put(5 * SIZE)
    keeper.evictor.sweep()
    assert await keeper.held(config) == [False]


async def test_what_is_gone_upstream_is_evicted_where_nothing_else_makes_room(keeper: Keeper) -> None:
    manifest = manifest_of("gone")
    await keeper.put_image(manifest, "latest")
    await keeper.index.forget(ANONYMOUS, APP, LATEST)
    keeper.evicting(EvictionLimits(1)).sweep()
    assert keeper.maintenance.manifest_bytes(manifest.descriptor.digest) is None


async def test_what_was_not_used_for_too_long_is_evicted(keeper: Keeper) -> None:
    old, young = await keeper.put(seed="old", age=500), await keeper.put(seed="young", age=50)
    assert keeper.evicting(EvictionLimits(1 << 40, max_unused=100)).sweep() == SIZE
    assert await keeper.held(old, young) == [False, True]


async def test_an_evicted_manifest_takes_its_tag_along(keeper: Keeper) -> None:
    await keeper.put_image(manifest_of("one"), "latest", age=5000)
    keeper.evicting(EvictionLimits(1)).sweep()
    keeper.index.close()
    again = Keeper.reopened(keeper)
    assert await again.find_pointer(ANONYMOUS, APP, LATEST) is None
    assert await again.find_manifest(manifest_of("one").descriptor.digest) is None
    again.close()


async def test_links_of_all_images_are_deleted_with_the_bytes(keeper: Keeper) -> None:
    digest = await keeper.put(20 * SIZE)
    await keeper.index.record(Link(ALICE, WEB, digest))
    keeper.evictor.sweep()
    assert keeper.maintenance.images_of(digest) == []


# Room.


async def test_what_exceeds_the_cap_or_all_that_can_be_free_cannot_be_kept(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    await keeper.put(3 * SIZE)
    keeper.quarantine.take_bytes(bytes(SIZE), "wrong")
    monkeypatch.setattr(sweep, "disk_space", lambda _: DiskSpace(2 * SIZE, 1 << 40, 0, 0))
    evictor = keeper.evicting(EvictionLimits(10 * SIZE, reserve=SIZE))
    assert evictor.can_keep(5 * SIZE)
    assert not evictor.can_keep(5 * SIZE + 1)
    assert evictor.can_keep(8 * SIZE, present=3 * SIZE)
    assert evictor.can_keep(10 * SIZE, present=8 * SIZE)
    assert not evictor.can_keep(10 * SIZE + 1, present=10 * SIZE)
    full = keeper.evicting(EvictionLimits(10 * SIZE, reserve=6 * SIZE))
    assert full.can_keep(2 * SIZE)
    assert not full.can_keep(2 * SIZE + 1)


async def test_room_is_made_for_what_is_wanted(keeper: Keeper) -> None:
    digests = [await keeper.put(seed=number, age=1000 - number) for number in range(8)]
    with capture_logs() as logs:
        assert keeper.evictor.make_room(2500) == 3 * SIZE
    assert {"event": "room_made", "bytes": 3 * SIZE, "wanted": 2500, "log_level": "info"} in logs
    told = [line["digests"] for line in logs if line["event"] == "evicted_for_room"]
    assert told == [[str(digest) for digest in digests[:3]]]
    assert await keeper.held(*digests) == [False] * 3 + [True] * 5


@pytest.mark.usefixtures("few_folders")
async def test_no_room_is_made_of_nothing(keeper: Keeper) -> None:
    assert keeper.evictor.make_room(1) == 0


async def at_once(keeper: Keeper, monkeypatch: pytest.MonkeyPatch, requests: Sequence[Callable[[], int]]) -> list[int]:
    """Requests room several times before the first one gets its turn; returns what each of them freed."""
    asked, counts = threading.Semaphore(0), sweep._counts

    def counting(path: Path) -> sweep.RoomCounts:
        before = counts(path)
        asked.release()
        return before

    with monkeypatch.context() as patches:
        patches.setattr(sweep, "_counts", counting)
        with sweep.locked(keeper.folder / "evict.lock"):
            running = [asyncio.ensure_future(asyncio.to_thread(request)) for request in requests]
            for _ in requests:
                assert await asyncio.to_thread(asked.acquire, timeout=30)
        return await asyncio.gather(*running)


async def test_many_requests_for_room_at_once_evict_once(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = [await keeper.put(seed=number, age=1000 - number) for number in range(9)]
    others = [keeper.evictor, keeper.evicting(EvictionLimits(10 * SIZE))]
    freed = await at_once(keeper, monkeypatch, [partial(other.make_room, 2000) for other in [*others, *others]])
    assert all(count >= 2000 for count in freed)
    assert (await keeper.held(*digests)).count(False) == 2


@pytest.mark.parametrize("fails", [False, True])
async def test_many_requests_for_room_at_once_search_once_where_there_is_none(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    searches = 0

    def search(evictor: sweep.Evictor, goal: int) -> int:
        nonlocal searches
        searches += 1
        if fails:
            raise DatabaseUnusable("the disk is full")
        return 0

    monkeypatch.setattr(sweep.Evictor, "_free_disk", search)
    others = [keeper.evictor, keeper.evicting(EvictionLimits(10 * SIZE))]
    requests = [partial(other.make_room, 2000) for other in [*others, *others]]
    assert await at_once(keeper, monkeypatch, requests) == [0] * 4
    assert searches == 1
    assert keeper.evictor.make_room(2000) == 0
    assert searches == 2


async def test_room_is_not_made_of_manifests_which_take_none_on_the_disk(
    keeper: Keeper, few_folders: list[str]
) -> None:
    few_folders += [prefix for prefix in prefixes() if str(manifest_of("one").descriptor.digest).startswith(prefix)]
    await keeper.put_image(manifest_of("one"), "latest", age=5000)
    assert keeper.evictor.make_room(1) == 0
    assert keeper.maintenance.manifest_bytes(manifest_of("one").descriptor.digest) is not None


async def test_files_that_nobody_knows_and_the_quarantine_make_room_at_need(keeper: Keeper) -> None:
    lost = keeper.write(b"lost" * 5000)
    keeper.age_file(lost, 2 * sweep.ORPHAN_SECONDS)
    keeper.quarantine.take_bytes(b"x" * 100, "wrong")
    assert keeper.evictor.make_room(200) >= 100
    assert not keeper.file(lost).exists()
    assert list((keeper.folder / "quarantine").iterdir()) == []


class FailingRemoval(CacheMaintenance):
    """An index from which nothing can be removed as long as a file exists."""

    def __init__(self, keeper: Keeper, file: Path, reason: str) -> None:
        super().__init__(keeper.folder / "cache.db", keeper.usage)
        self._file = file
        self._reason = reason

    def remove(self, digests: Sequence[Digest], unless: Callable[[Digest], bool] = lambda _: False) -> list[Digest]:
        if self._file.exists():
            raise DatabaseUnusable(self._reason)
        return super().remove(digests, unless)


async def test_where_a_full_disk_stops_the_index_the_file_is_deleted_first(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = await keeper.put()
    monkeypatch.setattr(sweep, "disk_space", lambda folder: DiskSpace(0, 0, 0, 0))
    with closing(FailingRemoval(keeper, keeper.file(digest), "database or disk is full")) as maintenance:
        assert keeper.evicting(EvictionLimits(10 * SIZE), maintenance=maintenance).make_room(1) == SIZE
    assert await keeper.held(digest) == [False]


def give_another_name(keeper: Keeper, *digests: Digest) -> None:
    """Link the files as a mount of the blobs does."""
    for digest in digests:
        os.link(keeper.file(digest), keeper.folder / digest.hex)


async def test_files_with_another_name_count_for_the_cap_but_make_no_room(keeper: Keeper) -> None:
    digests = [await keeper.put(seed=number, age=1000 - number) for number in range(12)]
    give_another_name(keeper, *digests[:4])
    assert keeper.evictor.sweep() == 3 * SIZE
    assert await keeper.held(*digests) == [False] * 3 + [True] * 9
    assert keeper.evictor.make_room(1) == SIZE
    assert await keeper.held(*digests[3:6]) == [False, False, True]


async def test_a_file_without_a_row_that_has_another_name_frees_nothing(keeper: Keeper) -> None:
    lost = keeper.write(b"lost" * 5000)
    give_another_name(keeper, lost)
    keeper.age_file(lost, 2 * sweep.ORPHAN_SECONDS)
    assert sum(map(keeper.evictor.tidy, [f"sha256:{lost.hex[:2]}"])) == 0
    assert not keeper.file(lost).exists()


@pytest.mark.parametrize("use_is_known", [True, False])
async def test_where_a_full_disk_stops_the_index_files_with_another_name_do_not_stop_the_search(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch, use_is_known: bool
) -> None:
    mounted = [await keeper.put(2 * SIZE, seed=number, age=1000) for number in range(sweep.BATCH + 6)]
    digest, kept = await keeper.put(age=100), await keeper.put(SIZE - 1, age=10)
    give_another_name(keeper, *mounted)
    monkeypatch.setattr(sweep, "disk_space", lambda folder: DiskSpace(0, 0, 0, 0))
    with closing(FailingRemoval(keeper, keeper.file(digest), "database or disk is full")) as maintenance:
        if not use_is_known:
            monkeypatch.setattr(maintenance, "least_used", UnknownUse.least_used.__get__(maintenance))
            monkeypatch.setattr(maintenance, "tidy_usage", UnknownUse.tidy_usage.__get__(maintenance))
        assert keeper.evicting(EvictionLimits(10 * SIZE), maintenance=maintenance).make_room(1) == SIZE
    assert await keeper.held(digest, kept) == [False, True]


class UnknownUse(CacheMaintenance):
    """An index beside a usage file that cannot be opened."""

    def least_used(self, count: int, *, gone: bool) -> Iterator[list[CachedItem]]:
        raise DatabaseUnusable("database or disk is full")

    def tidy_usage(self, prefix: str, now: float, before: float) -> None:
        raise DatabaseUnusable("database or disk is full")


async def test_room_that_was_made_counts_although_the_search_for_more_fails(keeper: Keeper) -> None:
    small = await keeper.put(100)
    with closing(UnknownUse(keeper.folder / "cache.db", keeper.usage)) as maintenance:
        evictor = keeper.evicting(EvictionLimits(10 * SIZE), maintenance=maintenance)
        assert evictor.make_room(1) == 100
        assert evictor.make_room(1) == 0
    assert await keeper.held(small) == [False]


async def test_where_no_use_is_known_room_is_made_of_the_largest_blob_that_is_not_pinned(
    keeper: Keeper,
) -> None:
    pinned, digest, smaller = [await keeper.put(size) for size in (3 * SIZE, 2 * SIZE, SIZE)]
    keeper.pin(ANONYMOUS, APP, str(pinned))
    with closing(UnknownUse(keeper.folder / "cache.db", keeper.usage)) as maintenance:
        evictor = keeper.evicting(EvictionLimits(10 * SIZE), maintenance=maintenance)
        assert evictor.make_room(1) == 2 * SIZE
    assert await keeper.held(pinned, digest, smaller) == [True, False, True]


async def test_an_index_that_fails_makes_no_room_and_raises_nothing(keeper: Keeper) -> None:
    digest = await keeper.put()
    with closing(FailingRemoval(keeper, keeper.file(digest), "it is locked")) as maintenance:
        assert keeper.evicting(EvictionLimits(10 * SIZE), maintenance=maintenance).make_room(1) == 0
    assert await keeper.held(digest) == [True]


async def test_the_quarantine_counts_for_the_cap_and_is_deleted_first(keeper: Keeper) -> None:
    digests = [await keeper.put(seed=number) for number in range(8)]
    for number in range(3):
        keeper.quarantine.take_bytes(bytes(SIZE), f"wrong {number}")
    level = keeper.evictor.level()
    assert (level.size, level.other) == (8 * SIZE, 3 * SIZE)
    assert keeper.evictor.short(level)
    assert keeper.evictor.sweep() == 2 * SIZE
    assert [path.name.endswith("wrong-2") for path in (keeper.folder / "quarantine").iterdir()] == [True]
    assert await keeper.held(*digests) == [True] * 8


async def test_room_is_made_of_the_quarantine_first(keeper: Keeper) -> None:
    digest = await keeper.put()
    keeper.quarantine.take_bytes(bytes(2 * SIZE), "wrong")
    assert keeper.evictor.make_room(SIZE) == 2 * SIZE
    assert await keeper.held(digest) == [True]


async def test_the_databases_count_for_the_cap_beyond_what_every_cache_needs(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    await keeper.put_image(manifest_of("one"), "latest")
    assert keeper.evictor.level().other == 0
    monkeypatch.setattr(maintenance, "DATABASE_ALLOWANCE", 0)
    files = [path for path in keeper.folder.iterdir() if ".db" in path.name and path.suffix != ".lock"]
    documents = keeper.evictor.level().size
    assert 0 < keeper.evictor.level().other <= sum(path.stat().st_size for path in files) - documents
    digests = [await keeper.put(seed=number) for number in range(8)]
    keeper.evictor.sweep()
    assert not any(await keeper.held(*digests))


def on_a_disk_of(files: int, keeper: Keeper) -> Callable[[object], DiskSpace]:
    """Space of a disk that takes so many files, and any number of bytes."""

    def space(_: object) -> DiskSpace:
        held = sum(path.is_file() for path in (keeper.folder / "blobs").rglob("*"))
        return DiskSpace(1 << 40, 1 << 40, files - held, files)

    return space


async def test_blobs_are_evicted_until_enough_files_are_free(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = [await keeper.put(seed=number, age=1000 - number) for number in range(20)]
    monkeypatch.setattr(sweep, "disk_space", on_a_disk_of(24, keeper))
    evictor = keeper.evicting(EvictionLimits(1 << 40, reserve_files=10))
    assert evictor.short(evictor.level())
    assert evictor.sweep() == 6 * SIZE
    assert await keeper.held(*digests) == [False] * 6 + [True] * 14
    assert not evictor.short(evictor.level())
    assert evictor.pressed(evictor.level())
    monkeypatch.setattr(sweep, "disk_space", lambda _: DiskSpace(1 << 40, 1 << 40, 0, 0))  # not limited
    assert not evictor.short(evictor.level())
    assert evictor.sweep() == 0


async def test_room_is_made_for_files_where_bytes_are_free(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = [await keeper.put(seed=number, age=1000 - number) for number in range(100)]
    monkeypatch.setattr(sweep, "disk_space", on_a_disk_of(101, keeper))
    evictor = keeper.evicting(EvictionLimits(1 << 40))
    assert evictor.make_room(SIZE) == sweep.FILES_AT_ONCE * SIZE
    assert (await keeper.held(*digests)).count(True) == 100 - sweep.FILES_AT_ONCE


# Rows and files that do not agree.


async def test_an_old_file_without_a_row_is_removed_and_a_new_one_left(keeper: Keeper) -> None:
    old, new = keeper.write(b"old"), keeper.write(b"new")
    keeper.age_file(old, 2 * sweep.ORPHAN_SECONDS)
    kept = await keeper.put()
    keeper.age_file(kept, 2 * sweep.ORPHAN_SECONDS)
    tidy(keeper, old, new, kept)
    assert not keeper.file(old).exists()
    assert keeper.file(new).exists()
    assert await keeper.held(kept) == [True]


async def test_a_row_without_a_file_is_deleted(keeper: Keeper) -> None:
    lost, kept = await keeper.put(seed="lost"), await keeper.put(seed="kept")
    keeper.file(lost).unlink()
    tidy(keeper, lost, kept)
    assert await keeper.held(lost, kept) == [False, True]


@pytest.mark.parametrize("size", [0, SIZE - 1, SIZE + 1])
async def test_a_file_that_has_not_the_size_of_its_row_is_set_aside_with_the_row(keeper: Keeper, size: int) -> None:
    wrong, kept = await keeper.put(seed="wrong"), await keeper.put(seed="kept")
    os.truncate(keeper.file(wrong), size)
    tidy(keeper, wrong, kept)
    assert await keeper.held(wrong, kept) == [False, True]
    assert [path.stat().st_size for path in (keeper.folder / "quarantine").iterdir()] == [size]


async def test_what_is_stored_again_while_a_folder_is_tidied_is_kept(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row whose file was missing has one again when it would be deleted; and a file without a row has one."""
    lost = await keeper.put(seed="lost")
    content = keeper.file(lost).read_bytes()
    keeper.file(lost).unlink()
    remove = keeper.maintenance.remove

    def store_and_remove(digests: Sequence[Digest], unless: Callable[[Digest], bool]) -> list[Digest]:
        keeper.write(content)
        return remove(digests, unless)

    monkeypatch.setattr(keeper.maintenance, "remove", store_and_remove)
    tidy(keeper, lost)
    assert await keeper.held(lost) == [True]


@pytest.mark.parametrize("harm", ["gone", "damaged", "of an earlier version"])
async def test_without_a_usage_file_everything_is_evictable_all_the_same(keeper: Keeper, harm: str) -> None:
    digests = [await keeper.put(seed=number) for number in range(12)]
    path = keeper.folder / "usage.db"
    if harm == "damaged":
        path.write_bytes(b"no database" * 1000)
    else:
        path.unlink()
    if harm == "of an earlier version":
        keeper.write_old_usage()
    tidy(keeper, *digests)
    keeper.evictor.sweep()
    assert (await keeper.held(*digests)).count(True) == 9


# The thread.


async def test_one_process_of_the_host_sweeps_and_another_takes_over_when_it_ends(keeper: Keeper) -> None:
    role = keeper.folder / "sweep.lock"
    looks: list[str] = []
    seen = threading.Event()

    class Looks(CacheEvents):
        def __init__(self, name: str) -> None:
            self._name = name

        def level_measured(self, level: CacheLevel) -> None:
            looks.append(self._name)
            seen.set()

    first, second = (Sweeper(keeper.evictor, ProcessRole(role), Looks(name)) for name in ("first", "second"))
    first.start()
    assert await asyncio.to_thread(seen.wait, 30)
    assert not ProcessRole(role).take()
    seen.clear()
    first.close()
    second.start()
    assert await asyncio.to_thread(seen.wait, 30)
    second.close()
    assert looks == ["first", "second"]


async def test_a_sweep_that_fails_does_not_end_the_thread(keeper: Keeper) -> None:
    looked = threading.Event()
    failures = [DatabaseUnusable("locked"), OSError("io"), KeyError("surprise")]

    class Unreliable(Evictor):
        def sweep(self, stopped: threading.Event | None = None) -> int:
            if failures:
                raise failures.pop()
            looked.set()
            return super().sweep(stopped)

    evictor = keeper.evicting(EvictionLimits(10 * SIZE), Unreliable)
    sweeper = Sweeper(evictor, ProcessRole(keeper.folder / "sweep.lock"), timings=SweepTimings(interval=0.01))
    sweeper.start()
    assert await asyncio.to_thread(looked.wait, 30)
    sweeper.close()


@pytest.mark.parametrize("fails", ["chores", "sweep"])
async def test_chores_are_done_now_and_then_whatever_fails(keeper: Keeper, fails: str) -> None:
    done: list[float] = []
    often = threading.Event()

    class Failing(Evictor):
        def sweep(self, stopped: threading.Event | None = None) -> int:
            raise OSError("io")

    def chores() -> None:
        done.append(time.monotonic())
        if len(done) == 4:
            often.set()
        if fails == "chores":
            raise OSError("io")

    evictor = keeper.evicting(EvictionLimits(10 * SIZE), Failing if fails == "sweep" else Evictor)
    timings = SweepTimings(interval=0.01, chores=0.1)
    sweeper = Sweeper(evictor, ProcessRole(keeper.folder / "sweep.lock"), chores=chores, timings=timings)
    began = time.monotonic()
    sweeper.start()
    assert await asyncio.to_thread(often.wait, 30)
    sweeper.close()
    assert all(later - earlier >= 0.1 for earlier, later in itertools.pairwise([began, *done]))


async def test_records_that_nothing_needs_are_deleted_now_and_then(keeper: Keeper) -> None:
    await keeper.index.record(TagPointer(ANONYMOUS, APP, LATEST, manifest_of("one").descriptor, NOON))
    admin = CacheAdmin(keeper.folder / "cache.db")
    assert admin.images() == [(ANONYMOUS, APP)]
    timings = SweepTimings(interval=0.01, chores=0.02)
    sweeper = Sweeper(keeper.evictor, ProcessRole(keeper.folder / "sweep.lock"), timings=timings)
    sweeper.start()
    async with asyncio.timeout(30):
        while admin.images():  # noqa: ASYNC110  the thread of the sweep changes it
            await asyncio.sleep(0.01)
    sweeper.close()


async def test_folders_are_tidied_under_pressure_too(keeper: Keeper) -> None:
    tidied: list[str] = []
    many = threading.Event()

    class Pressed(Evictor):
        def pressed(self, level: CacheLevel) -> bool:
            return True

        def tidy(self, prefix: str) -> int:
            tidied.append(prefix)
            if len(tidied) == 4:
                many.set()
            return 0

    evictor = keeper.evicting(EvictionLimits(10 * SIZE), Pressed)
    timings = SweepTimings(pressed_interval=0.02, before_folders=0.0, first_folders=0.1)
    sweeper = Sweeper(evictor, ProcessRole(keeper.folder / "sweep.lock"), timings=timings)
    sweeper.start()
    assert await asyncio.to_thread(many.wait, 30)
    sweeper.close()
    assert tidied[:4] == list(prefixes())[:4]


async def test_no_folder_is_tidied_right_after_the_start(keeper: Keeper) -> None:
    sweeps, tidied = 0, 0
    many = threading.Event()

    class Pressed(Evictor):
        def sweep(self, stopped: threading.Event | None = None) -> int:
            nonlocal sweeps
            sweeps += 1
            if sweeps == 4:
                many.set()
            return 0

        def pressed(self, level: CacheLevel) -> bool:
            return True

        def tidy(self, prefix: str) -> int:
            nonlocal tidied
            tidied += 1
            return 0

    evictor = keeper.evicting(EvictionLimits(10 * SIZE), Pressed)
    timings = SweepTimings(pressed_interval=0.02, before_folders=3600.0)
    sweeper = Sweeper(evictor, ProcessRole(keeper.folder / "sweep.lock"), timings=timings)
    sweeper.start()
    assert await asyncio.to_thread(many.wait, 30)
    sweeper.close()
    assert tidied == 0


async def test_the_first_step_opens_the_file_of_uses_while_there_is_room(keeper: Keeper) -> None:
    """A disk that is full before the first folder is tidied could not take it, and then nothing would be evicted."""
    evictor = keeper.evicting(EvictionLimits(10 * SIZE))
    timings = SweepTimings(before_folders=3600.0, interval=0.0)
    sweeper = Sweeper(evictor, ProcessRole(keeper.folder / "sweep.lock"), timings=timings)
    assert not keeper.usage.path.exists()
    await asyncio.to_thread(sweeper.step)
    beside = [keeper.usage.path.with_name(f"{keeper.usage.path.name}{suffix}") for suffix in ("", "-wal", "-shm")]
    assert [path.exists() for path in beside] == [True, True, True]


async def test_moments_of_a_wrong_clock_are_corrected(keeper: Keeper) -> None:
    used = await keeper.put(seed="used", age=-9_999_999)
    orphan, new = keeper.write(b"orphan"), keeper.write(b"new")
    keeper.age_file(orphan, -9_999_999)
    before = time.time()
    tidy(keeper, used, orphan, new)
    assert before <= keeper.usage.last_used()[used].timestamp() <= time.time()
    assert used in keeper.maintenance.least_checked(time.time(), 10)
    assert not keeper.file(orphan).exists()
    assert keeper.file(new).exists()
