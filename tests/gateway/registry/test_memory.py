"""What workers remember of native content: a confirmed change is seen by every worker at once, and nothing is read
again while nothing changes."""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import pytest
from sqlalchemy import text

from cache.oci.digest import Digest
from cache.oci.errors import BlobUnknown, ManifestUnknown, NameUnknown, StoreUnavailable
from cache.oci.names import Tag
from gateway.db import projects, repositories
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.db.sqlite_steps import Work
from gateway.registry.base import WritableRepository
from gateway.registry.memory import NativeMemory
from gateway.registry.native_store import NativeStore, parse_stored
from tests.gateway.db.identity_rows import NOW
from tests.gateway.registry.conftest import NAME
from tests.gateway.registry.stores import push_blob, push_image

T = TypeVar("T")
V1, V2 = Tag("v1"), Tag("v2")
NOWHERE = Digest.of(b"nobody pushed this")


@pytest.fixture
def reads(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The reads of the database by this worker from now on."""
    seen: list[object] = []
    query, read = database.query, database.read

    async def note_query(work: Work[T]) -> T:
        seen.append(work)
        return await query(work)

    def note_read() -> AbstractAsyncContextManager[Connection]:
        seen.append(read)
        return read()

    monkeypatch.setattr(database, "query", note_query)
    monkeypatch.setattr(database, "read", note_read)
    return seen


async def test_what_is_deleted_is_gone_for_every_worker_when_the_deletion_returns(
    repository: WritableRepository, elsewhere: WritableRepository
) -> None:
    pushed = await push_image(repository, "an image", V1, V2)
    digest, layer = pushed.descriptor.digest, pushed.layers[0].digest
    for reference in (V1, V2, digest):
        assert (await elsewhere.manifest(reference)).manifest == pushed
        assert (await elsewhere.stat_manifest(reference)).descriptor == pushed.descriptor
    assert (await elsewhere.stat_blob(layer)).size == len(b"layer of an image")
    await repository.delete_tag(V1)
    for request in (elsewhere.manifest(V1), elsewhere.stat_manifest(V1)):
        with pytest.raises(ManifestUnknown):
            await request
    assert (await elsewhere.manifest(V2)).manifest == pushed
    await repository.delete_manifest(digest)
    for request in (elsewhere.manifest(V2), elsewhere.stat_manifest(V2), elsewhere.manifest(digest)):
        with pytest.raises(ManifestUnknown):
            await request
    await repository.delete_blob(layer)
    with pytest.raises(BlobUnknown):
        await elsewhere.stat_blob(layer)


async def test_what_is_pushed_is_found_by_every_worker_that_did_not_find_it_before(
    repository: WritableRepository, elsewhere: WritableRepository
) -> None:
    layer = Digest.of(b"layer of an image")
    await push_blob(repository, b"something else")
    for _ in range(2):
        with pytest.raises(ManifestUnknown):
            await elsewhere.manifest(V1)
        with pytest.raises(ManifestUnknown):
            await elsewhere.stat_manifest(V1)
        with pytest.raises(BlobUnknown):
            await elsewhere.stat_blob(layer)
    pushed = await push_image(repository, "an image", V1)
    assert (await elsewhere.stat_blob(layer)).size == len(b"layer of an image")
    assert (await elsewhere.stat_manifest(V1)).descriptor == pushed.descriptor
    assert (await elsewhere.manifest(V1)).manifest == pushed
    moved = await push_image(repository, "another image", V1)
    assert (await elsewhere.manifest(V1)).manifest == moved


async def test_a_repository_that_was_deleted_and_made_again_shows_nothing_of_the_first_one(
    database: Database, repository: WritableRepository, elsewhere: WritableRepository
) -> None:
    pushed = await push_image(repository, "an image", V1)
    assert (await elsewhere.manifest(V1)).manifest == pushed
    async with database.write() as connection:
        await repositories.delete(connection, NAME, NOW, "ada")
    with pytest.raises(ManifestUnknown):
        await elsewhere.manifest(V1)
    with pytest.raises(NameUnknown):
        await elsewhere.tags(None)
    await repository.begin_upload("user 1")
    for reference in (V1, pushed.descriptor.digest):
        with pytest.raises(ManifestUnknown):
            await elsewhere.manifest(reference)
    with pytest.raises(BlobUnknown):
        await elsewhere.stat_blob(pushed.layers[0].digest)


async def test_a_deleted_project_shows_nothing_to_any_worker(
    database: Database, repository: WritableRepository, elsewhere: WritableRepository
) -> None:
    pushed = await push_image(repository, "an image", V1)
    assert (await elsewhere.manifest(V1)).manifest == pushed
    async with database.write() as connection:
        await projects.delete(connection, "team/app", NOW)
    with pytest.raises(ManifestUnknown):
        await elsewhere.manifest(V1)


async def test_what_was_read_once_is_read_from_memory(
    repository: WritableRepository, store: NativeStore, reads: list[object]
) -> None:
    pushed = await push_image(repository, "an image", V1)
    digest, layer = pushed.descriptor.digest, pushed.layers[0].digest

    async def read_everything() -> None:
        for reference in (V1, digest):
            await repository.manifest(reference)
            await repository.stat_manifest(reference)
        await repository.stat_blob(layer)
        (await repository.blob(layer)).blob.close()
        for request in (repository.manifest(V2), repository.stat_manifest(NOWHERE)):
            with pytest.raises(ManifestUnknown):
                await request
        with pytest.raises(BlobUnknown):
            await repository.stat_blob(NOWHERE)

    await read_everything()
    assert reads
    reads.clear()
    await read_everything()
    assert reads == []


async def test_many_who_want_a_tag_that_has_just_moved_share_one_read(
    repository: WritableRepository, reads: list[object]
) -> None:
    await push_image(repository, "first", V1)
    second = await push_image(repository, "second", V1)
    reads.clear()
    found = await asyncio.gather(*(repository.manifest(V1) for _ in range(50)))
    assert all(one.manifest == second for one in found)
    described = await asyncio.gather(*(repository.stat_blob(second.layers[0].digest) for _ in range(50)))
    assert {one.size for one in described} == {len(b"layer of second")}
    assert len(reads) == 2


async def test_a_tag_that_moved_a_moment_ago_is_never_without_a_manifest(
    database: Database, repository: WritableRepository, store: NativeStore
) -> None:
    """The memory knows the tag's old manifest, which was deleted after the last look, but no longer its document."""
    first = await push_image(repository, "first", V1)
    async with Database.open(database.address, look_every=3600) as other:
        memory = NativeMemory(other, parse_stored)
        row = await memory.repository(NAME)
        assert row is not None
        assert await memory.target(row, V1) == first.descriptor
        second = await push_image(repository, "second", V1)
        await repository.delete_manifest(first.descriptor.digest)
        assert await memory.manifest(row, V1) == second


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_nothing_is_read_from_memory_where_the_changes_cannot_be_read(
    database: Database, repository: WritableRepository, elsewhere: WritableRepository
) -> None:
    pushed = await push_image(repository, "an image", V1)
    assert (await elsewhere.manifest(V1)).manifest == pushed
    async with database.write() as connection:
        await connection.execute(text("ALTER TABLE changes RENAME TO away"))
    for request in (elsewhere.manifest(V1), elsewhere.stat_blob(pushed.layers[0].digest), elsewhere.tags(None)):
        with pytest.raises(StoreUnavailable, match="this server's own database does not respond"):
            await request
    async with database.write() as connection:
        await connection.execute(text("ALTER TABLE away RENAME TO changes"))
    assert (await elsewhere.manifest(V1)).manifest == pushed
