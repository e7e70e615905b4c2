"""Records that nothing needs are deleted, and the age of tags that a gate counts is kept."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cache.index import records
from cache.index.admin import CacheAdmin
from cache.index.records import POINTER_SECONDS, SIGHTING_SECONDS
from cache.index.sql import SqlIndex
from cache.oci.digest import Digest
from cache.oci.names import RepositoryName, Tag
from cache.policy.gate import LONGEST_COOLDOWN
from cache.values import Link, TagPointer
from tests.cache.samples import ANONYMOUS, APP, LATEST, WEB, manifest_of

MANIFEST = manifest_of("one")
DIGEST = MANIFEST.descriptor.digest
NOW = datetime.now(UTC)
POINTER = TagPointer(ANONYMOUS, APP, LATEST, MANIFEST.descriptor, NOW)
LINK = Link(ANONYMOUS, APP, DIGEST)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[SqlIndex]:
    index = SqlIndex(tmp_path / "cache.db")
    yield index
    index.close()


@pytest.fixture
def admin(index: SqlIndex) -> CacheAdmin:
    return CacheAdmin(index.path)


def pointer(tag: str, age: float, image: RepositoryName = APP, seed: str = "one") -> TagPointer:
    target = replace(MANIFEST.descriptor, digest=Digest.of(seed.encode()))
    return TagPointer(ANONYMOUS, image, Tag(tag), target, NOW - timedelta(seconds=age))


async def test_a_pointer_without_a_manifest_is_deleted_once_it_is_old(index: SqlIndex, admin: CacheAdmin) -> None:
    old, young = pointer("old", 2 * POINTER_SECONDS), pointer("young", POINTER_SECONDS / 2)
    pinned, cached = pointer("pinned", 2 * POINTER_SECONDS), replace(POINTER, checked_at=old.checked_at)
    await index.record(old, young, pinned, cached, MANIFEST, LINK)
    admin.pin(ANONYMOUS, APP, "pinned")
    assert admin.sweep_records(NOW.timestamp()) == 1
    assert {found.tag.text for found in admin.pointers()} == {"latest", "pinned", "young"}
    assert admin.sweep_records(NOW.timestamp()) == 0


async def test_the_age_of_a_tag_outlives_its_content_and_every_cooldown(index: SqlIndex, admin: CacheAdmin) -> None:
    assert timedelta(seconds=SIGHTING_SECONDS) > LONGEST_COOLDOWN
    await index.record(pointer("a", LONGEST_COOLDOWN.total_seconds()))
    await index.forget(ANONYMOUS, APP)
    admin.sweep_records(NOW.timestamp())
    [seen] = admin.sightings(ANONYMOUS, APP)
    assert seen.first_seen == NOW - LONGEST_COOLDOWN
    assert admin.images() == [(ANONYMOUS, APP)]


async def test_what_a_tag_still_points_to_keeps_its_age(index: SqlIndex, admin: CacheAdmin) -> None:
    await index.record(replace(POINTER, checked_at=NOW - timedelta(seconds=2 * SIGHTING_SECONDS)), MANIFEST, LINK)
    assert admin.sweep_records(NOW.timestamp()) == 0
    assert len(admin.sightings(ANONYMOUS, APP)) == 1


async def test_an_image_without_any_record_is_deleted(
    index: SqlIndex, admin: CacheAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "BATCH", 50)
    await index.record(*(pointer(f"v{number}", 2 * SIGHTING_SECONDS, WEB) for number in range(120)))
    await index.record(POINTER, MANIFEST, LINK)
    admin.pin(ANONYMOUS, RepositoryName("acme/pinned"), "")
    assert admin.sweep_records(NOW.timestamp()) == 2 * 120 + 1
    assert {name.text for _, name in admin.images()} == {"acme/app", "acme/pinned"}
    assert admin.sightings(ANONYMOUS, WEB) == []


async def test_unused_space_is_given_back_while_others_have_the_file_open(index: SqlIndex, admin: CacheAdmin) -> None:
    await index.record(POINTER, MANIFEST, LINK)
    with closing(sqlite3.connect(index.path)) as connection, connection:
        rows = ((f"sha256:{number:064x}", bytes(10_000)) for number in range(500))
        connection.executemany("INSERT INTO manifests VALUES (?, 'x/y', ?)", rows)
    with closing(sqlite3.connect(index.path)) as connection, connection:
        connection.execute("DELETE FROM manifests WHERE digest LIKE 'sha256:0000%'")
    assert index.path.stat().st_size > 5_000_000
    admin.sweep_records(time.time())
    assert index.path.stat().st_size < 1_000_000
    assert await index.find_manifest(DIGEST) == MANIFEST
    await index.record(pointer("later", 0))
    assert await index.find_pointer(ANONYMOUS, APP, Tag("later")) is not None
