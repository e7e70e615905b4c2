"""Which events have content reviewed, and which put its review off: one suite for every database."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from sqlalchemy import select

from cache.oci.digest import Digest
from cache.oci.names import Tag
from gateway.db import blobs, collection, manifests, projects, repositories, schema, tags
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.db.manifests import Reference
from gateway.db.reviews import EVERYWHERE, ReviewEvent
from tests.gateway.db.identity_rows import NOW
from tests.gateway.db.native_rows import add_repository, new_manifest
from tests.gateway.db.plans import plans_of

LATER = NOW + timedelta(hours=5)
LAYER, OTHER = Digest.of(b"layer"), Digest.of(b"other")
V1 = Tag("v1")
Event = Callable[[Connection, int], Awaitable[object]]


async def reviews_of(connection: Connection) -> dict[object, tuple[str, bool]]:
    """Every pending review by its content: a manifest's digest, or repository and digest of a blob; with its event and
    whether it began at LATER."""
    found: dict[object, tuple[str, bool]] = {}
    for row in await connection.execute(select(schema.blob_reviews)):
        found[row.repository_id, Digest.parse(row.digest)] = (row.event, row.since == LATER)
    named = select(schema.manifests.c.digest, schema.manifest_reviews)
    for row in await connection.execute(named.join_from(schema.manifest_reviews, schema.manifests)):
        found[Digest.parse(row.digest)] = (row.event, row.since == LATER)
    return found


async def put(connection: Connection, repository: int, content: str, *references: Reference, **more: object) -> Digest:
    manifest = new_manifest(content, *references, **more)  # type: ignore[arg-type]
    await manifests.put(connection, repository, manifest, NOW)
    return manifest.descriptor.digest


async def tagged(connection: Connection, repository: int, content: str, *references: Reference) -> Digest:
    """Push a manifest with a tag."""
    digest = await put(connection, repository, content, *references)
    number = await connection.scalar(
        select(schema.manifests.c.id).where(
            schema.manifests.c.repository_id == repository, schema.manifests.c.digest == str(digest)
        )
    )
    assert number is not None
    await tags.point(connection, repository, V1, number, NOW, "ada")
    return digest


async def forget_reviews(connection: Connection) -> None:
    for table in (schema.blob_reviews, schema.manifest_reviews):
        await connection.execute(table.delete())


async def test_what_is_pushed_is_reviewed(database: Database) -> None:
    async with database.write() as connection:
        repository = (await add_repository(connection)).id
        await blobs.link(connection, repository, LAYER, 5, LATER)
        await manifests.put(connection, repository, new_manifest("a"), LATER)
        assert await reviews_of(connection) == {
            (repository, LAYER): (ReviewEvent.BLOB_UPLOAD, True),
            new_manifest("a").descriptor.digest: (ReviewEvent.MANIFEST_UPLOAD, True),
        }


async def test_what_a_deleted_manifest_needed_is_reviewed_with_its_relatives(database: Database) -> None:
    async with database.write() as connection:
        repository = (await add_repository(connection)).id
        await blobs.link(connection, repository, LAYER, 5, NOW)
        await blobs.link(connection, repository, OTHER, 5, NOW)
        child, subject = await put(connection, repository, "child"), await put(connection, repository, "subject")
        needs = (Reference(LAYER, False), Reference(child, True))
        index = await put(connection, repository, "index", *needs, subject=subject)
        referrer = await put(connection, repository, "referrer", subject=index)
        await put(connection, repository, "unrelated")
        await forget_reviews(connection)
        await manifests.delete(connection, repository, index, LATER, "ada")
        expected = (ReviewEvent.MANIFEST_DELETE, True)
        relatives: list[object] = [(repository, LAYER), child, subject, referrer]
        assert await reviews_of(connection) == dict.fromkeys(relatives, expected)


async def test_a_manifest_that_loses_a_tag_is_reviewed(database: Database) -> None:
    async with database.write() as connection:
        repository = (await add_repository(connection)).id
        first = await tagged(connection, repository, "first")
        await forget_reviews(connection)
        number = await manifests.put(connection, repository, new_manifest("second"), NOW)
        await forget_reviews(connection)
        await tags.point(connection, repository, V1, number, LATER, "ada")
        assert await reviews_of(connection) == {first: (ReviewEvent.TAG_SWITCH, True)}
        await forget_reviews(connection)
        await tags.delete(connection, repository, V1, LATER, "ada")
        assert await reviews_of(connection) == {
            new_manifest("second").descriptor.digest: (ReviewEvent.TAG_DELETE, True)
        }


async def unlink(connection: Connection, repository: int) -> object:
    return await blobs.unlink(connection, repository, LAYER, LATER)


async def delete_in_parts(connection: Connection, repository: int) -> object:
    return await repositories.delete_part(connection, repository, LATER)


async def purge_repository(connection: Connection, repository: int) -> object:
    return await repositories.purge(connection, repository, LATER)


async def delete_project(connection: Connection, repository: int) -> object:
    return await projects.delete(connection, "team/app", LATER)


@pytest.mark.parametrize("event", [unlink, delete_in_parts, purge_repository, delete_project])
async def test_a_blob_that_a_repository_gives_up_is_reviewed_for_all_of_them(database: Database, event: Event) -> None:
    async with database.write() as connection:
        repository = (await add_repository(connection)).id
        await blobs.link(connection, repository, LAYER, 5, NOW)
        await forget_reviews(connection)
        assert await event(connection, repository)
        found = await reviews_of(connection)
        assert found.keys() == {(EVERYWHERE, LAYER)}
        assert found[EVERYWHERE, LAYER][1]


async def link_again(connection: Connection, repository: int) -> object:
    return await blobs.link(connection, repository, LAYER, 5, LATER)


async def confirm(connection: Connection, repository: int) -> object:
    return await blobs.confirm(connection, repository, LAYER, LATER)


@pytest.mark.parametrize("event", [link_again, confirm])
async def test_the_review_of_a_blob_that_somebody_relies_on_begins_anew(database: Database, event: Event) -> None:
    async with database.write() as connection:
        repository = (await add_repository(connection)).id
        await blobs.link(connection, repository, LAYER, 5, NOW)
        await event(connection, repository)
        assert await reviews_of(connection) == {(repository, LAYER): (ReviewEvent.BLOB_UPLOAD, True)}
        await forget_reviews(connection)
        await event(connection, repository)
        assert await reviews_of(connection) == {}, "what something needs has no review"


async def test_a_push_puts_off_the_reviews_of_the_manifest_and_of_its_subject(database: Database) -> None:
    async with database.write() as connection:
        repository = (await add_repository(connection)).id
        subject = await put(connection, repository, "subject")
        await manifests.put(connection, repository, new_manifest("referrer", subject=subject), LATER)
        assert (await reviews_of(connection))[subject] == (ReviewEvent.MANIFEST_UPLOAD, True)
        old = await put(connection, repository, "old")
        assert (await reviews_of(connection))[old] == (ReviewEvent.MANIFEST_UPLOAD, False)
        await manifests.put(connection, repository, new_manifest("old"), LATER)
        assert (await reviews_of(connection))[old] == (ReviewEvent.MANIFEST_UPLOAD, True)


async def test_reviews_of_one_moment_are_listed_in_pages_without_sorting_all_of_them(database: Database) -> None:
    """A million may be due since the same event: each page would sort them for most of a second."""
    async with database.write() as connection:
        repository = (await add_repository(connection)).id
        numbers = [await manifests.put(connection, repository, new_manifest(text), NOW) for text in ("a", "b", "c")]
        for digest in (LAYER, OTHER):
            await blobs.link(connection, repository, digest, 1, NOW)
    async with database.read() as connection:
        with plans_of(connection) as plans:
            [first] = await collection.list_blobs(connection, LATER, 1)
            [second] = await collection.list_blobs(connection, LATER, 9, first)
            [one] = await collection.list_manifests(connection, LATER, 1)
            rest = await collection.list_manifests(connection, LATER, 9, one)
    assert {first.digest, second.digest} == {LAYER, OTHER}
    assert [one.manifest_id, *(review.manifest_id for review in rest)] == numbers
    assert [plan for plan in plans if "TEMP B-TREE" in plan] == []
