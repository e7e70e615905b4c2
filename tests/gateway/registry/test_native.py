"""Native repositories: what is pushed is pulled byte for byte, and what cannot be is refused as a whole."""

import asyncio
import itertools
import json
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from sqlalchemy import Table, func, select, update

from cache.oci.digest import Digest
from cache.oci.errors import (
    BlobUnknown,
    Busy,
    Denied,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameUnknown,
    RegistryError,
    StoreUnavailable,
    UploadUnknown,
)
from cache.oci.media_types import OCI_MANIFEST
from cache.oci.names import RepositoryName, Tag
from cache.runtime.fair_queue import Requester
from cache.values import BEGINNING, PageStart
from gateway.db import manifests, projects, schema
from gateway.db.engine import Database
from gateway.namespaces.project import Project
from gateway.registry import referrers
from gateway.registry.base import WritableRepository
from gateway.registry.native import FEW_REFERENCES
from gateway.registry.native_store import NativeStore
from tests.gateway.db.identity_rows import NOW
from tests.gateway.registry.conftest import NAME
from tests.gateway.registry.stores import (
    CONFIG,
    LAYER,
    OWNER,
    descriptor_of,
    entry,
    image,
    index,
    push_blob,
    push_image,
)

V1, V2, LATEST = Tag("v1"), Tag("v2"), Tag("latest")
NOWHERE = Digest.of(b"nobody pushed this")
ELSEWHERE = Digest.of(b"nor this")
CROWD = 20


async def read(repository: WritableRepository, digest: Digest) -> bytes:
    found = await repository.blob(digest)
    try:
        content = b""
        async for extent in found.blob.ready(0, found.blob.size):
            content += await found.blob.read(extent)
        return content
    finally:
        found.blob.close()


async def count(database: Database, table: Table) -> int:
    async with database.read() as connection:
        return int(await connection.scalar(select(func.count()).select_from(table)) or 0)


# Push and pull


async def test_what_is_pushed_is_pulled_byte_for_byte_by_tag_and_by_digest(repository: WritableRepository) -> None:
    pushed = await push_image(repository, "an image", V1, LATEST)
    for reference in (V1, LATEST, pushed.descriptor.digest):
        for _ in range(2):  # from the database, and from memory
            found = await repository.manifest(reference)
            assert found.manifest == pushed
            assert (await repository.stat_manifest(reference)).descriptor == pushed.descriptor
            assert found.status.outcome is None
    content = b"layer of an image"
    assert await read(repository, Digest.of(content)) == content
    assert (await repository.stat_blob(Digest.of(content))).size == len(content)


async def test_a_repository_exists_from_the_first_push_on(
    repository: WritableRepository, store: NativeStore, project: Project
) -> None:
    refused: list[tuple[Any, type[RegistryError], str]] = [
        (repository.manifest(V1), ManifestUnknown, "team/app has no tag v1"),
        (repository.stat_manifest(NOWHERE), ManifestUnknown, f"team/app has no manifest {NOWHERE}"),
        (repository.blob(NOWHERE), BlobUnknown, f"team/app has no blob {NOWHERE}"),
        (repository.stat_blob(NOWHERE), BlobUnknown, f"team/app has no blob {NOWHERE}"),
        (repository.tags(None), NameUnknown, "project 'team/app' holds no repository 'team/app'"),
        (repository.find_upload("x", OWNER), UploadUnknown, "there is no repository team/app: begin a new upload"),
        (repository.delete_tag(V1), ManifestUnknown, "team/app has no tag v1"),
        (repository.delete_manifest(NOWHERE), ManifestUnknown, f"team/app has no manifest {NOWHERE}"),
        (repository.delete_blob(NOWHERE), BlobUnknown, f"team/app has no blob {NOWHERE}"),
    ]
    for request, error, reason in refused:
        with pytest.raises(error, match=reason):
            await request
    assert (await repository.referrers(NOWHERE, None)).page.manifests == []
    assert await store.find(NAME) is None
    session = await repository.begin_upload(OWNER)
    found = await store.find(NAME)
    assert found is not None
    assert (found.project_id, found.path) == (project.id, "team/app")
    assert (await repository.find_upload(session.id, OWNER)).id == session.id
    assert (await repository.tags(None)).page.tags == []
    with pytest.raises(UploadUnknown):
        await repository.find_upload(session.id, "user 2")


