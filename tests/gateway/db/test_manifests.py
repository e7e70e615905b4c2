"""Manifests as they are stored: one suite for every database."""

from dataclasses import replace

import pytest
from sqlalchemy import select

from cache.oci.digest import Digest
from cache.oci.media_types import DOCKER_MANIFEST
from cache.oci.names import Tag
from gateway.db import manifests, quotas, schema, tags
from gateway.db.changes import Concern, content_key
from gateway.db.engine import Database
from gateway.db.manifests import Reference, StoredManifest
from gateway.db.repositories import StoredRepository
from tests.gateway.db.announced import Announced
from tests.gateway.db.identity_rows import NOW
from tests.gateway.db.native_rows import add_repository, new_manifest

SUBJECT = Digest.of(b"a manifest that need not be here")


@pytest.fixture
async def repository(database: Database) -> StoredRepository:
    async with database.write() as connection:
        return await add_repository(connection)


async def test_a_manifest_is_found_byte_for_byte_by_its_digest_and_by_its_tags(
    database: Database, repository: StoredRepository
) -> None:
    manifest = new_manifest()
    digest, stored = manifest.descriptor.digest, StoredManifest(manifest.descriptor, manifest.raw)
    async with database.write() as connection:
        number = await manifests.put(connection, repository.id, manifest, NOW)
        for name in ("v1", "latest"):
            await tags.point(connection, repository.id, Tag(name), number, NOW, "ada")
        other = await add_repository(connection, "other/app")
    async with database.read() as connection:
        for reference in (digest, Tag("v1"), Tag("latest")):
            assert await manifests.find(connection, repository.id, reference) == stored
            assert await manifests.stat(connection, repository.id, reference) == manifest.descriptor
            assert await manifests.find(connection, other.id, reference) is None
            assert await manifests.stat(connection, other.id, reference) is None
        assert await manifests.find(connection, repository.id, Tag("v2")) is None
        assert await manifests.missing(connection, repository.id, [digest, SUBJECT]) == {SUBJECT}
        assert await manifests.missing(connection, repository.id, []) == set()
        assert await manifests.repositories_with(connection, digest, 5) == ["team/app"]


async def test_what_is_missing_is_found_among_more_digests_than_one_statement_takes(
    database: Database, repository: StoredRepository
) -> None:
    here = [new_manifest(str(number)) for number in range(3)]
    async with database.write() as connection:
        for manifest in here:
            await manifests.put(connection, repository.id, manifest, NOW)
    unknown = [Digest.of(str(number).encode()) for number in range(1200)]
    async with database.read() as connection:
        wanted = [*unknown[:600], *(manifest.descriptor.digest for manifest in here), *unknown[600:]]
        assert await manifests.missing(connection, repository.id, wanted) == set(unknown)


async def test_a_manifest_that_is_put_again_keeps_its_number_and_tells_nobody(
    database: Database, repository: StoredRepository
) -> None:
    manifest = new_manifest("one", Reference(Digest.of(b"layer"), False), Reference(SUBJECT, True))
    announced = Announced(database)
    async with database.write() as connection:
        number = await manifests.put(connection, repository.id, manifest, NOW)
        await tags.point(connection, repository.id, Tag("v1"), number, NOW, "ada")
    digest = manifest.descriptor.digest
    keys = {(Concern.CONTENT, content_key(repository.id, reference)) for reference in (digest, Tag("v1"))}
    assert announced.take() == keys
    async with database.write() as connection:
        assert await manifests.put(connection, repository.id, manifest, NOW) == number
        rows = await connection.execute(
            select(schema.manifest_references.c.digest, schema.manifest_references.c.is_manifest)
        )
        assert {tuple(row) for row in rows} == {(str(Digest.of(b"layer")), False), (str(SUBJECT), True)}
    assert announced.take() == set()
    renamed = replace(manifest, descriptor=replace(manifest.descriptor, media_type=DOCKER_MANIFEST))
    async with database.write() as connection:
        assert await manifests.put(connection, repository.id, renamed, NOW) == number
        assert await manifests.stat(connection, repository.id, Tag("v1")) == renamed.descriptor
    assert announced.take() == keys


