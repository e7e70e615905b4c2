"""TenantUsage and TenantLists: what each tenant pulled, and what of it is cached."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from cache.index.sql import SqlIndex
from cache.index.tenant_lists import CachedReference, TenantLists, TenantOrder, TenantTotals, TenantWindow, cursor_of
from cache.index.tenants import DAYS_KEPT, TenantUsage
from cache.index.usage import PullCount
from cache.oci.manifest import Manifest
from cache.oci.names import RepositoryName, Tag
from cache.values import BlobInfo, Link, Source, TagPointer
from tests.cache.samples import ALICE, ANONYMOUS, APP, NOON, WEB, blob_of, index_of, manifest_of

ONE, TWO = 1, 2


@pytest.fixture
def usage(tmp_path: Path) -> TenantUsage:
    return TenantUsage(tmp_path / "usage.db", lambda: (NOON + timedelta(days=1)).timestamp())


@pytest.fixture
async def index(tmp_path: Path) -> AsyncIterator[SqlIndex]:
    index = SqlIndex(tmp_path / "cache.db")
    await index.prepare()
    yield index
    index.close()


@pytest.fixture
def lists(tmp_path: Path, index: SqlIndex) -> TenantLists:
    return TenantLists(tmp_path / "cache.db", tmp_path / "usage.db")


async def cache(index: SqlIndex, manifest: Manifest, image: RepositoryName, *tags: str) -> str:
    """Cache a manifest of an image, with the tags that point to it; its digest."""
    link = Link(ANONYMOUS, image, manifest.descriptor.digest)
    await index.record(manifest, link)
    for tag in tags:
        await index.record(manifest, link, TagPointer(ANONYMOUS, image, Tag(tag), manifest.descriptor, NOON))
    return str(manifest.descriptor.digest)


def pull(
    usage: TenantUsage,
    tenant: int,
    image: RepositoryName,
    reference: str,
    at: datetime = NOON,
    outcome: str = "HIT",
    source: Source = ANONYMOUS,
) -> None:
    usage.note_pull(tenant, source, image, reference, outcome, at)
    usage.flush()


def named(rows: list[CachedReference]) -> list[str]:
    return [f"{row.image.name}:{row.image.reference}" for row in rows]


def test_pulls_are_added_up_over_flushes_and_processes(tmp_path: Path, usage: TenantUsage) -> None:
    other = TenantUsage(tmp_path / "usage.db", lambda: (NOON + timedelta(days=1)).timestamp())
    pull(usage, ONE, APP, "v1", NOON, "MISS")
    assert usage.pulled(ONE)[0].reference == "v1"
    pull(other, ONE, APP, "v1", NOON + timedelta(hours=1))
    pull(usage, ONE, APP, "v1", NOON - timedelta(hours=1))  # a process that is late to write
    [found] = usage.pulled(ONE)
    assert (found.first_pull, found.last_pull) == (NOON.timestamp(), (NOON + timedelta(hours=1)).timestamp())
    assert usage.pulled(TWO) == []


def test_a_pull_of_the_future_is_one_of_now(usage: TenantUsage) -> None:
    pull(usage, ONE, APP, "v1", NOON + timedelta(days=900))
    [found] = usage.pulled(ONE)
    assert found.first_pull == found.last_pull == (NOON + timedelta(days=1)).timestamp()


def test_others_are_those_that_pulled_the_same_image_of_the_same_source(usage: TenantUsage) -> None:
    pull(usage, ONE, APP, "v1")
    pull(usage, ONE, APP, "v2")
    pull(usage, TWO, WEB, "v1")
    pull(usage, TWO, APP, "v1", source=ALICE)
    assert usage.others(ONE, ANONYMOUS, APP) == 0
    pull(usage, TWO, APP, "v9")
    assert (usage.others(ONE, ANONYMOUS, APP), usage.others(TWO, ANONYMOUS, APP)) == (1, 1)
    assert usage.has_pulled(TWO, ANONYMOUS, APP)
    usage.forget(TWO, ANONYMOUS, APP)
    assert usage.others(ONE, ANONYMOUS, APP) == 0
    assert not usage.has_pulled(TWO, ANONYMOUS, APP) and usage.has_pulled(TWO, ALICE, APP)


def test_references_are_forgotten_one_by_one_and_all_but_some(usage: TenantUsage) -> None:
    for tag in ("v1", "v2", "v3"):
        pull(usage, ONE, APP, tag)
    usage.forget(ONE, ANONYMOUS, APP, ["v1"])
    assert [found.reference for found in usage.pulled(ONE)] == ["v2", "v3"]
    usage.forget(ONE, ANONYMOUS, APP, None, ["v3"])
    assert [found.reference for found in usage.pulled(ONE)] == ["v3"]


def test_days_are_added_up_and_forgotten_by_their_count(usage: TenantUsage) -> None:
    today, counted = NOON.date(), PullCount("", "docker.io", "blob", "HIT", 1, 10)
    for number in range(DAYS_KEPT + 20):
        usage.count(ONE, replace(counted, day=(today - timedelta(days=number)).isoformat()))
    usage.count(ONE, replace(counted, day=today.isoformat()))
    usage.count(TWO, replace(counted, day=today.isoformat()))
    usage.flush()
    days = usage.days(ONE, "2000-01-01", today.isoformat())
    assert len(days) == DAYS_KEPT
    assert days[-1] == replace(counted, day=today.isoformat(), pulls=2, bytes=20)
    assert days[0].day == (today - timedelta(days=DAYS_KEPT - 1)).isoformat()
    assert usage.days(ONE, today.isoformat(), today.isoformat()) == days[-1:]


def test_tenants_are_forgotten_with_all_that_is_known_of_them(usage: TenantUsage) -> None:
    for tenant in (ONE, TWO):
        pull(usage, tenant, APP, "v1")
    usage.count(TWO, PullCount(NOON.date().isoformat(), "docker.io", "blob", "HIT", 1, 10))
    usage.flush()
    assert usage.tenants() == [ONE, TWO]
    usage.forget_tenants([TWO])
    assert usage.tenants() == [ONE]


def test_nothing_is_known_of_a_file_that_is_not_there(usage: TenantUsage) -> None:
    assert not usage.pulled(ONE)
    assert not usage.days(ONE, "2000-01-01", "2030-01-01")
    assert not usage.tenants()
    assert usage.others(ONE, ANONYMOUS, APP) == 0
    usage.flush()
    assert not usage.path.exists()


async def test_a_list_holds_what_the_tenant_pulled_and_is_cached(
    usage: TenantUsage, lists: TenantLists, index: SqlIndex
) -> None:
    assert lists.page(ONE, [ANONYMOUS], TenantWindow(10)) == []
    first, second = manifest_of("one"), manifest_of("two")
    await cache(index, first, APP, "v1", "foreign")
    digest = await cache(index, second, WEB)
    for reference in ("v1", "uncached"):
        pull(usage, ONE, APP, reference)
    pull(usage, ONE, WEB, digest, NOON + timedelta(hours=1), "MISS")
    pull(usage, TWO, APP, "foreign")
    rows = lists.page(ONE, [ANONYMOUS], TenantWindow(10))
    assert named(rows) == ["acme/app:v1", f"acme/web:{digest}"]
    assert (rows[0].digest, rows[0].pulls, rows[0].hits) == (first.descriptor.digest, 1, 1)
    assert (rows[1].last_pull, rows[1].hits, rows[1].outcome) == (NOON + timedelta(hours=1), 0, "MISS")
    assert lists.find(ONE, rows[1].image) == rows[1]
    assert lists.find(TWO, rows[1].image) is None
    assert lists.page(ONE, [ALICE], TenantWindow(10)) == []
    assert lists.count(ONE, [ANONYMOUS, ALICE], "", 10) == 2


async def test_digests_to_which_a_listed_tag_leads_are_not_listed_beside_it(
    usage: TenantUsage, lists: TenantLists, index: SqlIndex
) -> None:
    child = manifest_of("child")
    parent = index_of(child)
    digests = [await cache(index, child, APP), await cache(index, parent, APP, "v1")]
    for digest in digests:
        pull(usage, ONE, APP, digest)
        pull(usage, TWO, APP, digest)
    pull(usage, ONE, APP, "v1")
    assert named(lists.page(ONE, [ANONYMOUS], TenantWindow(10))) == ["acme/app:v1"]
    # The tag is somebody else's: this tenant has pulled the digests alone.
    assert sorted(named(lists.page(TWO, [ANONYMOUS], TenantWindow(10)))) == sorted(f"acme/app:{one}" for one in digests)


@pytest.mark.parametrize("order", TenantOrder)
@pytest.mark.parametrize("descending", [False, True])
async def test_a_list_is_cut_in_the_same_places_by_offsets_and_by_cursors(
    usage: TenantUsage, lists: TenantLists, index: SqlIndex, order: TenantOrder, descending: bool
) -> None:
    for number in range(7):
        image, at = APP if number % 2 else WEB, NOON + timedelta(seconds=number // 2, microseconds=7)
        await cache(index, manifest_of(f"{number}"), image, f"v{number}")
        for _ in range(1 + number % 3):
            pull(usage, ONE, image, f"v{number}", at)
    whole = lists.page(ONE, [ANONYMOUS], TenantWindow(10, order=order, descending=descending))
    assert len(whole) == 7
    assert named(lists.page(ONE, [ANONYMOUS], TenantWindow(10, 0, None, order, not descending))) == named(whole)[::-1]
    taken, after = list[CachedReference](), None
    while page := lists.page(ONE, [ANONYMOUS], TenantWindow(2, 0, after, order, descending)):
        assert page == lists.page(ONE, [ANONYMOUS], TenantWindow(2, len(taken), None, order, descending))
        taken += page
        after = cursor_of(page[-1], order)
    assert taken == whole


async def test_a_search_looks_for_a_part_of_name_and_reference(
    usage: TenantUsage, lists: TenantLists, index: SqlIndex
) -> None:
    await cache(index, manifest_of("one"), APP, "v1")
    await cache(index, manifest_of("two"), WEB, "v1")
    pull(usage, ONE, APP, "v1")
    pull(usage, ONE, WEB, "v1")
    both = ["acme/app:v1", "acme/web:v1"]
    for search, found in (("APP", both[:1]), ("b:v", both[1:]), ("%", []), ("v1", both)):
        assert named(lists.page(ONE, [ANONYMOUS], TenantWindow(10, search=search))) == found
        assert lists.count(ONE, [ANONYMOUS], search, 10) == len(found)


async def test_totals_count_each_blob_of_the_images_once(
    usage: TenantUsage, lists: TenantLists, index: SqlIndex
) -> None:
    manifest = manifest_of("one")
    content, digest = blob_of(100)
    for image in (APP, WEB):
        await cache(index, manifest, image, "v1")
        await index.record(BlobInfo(digest, len(content)), Link(ANONYMOUS, image, digest))
        pull(usage, ONE, image, "v1")
    assert lists.totals(ONE, [ANONYMOUS]) == TenantTotals(1, 100 + len(manifest.raw))
    assert lists.totals(TWO, [ANONYMOUS]) == TenantTotals(0, 0)


async def test_images_of_which_nothing_is_cached_any_more_are_found(
    usage: TenantUsage, lists: TenantLists, index: SqlIndex
) -> None:
    await cache(index, manifest_of("one"), APP, "v1")
    for image in (APP, WEB):
        pull(usage, ONE, image, "v1")
    after = (NOON + timedelta(seconds=1)).timestamp()
    assert [(tenant, image.name) for tenant, image in lists.absent(after, 10)] == [(ONE, WEB)]
    assert lists.absent(NOON.timestamp(), 10) == []