async def test_repositories_of_one_project_share_nothing_but_the_bytes(
    store: NativeStore, project: Project, repository: WritableRepository
) -> None:
    pushed = await push_image(repository, "an image", V1)
    other = store.repository(project, RepositoryName("team/app/other"))
    await other.begin_upload(OWNER)
    for request in (other.manifest(V1), other.manifest(pushed.descriptor.digest)):
        with pytest.raises(ManifestUnknown):
            await request
    for blob in pushed.references():
        with pytest.raises(BlobUnknown):
            await other.stat_blob(blob.digest)
    with pytest.raises(ManifestBlobUnknown):
        await other.put_manifest(pushed, (V1,))


async def test_a_tag_moves_and_the_manifest_that_it_left_stays(repository: WritableRepository) -> None:
    first = await push_image(repository, "first", LATEST)
    second = await push_image(repository, "second", LATEST, LATEST, V2)
    assert (await repository.manifest(LATEST)).manifest == second
    assert (await repository.manifest(V2)).manifest == second
    assert (await repository.manifest(first.descriptor.digest)).manifest == first
    await repository.put_manifest(first, (LATEST,))
    assert (await repository.manifest(LATEST)).manifest == first


# References


async def test_a_refusal_lists_every_missing_reference_and_nothing_is_stored(
    database: Database, repository: WritableRepository
) -> None:
    here = await push_blob(repository, b"a layer")
    gone = [Digest.of(str(number).encode(), algorithm) for number in range(3) for algorithm in ("sha256", "sha512")]
    broken = image(entry(CONFIG, gone[0]), [entry(LAYER, digest) for digest in (here, *gone[1:])])
    with pytest.raises(ManifestBlobUnknown, match="blob unknown to registry: team/app does not have 6 refer") as error:
        await repository.put_manifest(broken, (V1,))
    assert all(f"blob {digest}" in str(error.value.detail) for digest in gone)
    assert str(here) not in str(error.value.detail)
    assert await count(database, schema.manifests) == await count(database, schema.tags) == 0


async def test_the_children_of_an_index_must_be_manifests_of_the_repository(
    store: NativeStore, project: Project, repository: WritableRepository
) -> None:
    child = await push_image(repository, "a child")
    absent = await push_image(store.repository(project, RepositoryName("team/app/other")), "another child")
    await push_blob(repository, absent.raw)  # a blob is no manifest
    both = index([descriptor_of(child), descriptor_of(absent)])
    with pytest.raises(ManifestBlobUnknown, match=f"1 reference .* manifest {absent.descriptor.digest}"):
        await repository.put_manifest(both, (V1,))
    whole = index([descriptor_of(child)])
    await repository.put_manifest(whole, (V1,))
    assert (await repository.manifest(V1)).manifest == whole


async def test_a_build_cache_is_an_index_of_blobs(repository: WritableRepository) -> None:
    layers = [await push_blob(repository, text) for text in (b"one", b"two")]
    cached = index(
        [entry(LAYER, layer) for layer in layers]
        + [entry("application/vnd.buildkit.cacheconfig.v0", await push_blob(repository, b"{}"))]
    )
    await repository.put_manifest(cached, (V1,))
    assert (await repository.manifest(V1)).manifest == cached
    with pytest.raises(Denied, match=f"the manifest {cached.descriptor.digest} of team/app needs {layers[0]}"):
        await repository.delete_blob(layers[0])


@pytest.mark.parametrize("as_blob", [True, False])
async def test_a_layer_that_is_a_manifest_may_be_pushed_as_either(
    repository: WritableRepository, as_blob: bool
) -> None:
    config, inner = await push_blob(repository, b"{}"), await push_image(repository, "inner")
    digest = inner.descriptor.digest
    if as_blob:
        await push_blob(repository, inner.raw)
        await repository.delete_manifest(digest)
    await repository.put_manifest(image(entry(CONFIG, config), [entry(OCI_MANIFEST, digest)]), (V1,))
    with pytest.raises(Denied, match=f"{digest}: delete that first|needs {digest}: delete that first"):
        await (repository.delete_blob(digest) if as_blob else repository.delete_manifest(digest))


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    ],
)
async def test_a_layer_that_no_registry_distributes_and_a_subject_may_be_missing(
    repository: WritableRepository, media_type: str
) -> None:
    config = await push_blob(repository, b"{}")
    windows = image(entry(CONFIG, config), [entry(media_type, NOWHERE)], subject=entry(OCI_MANIFEST, NOWHERE))
    await repository.put_manifest(windows, (V1,))
    assert (await repository.manifest(V1)).manifest == windows


async def test_a_config_must_be_here_whatever_it_calls_itself(repository: WritableRepository) -> None:
    odd = image(entry("application/vnd.oci.image.layer.nondistributable.v1.tar", NOWHERE), [])
    with pytest.raises(ManifestBlobUnknown):
        await repository.put_manifest(odd, ())