async def test_a_deleted_manifest_takes_its_tags_and_references_with_it(
    database: Database, repository: StoredRepository
) -> None:
    doomed = new_manifest("one", Reference(SUBJECT, False))
    other = new_manifest("two", Reference(SUBJECT, False))
    async with database.write() as connection:
        number = await manifests.put(connection, repository.id, doomed, NOW)
        kept = await manifests.put(connection, repository.id, other, NOW)
        for name in ("a", "b"):
            await tags.point(connection, repository.id, Tag(name), number, NOW, "ada")
        await tags.point(connection, repository.id, Tag("c"), kept, NOW, "ada")
        await manifests.put(connection, repository.id, other, NOW)
        assert await quotas.stored_bytes(connection, repository.project_id) == len(doomed.raw) + len(other.raw)
    announced, digest = Announced(database), doomed.descriptor.digest
    async with database.write() as connection:
        assert await manifests.delete(connection, repository.id, digest, NOW, "ada")
    gone = (digest, Tag("a"), Tag("b"))
    assert announced.take() == {(Concern.CONTENT, content_key(repository.id, reference)) for reference in gone}
    async with database.write() as connection:
        assert not await manifests.delete(connection, repository.id, digest, NOW, "ada")
        assert await quotas.stored_bytes(connection, repository.project_id) == len(other.raw)
        assert await tags.list_page(connection, repository.id) == ["c"]
        assert list(await connection.scalars(select(schema.manifest_references.c.manifest_id))) == [kept]


async def test_referrers_are_listed_by_subject_and_type_in_the_order_of_their_pushes_and_in_pages(
    database: Database, repository: StoredRepository
) -> None:
    pushed = [
        new_manifest(str(number), subject=SUBJECT, artifact_type=f"application/{'odd' if number % 2 else 'even'}")
        for number in range(5)
    ]
    async with database.write() as connection:
        numbers = [await manifests.put(connection, repository.id, manifest, NOW) for manifest in pushed]
        await manifests.put(connection, repository.id, new_manifest("none"), NOW)
        await manifests.put(connection, repository.id, new_manifest("another", subject=Digest.of(b"")), NOW)
        other = await add_repository(connection, "other/app")
        await manifests.put(connection, other.id, pushed[0], NOW)
    async with database.read() as connection:
        found = await manifests.list_referrers(connection, repository.id, SUBJECT)
        assert [(referrer.id, referrer.size) for referrer in found] == [
            (number, len(manifest.raw)) for number, manifest in zip(numbers, pushed, strict=True)
        ]
        odd = await manifests.list_referrers(connection, repository.id, SUBJECT, "application/odd")
        assert [referrer.id for referrer in odd] == [numbers[1], numbers[3]]
        page = await manifests.list_referrers(connection, repository.id, SUBJECT, after=numbers[1], limit=2)
        assert [referrer.id for referrer in page] == numbers[2:4]
        read = await manifests.read_all(connection, [numbers[3], numbers[1]])
        assert read == [StoredManifest(pushed[number].descriptor, pushed[number].raw) for number in (1, 3)]


async def test_who_needs_a_blob_or_a_manifest_is_found_within_the_repository(
    database: Database, repository: StoredRepository
) -> None:
    blob, child = Reference(Digest.of(b"layer"), False), Reference(SUBJECT, True)
    image, index = new_manifest("image", blob), new_manifest("index", child)
    async with database.write() as connection:
        for manifest in (image, index):
            await manifests.put(connection, repository.id, manifest, NOW)
        other = await add_repository(connection, "other/app")
    async with database.read() as connection:
        assert await manifests.find_needing(connection, repository.id, blob) == image.descriptor.digest
        assert await manifests.find_needing(connection, repository.id, child) == index.descriptor.digest
        assert await manifests.find_needing(connection, repository.id, Reference(SUBJECT, False)) is None
        assert await manifests.find_needing(connection, other.id, blob) is None