async def test_a_manifest_with_too_many_references_is_refused(repository: WritableRepository) -> None:
    digests = (Digest.of(str(number).encode()) for number in range(10_001))
    with pytest.raises(ManifestInvalid, match="refers to 10001 manifests and blobs: 10000 are allowed"):
        await repository.put_manifest(index(entry(LAYER, digest) for digest in digests), ())


@pytest.mark.parametrize("exists", [False, True], ids=["no repository", "repository"])
async def test_many_references_are_refused_without_a_turn_to_write(
    repository: WritableRepository, database: Database, exists: bool
) -> None:
    if exists:
        await push_image(repository, "first", V1)
    many = index(entry(LAYER, Digest.of(str(number).encode())) for number in range(FEW_REFERENCES + 1))
    async with database.write(), asyncio.timeout(30):
        with pytest.raises(ManifestBlobUnknown, match=f"does not have {FEW_REFERENCES + 1} references"):
            await repository.put_manifest(many, (V2,))


async def test_many_references_are_stored_where_all_are_here(
    repository: WritableRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.registry.native.FEW_REFERENCES", 2)
    digests = [await push_blob(repository, str(number).encode()) for number in range(3)]
    many = index(entry(LAYER, digest) for digest in digests)
    await repository.put_manifest(many, (V1,))
    assert (await repository.manifest(V1)).manifest.raw == many.raw


async def test_a_refusal_names_repositories_that_have_what_is_missing_only_to_who_may_read_them(
    store: NativeStore, project: Project, repository: WritableRepository
) -> None:
    asked: list[str] = []

    async def readable(path: str) -> bool:
        asked.append(path)
        return path == "team/app/open"

    for name in ("team/app/closed", "team/app/open"):
        pushed = await push_image(store.repository(project, RepositoryName(name)), "an image")
    listed = index([descriptor_of(pushed), entry(OCI_MANIFEST, NOWHERE)])
    for manifest, kind, found in (
        (listed, "manifest", pushed.descriptor.digest),
        (pushed, "blob", pushed.layers[0].digest),
    ):
        with pytest.raises(ManifestBlobUnknown) as silent:
            await repository.put_manifest(manifest, (V1,))
        assert "has it" not in str(silent.value.detail)
        with pytest.raises(ManifestBlobUnknown) as named:
            await store.repository(project, NAME, readable).put_manifest(manifest, (V1,))
        assert f"{kind} {found} (repository team/app/open has it)" in str(named.value.detail)
        assert "closed" not in str(named.value.detail)
    assert "team/app/closed" in asked


# Deletion


async def test_a_deleted_tag_leaves_its_manifest(repository: WritableRepository) -> None:
    pushed = await push_image(repository, "an image", V1, LATEST)
    await repository.delete_tag(LATEST)
    for request in (repository.manifest(LATEST), repository.delete_tag(LATEST)):
        with pytest.raises(ManifestUnknown):
            await request
    assert (await repository.manifest(V1)).manifest == pushed


async def test_a_deleted_manifest_takes_every_tag_with_it(repository: WritableRepository) -> None:
    pushed, other = await push_image(repository, "one", V1, LATEST), await push_image(repository, "two", V2)
    await repository.delete_manifest(pushed.descriptor.digest)
    for reference in (V1, LATEST, pushed.descriptor.digest):
        for request in (repository.manifest(reference), repository.stat_manifest(reference)):
            with pytest.raises(ManifestUnknown):
                await request
    assert (await repository.tags(None)).page.tags == ["v2"]
    assert (await repository.manifest(V2)).manifest == other


async def test_what_others_need_is_deleted_after_them_alone(repository: WritableRepository) -> None:
    child = await push_image(repository, "a child", V1)
    whole, digest = index([descriptor_of(child)]), child.descriptor.digest
    await repository.put_manifest(whole, (LATEST,))
    with pytest.raises(Denied, match=f"the index {whole.descriptor.digest} of team/app lists {digest}: delete that"):
        await repository.delete_manifest(digest)
    layer = child.layers[0].digest
    with pytest.raises(Denied, match=f"the manifest {digest} of team/app needs {layer}: delete that first"):
        await repository.delete_blob(layer)
    assert (await repository.manifest(V1)).manifest == child
    await repository.delete_manifest(whole.descriptor.digest)
    await repository.delete_manifest(digest)
    await repository.delete_blob(layer)
    with pytest.raises(BlobUnknown):
        await repository.stat_blob(layer)
    with pytest.raises(BlobUnknown):
        await repository.delete_blob(layer)
    with pytest.raises(ManifestBlobUnknown):
        await repository.put_manifest(child, (V1,))


async def test_a_push_to_a_project_that_was_deleted_meanwhile_is_refused(
    database: Database, repository: WritableRepository
) -> None:
    pushed = await push_image(repository, "an image", V1)
    async with database.write() as connection:
        await projects.delete(connection, "team/app", NOW)
    for request in (repository.begin_upload(OWNER), repository.put_manifest(pushed, (V1,))):
        with pytest.raises(NameUnknown, match="project 'team/app' was deleted: create it again"):
            await request
    with pytest.raises(ManifestUnknown):
        await repository.manifest(V1)
    assert await count(database, schema.repositories) == 0


# Lists


async def test_tags_are_listed_in_pages_in_byte_order(repository: WritableRepository) -> None:
    names = [*(f"v{number}" for number in range(10)), "B", "a", "b"]
    await push_image(repository, "an image", *map(Tag, names))
    assert (await repository.tags(None)).page.tags == sorted(names)
    assert (await repository.tags(0)).page.tags == []
    for size in (1, 4, 13, 20):
        seen, start = list[str](), BEGINNING
        while True:
            page = (await repository.tags(size, start)).page
            assert 0 < len(page.tags) <= size
            seen += page.tags
            if page.next is None:
                break
            start = page.next
        assert seen == sorted(names)
    assert (await repository.tags(2, PageStart(after="b0"))).page.tags == ["v0", "v1"]


async def test_referrers_are_described_as_the_specification_says(repository: WritableRepository) -> None:
    subject = await push_image(repository, "the subject", V1)
    about, notes = descriptor_of(subject), {"org.example.note": "x"}
    typed = await push_image(repository, "typed", artifactType="application/a", subject=about, annotations=notes)
    plain = await push_image(repository, "plain", subject=about)
    listed = index([], subject=about)
    named = index([], subject=about, artifactType="application/a")
    for manifest in (listed, named):
        await repository.put_manifest(manifest, ())
    found = (await repository.referrers(subject.descriptor.digest, None)).page
    assert found.manifests == [
        {**descriptor_of(typed), "artifactType": "application/a", "annotations": notes},
        {**descriptor_of(plain), "artifactType": CONFIG},
        descriptor_of(listed),
        {**descriptor_of(named), "artifactType": "application/a"},
    ]
    assert found.filtered
    assert found.next is None
    filtered = (await repository.referrers(subject.descriptor.digest, "application/a")).page
    assert [found["digest"] for found in filtered.manifests] == [
        str(manifest.descriptor.digest) for manifest in (typed, named)
    ]
    assert (await repository.referrers(NOWHERE, None)).page.manifests == []
    await repository.delete_manifest(typed.descriptor.digest)
    filtered = (await repository.referrers(subject.descriptor.digest, "application/a")).page
    assert [found["digest"] for found in filtered.manifests] == [str(named.descriptor.digest)]


async def test_annotations_that_are_no_texts_are_not_passed_on(repository: WritableRepository) -> None:
    about = entry(OCI_MANIFEST, NOWHERE)
    await repository.put_manifest(index([], subject=about, annotations={"a": "x", "b": 1.5, "c": None, "d": ["x"]}), ())
    await repository.put_manifest(index([], subject=about, annotations={"b": {}}), ())
    [some, none] = (await repository.referrers(NOWHERE, None)).page.manifests
    assert some["annotations"] == {"a": "x"}
    assert "annotations" not in none


async def test_referrers_are_parsed_once_however_many_read(
    repository: WritableRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    about, parsed = entry(OCI_MANIFEST, NOWHERE), list[bytes]()
    parse = referrers.parse_document
    pushed = [index([], subject=about, annotations={"text": letter * 50_000}) for letter in "abc"]
    for manifest in pushed:
        await repository.put_manifest(manifest, ())

    def noted(raw: bytes) -> Any:
        parsed.append(raw)
        return parse(raw)

    monkeypatch.setattr(referrers, "parse_document", noted)
    found = await asyncio.gather(*(repository.referrers(NOWHERE, None) for _ in range(10)))
    assert parsed == [manifest.raw for manifest in pushed]
    assert all(one == found[0] for one in found)
    assert len((await repository.referrers(NOWHERE, None, 1)).page.manifests) == 2
    assert len(parsed) == 3
    await repository.delete_manifest(pushed[0].descriptor.digest)
    left = (await repository.referrers(NOWHERE, None)).page.manifests
    assert [found["digest"] for found in left] == [str(manifest.descriptor.digest) for manifest in pushed[1:]]


async def test_a_crowd_of_readers_keeps_nobody_else_from_the_referrers(
    store: NativeStore, project: Project, repository: WritableRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    for about in (NOWHERE, ELSEWHERE):
        await repository.put_manifest(index([], subject=entry(OCI_MANIFEST, about)), ())
    read_all, began, go_on = manifests.read_all, asyncio.Event(), asyncio.Event()

    async def held(*args: Any) -> Any:
        if not began.is_set():
            began.set()
            await go_on.wait()
        return await read_all(*args)

    turns = store._parts.memory._describing
    take_turn, came, all_came = turns.turn, itertools.count(1), asyncio.Event()

    def counted(who: Requester) -> AbstractAsyncContextManager[None]:
        if next(came) == CROWD:
            all_came.set()
        return take_turn(who)

    monkeypatch.setattr(manifests, "read_all", held)
    monkeypatch.setattr(turns, "turn", counted)
    crowd, other = (store.repository(project, NAME, None, Requester(name)) for name in ("crowd", "other"))
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for _ in range(CROWD):
            group.create_task(crowd.referrers(NOWHERE, None))
        await began.wait()
        await all_came.wait()  # each after reads of its own
        assert len((await other.referrers(ELSEWHERE, None)).page.manifests) == 1
        monkeypatch.setattr(turns, "_seconds", 0.01)
        with pytest.raises(Busy):
            await crowd.referrers(NOWHERE, None)
        go_on.set()


async def all_referrers(repository: WritableRepository, digest: Digest) -> list[list[dict[str, Any]]]:
    """The pages of the list, from the first to the last."""
    pages, after = [], 0
    while True:
        page = (await repository.referrers(digest, None, after)).page
        pages.append(page.manifests)
        if page.next is None:
            return pages
        after = page.next


async def test_referrers_come_in_pages_that_clients_accept(repository: WritableRepository) -> None:
    about = entry(OCI_MANIFEST, NOWHERE)
    small = [index([], subject=about, annotations={"number": str(number)}) for number in range(105)]
    large = [index([], subject=about, annotations={"text": letter * 900_000}) for letter in "abcde"]
    huge = index([], subject=about, annotations={"text": "x" * 4_000_000})
    for manifest in (*small, *large, huge):
        await repository.put_manifest(manifest, ())
    pages = await all_referrers(repository, NOWHERE)
    listed = [found["digest"] for page in pages for found in page]
    assert listed == [str(manifest.descriptor.digest) for manifest in (*small, *large, huge)]
    assert all(len(page) <= 100 and len(json.dumps(page)) < 4 * 1024 * 1024 for page in pages)
    assert "annotations" not in pages[-1][-1]
    assert pages[-1][-1]["size"] == len(huge.raw)


async def test_repositories_are_listed_for_the_catalog(store: NativeStore, project: Project) -> None:
    names = ["team/app", "team/app/a", "team/app/a-b", "team/app/a/b"]
    for name in names:
        pushed = await push_blob(store.repository(project, RepositoryName(name)), b"a layer")
    assert await store.list_repositories([project.id], "", 10) == sorted(names)
    assert await store.list_repositories([project.id], "team/app/a", 1) == ["team/app/a-b"]
    assert await store.list_repositories([project.id + 1], "", 10) == []
    assert await store.repositories_with(pushed, 2) == ["team/app", "team/app/a"]


# What the database says


async def test_a_manifest_whose_bytes_changed_in_the_database_is_not_served(
    database: Database, repository: WritableRepository
) -> None:
    pushed = await push_image(repository, "an image", V1)
    async with database.write() as connection:
        changed = pushed.raw.replace(b'"size": 7', b'"size": 8')
        await connection.execute(update(schema.manifests).values(raw=changed))
    with pytest.raises(StoreUnavailable, match="is damaged in this server's database: restore a backup"):
        await repository.manifest(V1)


async def test_artifact_types_that_no_filter_can_name_are_listed_and_not_stored(
    database: Database, repository: WritableRepository
) -> None:
    odd = index([], subject=entry(OCI_MANIFEST, NOWHERE), artifactType="\0" * 300)
    await repository.put_manifest(odd, (V1,))
    [found] = (await repository.referrers(NOWHERE, None)).page.manifests
    assert found["artifactType"] == "\0" * 300
    async with database.read() as connection:
        assert await connection.scalar(select(schema.manifests.c.artifact_type)) is None
