"""Garbage collection of a native store, on every database, with a clock of the test's own."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from cache.oci.digest import Digest
from cache.oci.errors import BlobUnknown, ManifestBlobUnknown, ManifestUnknown
from cache.oci.manifest import Manifest
from cache.oci.names import RepositoryName, Tag
from cache.runtime import failpoints
from cache.runtime.locks import locked
from gateway.db import (
    blob_removals,
    collection_state,
    projects,
    quotas,
    repositories,
    schema,
    stored_blobs,
    tag_events,
)
from gateway.db.collection_state import CollectionState
from gateway.db.engine import Database
from gateway.namespaces.errors import RestoreRefused
from gateway.namespaces.project import Project
from gateway.registry import collector as collector_module
from gateway.registry.base import WritableRepository
from gateway.registry.collector import Collected, CollectionRule, CollectionStopped, Collector
from gateway.registry.native_store import NativeStore
from gateway.registry.restoring import restore_repository, restore_tag
from tests.gateway.registry.opened import NOW
from tests.gateway.registry.stores import (
    CONFIG,
    KEPT,
    LAYER,
    descriptor_of,
    entry,
    image,
    index,
    open_store,
    push_blob,
    push_image,
)

DELAY = timedelta(days=1)
HOUR = timedelta(hours=1)
SELDOM = 8 * HOUR
V1 = Tag("v1")
NAME = RepositoryName("team/app")


class Clock:
    """A clock that tests move; it never jumps."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def passed(self) -> float:
        return (self.now - NOW).total_seconds()

    def wait(self, time: timedelta) -> None:
        self.now += time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(database: Database, tmp_path: Path, clock: Clock) -> AsyncIterator[NativeStore]:
    async with open_store(database, tmp_path, clock) as store:
        yield store


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "backup.lock"


@pytest.fixture
def collector(store: NativeStore, lock: Path, clock: Clock) -> Collector:
    return Collector(store.uploads.native, CollectionRule(DELAY, lock), clock.passed)


async def collect(collector: Collector) -> Collected:
    """Collect all that is due."""
    total, more = Collected(), True
    while more:
        done = await collector.step()
        total.add(done)
        more = done.has_more
    return total


async def pass_time(collector: Collector, clock: Clock, days: int = 4, every: timedelta = 4 * HOUR) -> Collected:
    """Let days pass in which the collector looks every four hours, or as often as that."""
    total = Collected()
    for _ in range(days * DELAY // every):
        clock.wait(every)
        total.add(await collect(collector))
    return total


@contextmanager
def armed(specification: str) -> Iterator[None]:
    failpoints.arm(specification)
    try:
        yield
    finally:
        failpoints.arm("")


def files(data: Path) -> set[str]:
    """The names of the files that the store has."""
    return {path.name for path in (data / "blobs").rglob("*") if path.is_file()}


async def test_an_image_without_a_tag_goes_after_a_delay_and_its_blobs_after_another(
    repository: WritableRepository,
    collector: Collector,
    clock: Clock,
    store: NativeStore,
    tmp_path: Path,
    database: Database,
    project: Project,
) -> None:
    manifest = await push_image(repository, "one", V1)
    await repository.delete_tag(V1)
    clock.wait(DELAY - HOUR)
    assert await collect(collector) == Collected(reviewed=0)
    await repository.manifest(manifest.descriptor.digest)
    clock.wait(2 * HOUR)
    assert await collect(collector) == Collected(reviewed=1, manifests=1)
    with pytest.raises(ManifestUnknown):
        await repository.manifest(manifest.descriptor.digest)
    assert len(files(tmp_path)) == 2
    clock.wait(DELAY + HOUR)
    sizes = len(b"config of one") + len(b"layer of one")
    assert await collect(collector) == Collected(reviewed=2, blobs=2, freed_bytes=sizes)
    assert files(tmp_path) == set()
    async with database.read() as connection:
        assert await quotas.stored_bytes(connection, project.id) == 0
        state = await collection_state.read(connection)
        assert (state.deleted_manifests, state.deleted_blobs, state.freed_bytes) == (1, 2, sizes)
        waiting = await collection_state.waiting(connection)
        assert (waiting.manifests, waiting.blobs, waiting.files) == (0, 0, 0)


async def test_what_something_needs_stays_for_ever(
    repository: WritableRepository, collector: Collector, clock: Clock
) -> None:
    tagged = await push_image(repository, "tagged", V1)
    child = await push_image(repository, "child")
    await repository.put_manifest(index([descriptor_of(child)]), (Tag("list"),))
    signature = await push_image(repository, "signature", subject=descriptor_of(tagged))
    of_signature = await push_image(repository, "of-signature", subject=descriptor_of(signature))
    untagged = await push_image(repository, "untagged")
    attached = await push_image(repository, "attached", Tag("attached"), subject=descriptor_of(untagged))
    kept = (tagged, child, signature, of_signature, untagged, attached)
    done = await pass_time(collector, clock)
    assert (done.manifests, done.blobs) == (0, 0)
    for manifest in kept:
        await repository.manifest(manifest.descriptor.digest)
        for reference in manifest.references():
            (await repository.blob(reference.digest)).blob.close()


async def test_what_lost_its_last_use_goes_with_all_that_it_alone_kept(
    repository: WritableRepository, collector: Collector, clock: Clock, tmp_path: Path
) -> None:
    child = await push_image(repository, "child")
    await repository.put_manifest(index([descriptor_of(child)]), (V1,))
    top = (await repository.stat_manifest(V1)).descriptor
    signature = await push_image(
        repository, "signature", subject={"mediaType": top.media_type, "digest": str(top.digest), "size": 1}
    )
    await push_image(repository, "of-signature", subject=descriptor_of(signature))
    attached = await push_image(repository, "attached", Tag("attached"), subject=descriptor_of(child))
    await pass_time(collector, clock)
    await repository.delete_tag(V1)
    await pass_time(collector, clock, days=6)
    await repository.manifest(attached.descriptor.digest)
    await repository.manifest(child.descriptor.digest)
    with pytest.raises(ManifestUnknown):
        await repository.manifest(signature.descriptor.digest)
    await repository.delete_tag(Tag("attached"))
    await pass_time(collector, clock, days=6)
    assert files(tmp_path) == set()


async def test_a_blob_of_another_repository_stays_there(
    store: NativeStore, project: Project, repository: WritableRepository, collector: Collector, clock: Clock
) -> None:
    manifest = await push_image(repository, "shared", V1)
    other = store.repository(project, RepositoryName("team/app/other"))
    layer = manifest.references()[-1].digest
    assert await other.mount(layer, None)
    await pass_time(collector, clock)
    with pytest.raises(BlobUnknown):
        await other.blob(layer)
    (await repository.blob(layer)).blob.close()


async def test_an_interrupted_deletion_leaves_nothing_for_ever(
    repository: WritableRepository,
    collector: Collector,
    clock: Clock,
    database: Database,
    store: NativeStore,
    tmp_path: Path,
) -> None:
    await push_image(repository, "one", V1)
    await pass_time(collector, clock)
    async with database.write() as connection:
        assert await repositories.delete_part(connection, 1, clock())
    await pass_time(collector, clock, days=6)
    assert files(tmp_path) == set()


async def test_a_deleted_repository_is_kept_for_the_delay_and_leaves_no_file_after_it(
    repository: WritableRepository,
    collector: Collector,
    clock: Clock,
    database: Database,
    store: NativeStore,
    project: Project,
    tmp_path: Path,
) -> None:
    pushed = await push_image(repository, "one", V1)
    async with database.write() as connection:
        assert await repositories.delete(connection, NAME, clock(), "ada")
    assert (await collect(collector)).deleted == 0
    clock.wait(DELAY - HOUR)
    assert (await collect(collector)).repositories == 0
    async with database.write() as connection:
        await restore_repository(connection, NAME, clock())
    assert (await repository.manifest(V1)).manifest == pushed
    await pass_time(collector, clock)
    assert (await repository.manifest(V1)).manifest == pushed
    async with database.write() as connection:
        assert await repositories.delete(connection, NAME, clock(), "ada")
        stored = await quotas.stored_bytes(connection, project.id)
    clock.wait(DELAY + HOUR)
    done = await collector.examine()
    assert done.repositories == 1 and stored > 0
    assert (await collect(collector)).repositories == 1
    async with database.write() as connection:
        assert await quotas.stored_bytes(connection, project.id) == 0
        with pytest.raises(RestoreRefused, match="no deleted repository 'team/app' is kept"):
            await restore_repository(connection, NAME, clock())
    await pass_time(collector, clock)
    assert files(tmp_path) == set()


async def test_what_waits_is_told_with_its_bytes_and_the_events_since_which_it_waits(
    repository: WritableRepository, clock: Clock, database: Database
) -> None:
    await push_blob(repository, b"twelve bytes")
    await push_image(repository, "one", V1)
    await repository.delete_tag(V1)
    async with database.read() as connection:
        waiting = await collection_state.waiting(connection)
        layers = await quotas.stored_bytes(connection, 1)
        [raw] = [len(manifest.raw) for manifest in await stored_blobs.list_manifests(connection, 0, 10)]
    assert (waiting.repositories, waiting.manifests, waiting.files, waiting.first) == (0, 1, 0, clock())
    assert waiting.events == {"blob_upload": waiting.blobs, "tag_delete": 1}
    assert waiting.bytes == layers - raw


async def test_what_nothing_needs_in_a_restored_repository_stays_for_a_full_delay(
    repository: WritableRepository, collector: Collector, clock: Clock, database: Database
) -> None:
    unneeded = await push_blob(repository, b"of no manifest")
    untagged = (await push_image(repository, "one")).descriptor.digest
    async with database.write() as connection:
        assert await repositories.delete(connection, NAME, clock(), "ada")
    clock.wait(DELAY - HOUR)
    async with database.write() as connection:
        await restore_repository(connection, NAME, clock())
    clock.wait(DELAY - HOUR)
    await collect(collector)
    assert await repository.stat_blob(unneeded) and await repository.stat_manifest(untagged)
    await pass_time(collector, clock)
    with pytest.raises(BlobUnknown):
        await repository.stat_blob(unneeded)


async def test_a_restored_tag_keeps_its_manifest_whenever_it_is_restored_before_the_review(
    repository: WritableRepository, collector: Collector, clock: Clock, database: Database
) -> None:
    pushed = await push_image(repository, "one", V1)
    deleted = await repository.delete_tag(V1)
    assert deleted.kept_until == clock() + KEPT
    clock.wait(DELAY + HOUR)
    async with database.write() as connection:
        found = await repositories.find(connection, NAME)
        assert found is not None
        restored = await restore_tag(connection, found, V1, clock(), "ada")
    assert restored == pushed.descriptor.digest
    await pass_time(collector, clock)
    assert (await repository.manifest(V1)).manifest == pushed
    await repository.delete_tag(V1)
    await pass_time(collector, clock)
    async with database.write() as connection:
        with pytest.raises(RestoreRefused, match="any more, nor any other that the tag pointed to"):
            await restore_tag(connection, found, V1, clock(), "ada")


async def restored(database: Database, tag: Tag, now: datetime, digest: Digest | None = None) -> Digest:
    async with database.write() as connection:
        found = await repositories.find(connection, NAME)
        assert found is not None
        return await restore_tag(connection, found, tag, now, "ada", digest=digest)


async def kept_manifests(database: Database) -> int:
    async with database.read() as connection:
        return int(await connection.scalar(select(func.count()).select_from(schema.deleted_manifests)) or 0)


async def test_a_manifest_that_was_deleted_by_its_digest_is_restored_with_each_of_its_tags_for_a_delay(
    repository: WritableRepository, collector: Collector, clock: Clock, database: Database, project: Project
) -> None:
    v2, pushed = Tag("v2"), await push_image(repository, "one", V1)
    await repository.put_manifest(pushed, (v2,))
    await pass_time(collector, clock, every=SELDOM)
    async with database.read() as connection:
        stored = await quotas.stored_bytes(connection, project.id)
    digest = pushed.descriptor.digest
    assert await repository.delete_manifest(digest) == clock() + KEPT
    for reference in (V1, v2, digest):
        with pytest.raises(ManifestUnknown):
            await repository.manifest(reference)
    async with database.read() as connection:
        assert await quotas.stored_bytes(connection, project.id) == stored - len(pushed.raw)
        for event in await tag_events.list_page(connection, 1, V1, limit=1):
            assert (event.before, event.kept) == (digest, {digest})
    clock.wait(DELAY - HOUR)
    await collect(collector)
    assert [await restored(database, tag, clock()) for tag in (V1, v2)] == [digest, digest]
    assert await kept_manifests(database) == 0
    async with database.read() as connection:
        assert await quotas.stored_bytes(connection, project.id) == stored
    await pass_time(collector, clock, every=SELDOM)
    for reference in (V1, v2, digest):
        assert (await repository.manifest(reference)).manifest.raw == pushed.raw
    for reference in pushed.references():
        (await repository.blob(reference.digest)).blob.close()


async def test_a_deleted_manifest_is_forgotten_after_the_delay(
    repository: WritableRepository, collector: Collector, clock: Clock, database: Database
) -> None:
    pushed = await push_image(repository, "one", V1)
    await pass_time(collector, clock, every=SELDOM)
    await repository.delete_manifest(pushed.descriptor.digest)
    clock.wait(DELAY + HOUR)
    await collect(collector)
    assert await kept_manifests(database) == 0
    with pytest.raises(RestoreRefused, match="any more, nor any other that the tag pointed to"):
        await restored(database, V1, clock())


async def test_a_deleted_manifest_without_a_part_of_it_is_refused_by_name(
    repository: WritableRepository, clock: Clock, database: Database
) -> None:
    pushed = await push_image(repository, "one", V1)
    await repository.delete_manifest(pushed.descriptor.digest)
    layer = pushed.references()[-1].digest
    await repository.delete_blob(layer)
    with pytest.raises(RestoreRefused, match=f"such as {layer}: push the image again"):
        await restored(database, V1, clock())
    with pytest.raises(RestoreRefused, match="no manifest sha256:"):
        await restored(database, V1, clock(), Digest.of(b"never pushed"))


async def test_what_is_collected_and_what_a_deleted_repository_holds_is_not_kept(
    repository: WritableRepository, collector: Collector, clock: Clock, database: Database
) -> None:
    await push_image(repository, "untagged")
    doomed = await push_image(repository, "doomed", V1)
    clock.wait(DELAY + HOUR)
    assert (await collect(collector)).manifests == 1
    assert await kept_manifests(database) == 0
    await repository.delete_manifest(doomed.descriptor.digest)
    assert await kept_manifests(database) == 1
    async with database.write() as connection:
        while await repositories.delete_part(connection, 1, clock()):
            pass
    assert await kept_manifests(database) == 0


async def test_a_deleted_project_leaves_no_file(
    repository: WritableRepository,
    collector: Collector,
    clock: Clock,
    database: Database,
    store: NativeStore,
    tmp_path: Path,
) -> None:
    await push_image(repository, "one", V1)
    async with database.write() as connection:
        await projects.delete(connection, "team/app", clock())
    await pass_time(collector, clock)
    assert files(tmp_path) == set()


async def test_a_subject_that_a_pusher_was_told_of_outlives_the_referrer_that_kept_it(
    repository: WritableRepository, store: NativeStore, lock: Path, clock: Clock
) -> None:
    """The delay is shorter than a day, in which content without a review is looked for."""
    collector = Collector(store.uploads.native, CollectionRule(2 * HOUR, lock), clock.passed)
    await collect(collector)
    subject = await push_image(repository, "subject")
    await push_image(repository, "attached", V1, subject=descriptor_of(subject))
    clock.wait(3 * HOUR)
    await collect(collector)
    await repository.delete_tag(V1)
    clock.wait(HOUR)
    await repository.confirm_manifest(subject.descriptor.digest)
    for _ in range(11):
        clock.wait(HOUR / 6)
        await collect(collector)
        await repository.manifest(subject.descriptor.digest)
    for _ in range(10):
        clock.wait(HOUR)
        await collect(collector)
    with pytest.raises(ManifestUnknown):
        await repository.manifest(subject.descriptor.digest)


async def test_a_layer_stays_that_has_the_digest_and_the_media_type_of_a_manifest(
    repository: WritableRepository, collector: Collector, clock: Clock
) -> None:
    inner = await push_image(repository, "inner", Tag("inner"))
    assert await push_blob(repository, inner.raw) == inner.descriptor.digest
    config = await push_blob(repository, b"config of outer")
    layer = entry(inner.descriptor.media_type, inner.descriptor.digest)
    await repository.put_manifest(image(entry(CONFIG, config), [layer]), (V1,))
    await pass_time(collector, clock)
    (await repository.blob(inner.descriptor.digest)).blob.close()


async def test_a_layer_that_came_after_its_manifest_stays_once_that_is_pushed_again(
    repository: WritableRepository, collector: Collector, clock: Clock
) -> None:
    config, content = await push_blob(repository, b"config"), b"a layer from elsewhere"
    foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar"
    manifest = image(entry(CONFIG, config), [entry(foreign, Digest.of(content))])
    await repository.put_manifest(manifest, (V1,))
    layer = await push_blob(repository, content)
    await repository.put_manifest(manifest, (V1,))
    await pass_time(collector, clock)
    (await repository.blob(layer)).blob.close()


async def test_no_file_goes_whose_database_was_replaced(
    repository: WritableRepository, collector: Collector, clock: Clock, tmp_path: Path, database: Database
) -> None:
    await push_blob(repository, CONTENT)
    clock.wait(DELAY + HOUR)
    with armed("gc.deleted=error:EIO@1"), pytest.raises(OSError, match=r"gc\.deleted"):
        await collect(collector)
    if not isinstance(database.address, Path):
        assert (await collect(collector)).freed_bytes == len(CONTENT), "a database elsewhere has no file"
        return
    database.address.rename(tmp_path / "aside.db")
    database.address.write_bytes(b"")
    with pytest.raises(CollectionStopped, match="the database was replaced meanwhile"):
        await collect(collector)
    assert files(tmp_path) == {DIGEST.hex}


# Each step of a push against each step of a review: the push relies on what it was told.

CONTENT = b"a layer that is pushed again"
DIGEST = Digest.of(CONTENT)


async def confirmed(repository: WritableRepository) -> bool:
    """HEAD by somebody who may push."""
    try:
        await repository.confirm_blob(DIGEST)
    except BlobUnknown:
        return False
    return True


async def mounted(repository: WritableRepository) -> bool:
    return await repository.mount(DIGEST, None)


async def pushed(repository: WritableRepository) -> bool:
    await push_blob(repository, CONTENT)
    return True


async def listed(repository: WritableRepository) -> bool:
    """PUT of a manifest that needs the blob."""
    try:
        await repository.put_manifest(image(entry(CONFIG, DIGEST), [entry(LAYER, DIGEST)]), (V1,))
    except ManifestBlobUnknown:
        return False
    return True


PUSH_STEPS = (confirmed, mounted, pushed, listed)


PushStep = Callable[[WritableRepository], Awaitable[bool]]


async def require_usable(repository: WritableRepository, answer: bool, collector: Collector, clock: Clock) -> None:
    """What was said to be there is there for most of a delay; what was not can be pushed."""
    clock.wait(DELAY - HOUR)
    await collect(collector)
    if not answer:
        await push_blob(repository, CONTENT)
    (await repository.blob(DIGEST)).blob.close()
    assert await listed(repository)
    await pass_time(collector, clock)
    found = (await repository.blob(DIGEST)).blob
    try:
        assert found.size == len(CONTENT)
    finally:
        found.close()


@pytest.mark.parametrize("step", PUSH_STEPS)
async def test_a_push_step_before_a_review_that_is_due_puts_it_off(
    step: PushStep, repository: WritableRepository, collector: Collector, clock: Clock
) -> None:
    await push_blob(repository, CONTENT)
    clock.wait(DELAY + HOUR)
    assert await step(repository)
    assert (await collect(collector)).blobs == 0
    await require_usable(repository, True, collector, clock)


@pytest.mark.parametrize("step", PUSH_STEPS)
async def test_a_push_step_between_the_deletion_of_a_blob_and_of_its_file_is_told_the_truth(
    step: PushStep, repository: WritableRepository, collector: Collector, clock: Clock, lock: Path, database: Database
) -> None:
    await push_blob(repository, CONTENT)
    clock.wait(DELAY + HOUR)
    with locked(lock, shared=True):
        assert (await collect(collector)).blobs == 1
        answer = await step(repository)
    assert answer is (step is pushed)
    await collect(collector)
    async with database.read() as connection:
        assert await blob_removals.count(connection) == (0, 0)
    await require_usable(repository, answer, collector, clock)


@pytest.mark.parametrize("step", PUSH_STEPS)
async def test_a_push_step_after_the_deletion_is_told_the_truth(
    step: PushStep, repository: WritableRepository, collector: Collector, clock: Clock
) -> None:
    await push_blob(repository, CONTENT)
    clock.wait(DELAY + HOUR)
    assert (await collect(collector)).freed_bytes == len(CONTENT)
    answer = await step(repository)
    assert answer is (step is pushed)
    await require_usable(repository, answer, collector, clock)


@contextmanager
def between_look_and_decision(monkeypatch: pytest.MonkeyPatch, step: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """Take a step once a collector has read what is due, before the first transaction that decides."""
    taken = False

    def then_step(read: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def read_and_step(*arguments: Any, **more: Any) -> Any:
            nonlocal taken
            due = await read(*arguments, **more)
            if due and not taken:
                taken = True
                await step()
            return due

        return read_and_step

    with monkeypatch.context() as patch:
        for name in ("_MANIFESTS", "_BLOBS"):
            kind = getattr(collector_module, name)
            patch.setattr(collector_module, name, replace(kind, list_due=then_step(kind.list_due)))
        patch.setattr(repositories, "list_deleted", then_step(repositories.list_deleted))
        yield
    assert taken


@pytest.mark.parametrize("step", PUSH_STEPS)
async def test_a_push_step_after_a_review_was_found_due_puts_it_off(
    step: PushStep,
    repository: WritableRepository,
    collector: Collector,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await push_blob(repository, CONTENT)
    clock.wait(DELAY + HOUR)

    async def take() -> None:
        assert await step(repository)

    with between_look_and_decision(monkeypatch, take):
        assert (await collect(collector)).blobs == 0
    await require_usable(repository, True, collector, clock)


# Each restore against each step of a review: what is restored is whole, and what is gone is refused.


async def restored_tag(database: Database, clock: Clock) -> bool:
    async with database.write() as connection:
        found = await repositories.find(connection, NAME)
        assert found is not None
        try:
            await restore_tag(connection, found, V1, clock(), "ada")
        except RestoreRefused:
            return False
    return True


async def restored_repository(database: Database, clock: Clock) -> bool:
    async with database.write() as connection:
        try:
            await restore_repository(connection, NAME, clock())
        except RestoreRefused:
            return False
    return True


async def without_tag(repository: WritableRepository, database: Database, clock: Clock) -> None:
    await repository.delete_tag(V1)


async def without_manifest(repository: WritableRepository, database: Database, clock: Clock) -> None:
    await repository.delete_manifest((await repository.stat_manifest(V1)).descriptor.digest)


async def without_family(repository: WritableRepository, database: Database, clock: Clock) -> None:
    """Delete an index and then what it listed, as by digests."""
    top = (await repository.manifest(V1)).manifest
    for digest in (top.descriptor.digest, top.references()[0].digest):
        await repository.delete_manifest(digest)


async def without_repository(repository: WritableRepository, database: Database, clock: Clock) -> None:
    async with database.write() as connection:
        assert await repositories.delete(connection, NAME, clock(), "ada")


@dataclass(frozen=True)
class Restore:
    """A deletion, and the restore of what it took; the restore tells whether it was done."""

    delete: Callable[[WritableRepository, Database, Clock], Awaitable[None]]
    restore: Callable[[Database, Clock], Awaitable[bool]]


RESTORES = [
    pytest.param(Restore(without_tag, restored_tag), id="tag"),
    pytest.param(Restore(without_manifest, restored_tag), id="manifest"),
    pytest.param(Restore(without_family, restored_tag), id="family"),
    pytest.param(Restore(without_repository, restored_repository), id="repository"),
]


async def push_family(repository: WritableRepository) -> Manifest:
    """Push an index with a child, which has a signature."""
    child = await push_image(repository, "child")
    await push_image(repository, "signature", subject=descriptor_of(child))
    top = index([descriptor_of(child)])
    await repository.put_manifest(top, (V1,))
    return top


async def require_whole(repository: WritableRepository, answer: bool, collector: Collector, clock: Clock) -> None:
    """What was restored stays with all that it needs; what was not can be pushed."""
    if not answer:
        await push_family(repository)
    await pass_time(collector, clock, every=SELDOM)
    child = (await repository.manifest(V1)).manifest.references()[0].digest
    signed = (await repository.referrers(child, None)).page.manifests
    assert len(signed) == 1
    for digest in (child, Digest.parse(signed[0]["digest"])):
        for reference in (await repository.manifest(digest)).manifest.references():
            (await repository.blob(reference.digest)).blob.close()


@pytest.mark.parametrize("kind", RESTORES)
async def test_a_restore_before_a_review_that_is_due_keeps_everything(
    kind: Restore, repository: WritableRepository, collector: Collector, clock: Clock, database: Database
) -> None:
    await push_family(repository)
    await pass_time(collector, clock, every=SELDOM)
    await kind.delete(repository, database, clock)
    clock.wait(DELAY + HOUR)
    assert await kind.restore(database, clock)
    assert (await collect(collector)).deleted == 0
    await require_whole(repository, True, collector, clock)


@pytest.mark.parametrize("kind", RESTORES)
async def test_a_restore_after_a_review_was_found_due_keeps_everything_or_is_refused(
    kind: Restore,
    repository: WritableRepository,
    collector: Collector,
    clock: Clock,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await push_family(repository)
    await pass_time(collector, clock, every=SELDOM)
    await kind.delete(repository, database, clock)
    clock.wait(DELAY + HOUR)

    answers: list[bool] = []

    async def take() -> None:
        answers.append(await kind.restore(database, clock))

    with between_look_and_decision(monkeypatch, take):
        done = await collect(collector)
    assert done.deleted == 0 or not answers[0]
    await require_whole(repository, answers[0], collector, clock)


@pytest.mark.parametrize("kind", RESTORES)
async def test_a_restore_after_the_first_deletion_is_refused_and_a_push_heals(
    kind: Restore,
    repository: WritableRepository,
    collector: Collector,
    clock: Clock,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await push_family(repository)
    await pass_time(collector, clock, every=SELDOM)
    await kind.delete(repository, database, clock)
    clock.wait(DELAY + HOUR)
    monkeypatch.setattr("gateway.registry.deletion.PARTS_AT_ONCE", 1)
    await collector.step()
    answer = await kind.restore(database, clock)
    assert not answer
    await require_whole(repository, answer, collector, clock)


@pytest.mark.parametrize("kind", RESTORES)
async def test_a_restore_between_the_deletion_of_blobs_and_of_their_files_is_refused_and_a_push_heals(
    kind: Restore, repository: WritableRepository, collector: Collector, clock: Clock, lock: Path, database: Database
) -> None:
    await push_family(repository)
    await pass_time(collector, clock, every=SELDOM)
    await kind.delete(repository, database, clock)
    with locked(lock, shared=True):
        done = await pass_time(collector, clock, days=8, every=SELDOM)
        assert (done.blobs, done.freed_bytes) == (4, 0)
        answer = await kind.restore(database, clock)
        assert not answer
        await push_family(repository)
    await require_whole(repository, True, collector, clock)


async def test_a_manifest_that_a_pusher_was_told_of_stays_for_a_delay(
    repository: WritableRepository, collector: Collector, clock: Clock
) -> None:
    manifest = await push_image(repository, "one")
    clock.wait(DELAY + HOUR)
    await repository.confirm_manifest(manifest.descriptor.digest)
    clock.wait(DELAY - HOUR)
    assert (await collect(collector)).manifests == 0
    await repository.stat_manifest(manifest.descriptor.digest)
    clock.wait(2 * HOUR)
    assert (await collect(collector)).manifests == 1, "nobody else's look counts"


async def require_freed(collector: Collector, data: Path) -> None:
    """The next collection deletes the one file that there is."""
    assert (await collect(collector)).freed_bytes == len(CONTENT)
    assert files(data) == set()


async def test_no_file_goes_while_a_backup_runs(
    repository: WritableRepository, collector: Collector, clock: Clock, lock: Path, tmp_path: Path
) -> None:
    await push_blob(repository, CONTENT)
    clock.wait(DELAY + HOUR)
    with locked(lock, shared=True):
        assert (await collect(collector)).freed_bytes == 0
        assert files(tmp_path) == {DIGEST.hex}
    await require_freed(collector, tmp_path)


async def test_a_collector_that_dies_before_it_deletes_the_file_leaves_that_to_the_next(
    repository: WritableRepository, collector: Collector, clock: Clock, tmp_path: Path
) -> None:
    await push_blob(repository, CONTENT)
    clock.wait(DELAY + HOUR)
    with armed("gc.deleted=error:EIO@1"), pytest.raises(OSError, match=r"gc\.deleted"):
        await collect(collector)
    assert files(tmp_path) == {DIGEST.hex}
    await require_freed(collector, tmp_path)


async def test_a_file_that_cannot_be_deleted_is_tried_again_later(
    repository: WritableRepository, collector: Collector, clock: Clock, tmp_path: Path
) -> None:
    await push_blob(repository, CONTENT)
    clock.wait(DELAY + HOUR)
    with armed("gc.unlink=error:EIO@1"):
        assert (await collect(collector)).freed_bytes == 0
        assert (await collect(collector)).freed_bytes == 0, "it waits"
        clock.wait(timedelta(minutes=2))
        assert (await collect(collector)).freed_bytes == len(CONTENT)


async def test_a_dry_run_finds_what_a_run_deletes(
    repository: WritableRepository, collector: Collector, clock: Clock
) -> None:
    await push_image(repository, "tagged", V1)
    await push_image(repository, "untagged")
    await push_blob(repository, CONTENT)
    assert await collector.examine() == Collected()
    clock.wait(DELAY + HOUR)
    expected = Collected(reviewed=7, manifests=1, blobs=1, freed_bytes=len(CONTENT))
    assert await collector.examine() == expected
    assert await collector.examine() == expected, "nothing was changed"
    done = await collect(collector)
    assert (done.manifests, done.blobs, done.freed_bytes) == (1, 1, len(CONTENT))


async def test_a_dry_run_counts_a_blob_once_that_several_repositories_give_up(
    store: NativeStore, project: Project, repository: WritableRepository, collector: Collector, clock: Clock
) -> None:
    other, third = (store.repository(project, RepositoryName(f"team/app/{name}")) for name in ("other", "third"))
    await push_blob(repository, CONTENT)
    shared = (await push_image(repository, "shared", V1)).references()[-1].digest
    assert await other.mount(DIGEST, None) and await other.mount(shared, None)
    clock.wait(2 * HOUR)
    assert await third.mount(DIGEST, None)
    clock.wait(DELAY - HOUR)
    done = await collector.examine()
    assert (done.blobs, done.freed_bytes) == (0, 0), "the third repository keeps it, and the first what it needs"
    clock.wait(2 * HOUR)
    found = await collector.examine()
    assert (found.blobs, found.freed_bytes) == (1, len(CONTENT))
    await other.delete_blob(DIGEST)
    clock.wait(DELAY + HOUR)
    found = await collector.examine()
    assert (found.blobs, found.freed_bytes) == (1, len(CONTENT)), "one review is of whether any repository has it"
    done = await collect(collector)
    assert (done.reviewed, done.blobs, done.freed_bytes) == (found.reviewed, 1, len(CONTENT))


async def state_of(database: Database) -> CollectionState:
    return await database.query(collection_state.read)


async def test_it_stops_where_more_than_half_of_everything_would_go(
    repository: WritableRepository,
    collector: Collector,
    clock: Clock,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.registry.collection_guard.FEW", 3)
    digests = [await push_blob(repository, b"%d" % number) for number in range(5)]
    images = [image(entry(CONFIG, digest), []) for digest in digests]
    for number, manifest in enumerate(images):
        await repository.put_manifest(manifest, (Tag(f"v{number}"),))
    await pass_time(collector, clock, days=9, every=SELDOM)
    for number in range(5):
        await repository.delete_tag(Tag(f"v{number}"))
    clock.wait(DELAY + HOUR)
    assert (await collector.step()).manifests == 5
    clock.wait(HOUR)
    stopped = "within a day 5 old blobs and manifests were deleted, of 10 in all"
    with pytest.raises(CollectionStopped, match=stopped) as refused:
        await collector.step()
    assert refused.value.asks
    clock.wait(2 * DELAY)
    with pytest.raises(CollectionStopped):
        await collector.step()
    assert (await state_of(database)).stopped_reason == str(refused.value)
    await collector.confirm()
    assert (await collect(collector)).blobs == 5


async def test_what_was_confirmed_does_not_stop_the_next_collector(
    repository: WritableRepository,
    collector: Collector,
    clock: Clock,
    store: NativeStore,
    lock: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`gc run --yes` beside a server."""
    monkeypatch.setattr("gateway.registry.collection_guard.FEW", 3)
    server = Collector(store.uploads.native, CollectionRule(DELAY, lock), clock.passed)
    tags = [Tag(f"v{number}") for number in range(6)]
    for tag in tags:
        await push_image(repository, tag.text, tag)
    await pass_time(server, clock, days=9, every=SELDOM)
    for tag in tags:
        await repository.delete_tag(tag)
    clock.wait(DELAY + HOUR)
    assert (await collect(server)).manifests == 6
    clock.wait(DELAY + HOUR)
    await collector.confirm()
    assert (await collect(collector)).blobs == 12
    clock.wait(HOUR)
    assert (await collect(server)).deleted == 0


async def test_old_content_of_one_repository_stops_nothing_where_others_hold_more(
    repository: WritableRepository, collector: Collector, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that is old is untagged content of one pusher; what others push every day is young."""
    monkeypatch.setattr("gateway.registry.collection_guard.FEW", 3)
    manifests = [await push_image(repository, f"old {number}", Tag(f"v{number}")) for number in range(4)]
    await pass_time(collector, clock, days=8, every=SELDOM)
    for number in range(5):
        await push_image(repository, f"young {number}", Tag(f"w{number}"))
    clock.wait(2 * DELAY)
    await collector.step()
    for number in range(len(manifests)):
        await repository.delete_tag(Tag(f"v{number}"))
    clock.wait(DELAY + HOUR)
    assert (await collect(collector)).manifests == 4
    clock.wait(DELAY + HOUR)
    assert (await collect(collector)).blobs == 8
    clock.wait(HOUR)
    await collect(collector)


async def test_whoever_looks_is_told_why_nothing_is_collected_until_it_goes_on(
    repository: WritableRepository, store: NativeStore, lock: Path, clock: Clock, database: Database
) -> None:
    await push_blob(repository, CONTENT)
    passed = [0.0]
    collector = Collector(store.uploads.native, CollectionRule(DELAY, lock), lambda: passed[0])
    await collector.step()
    clock.wait(2 * DELAY)
    with pytest.raises(CollectionStopped):
        await collector.step()
    state = await state_of(database)
    assert state.stopped_reason is not None and "the clock jumped" in state.stopped_reason
    assert state.stopped_at is None, "it waits for nobody"
    passed[0] += 1800.0
    clock.wait(HOUR / 2)
    with pytest.raises(CollectionStopped):
        await collector.step()
    assert "collection goes on at" in ((await state_of(database)).stopped_reason or "")
    passed[0] += 1800.0
    clock.wait(HOUR / 2)
    await collector.step()
    assert (await state_of(database)).stopped_reason is None


async def test_it_stops_where_the_files_of_the_database_are_not_here(
    repository: WritableRepository, collector: Collector, clock: Clock, store: NativeStore
) -> None:
    digests = [await push_blob(repository, b"%d" % number) for number in range(6)]
    for digest in digests[:4]:
        store.uploads.native.store.delete(digest)
    clock.wait(DELAY + HOUR)
    with pytest.raises(CollectionStopped, match="4 of 6 blobs that the database names have no file here"):
        await collector.step()


async def test_it_stops_where_the_clock_jumps(
    repository: WritableRepository, store: NativeStore, lock: Path, clock: Clock
) -> None:
    await push_blob(repository, CONTENT)
    collector = Collector(store.uploads.native, CollectionRule(DELAY, lock), lambda: 0.0)
    await collector.step()
    clock.wait(400 * DELAY)
    with pytest.raises(CollectionStopped, match="the clock jumped"):
        await collector.step()
    (await repository.blob(DIGEST)).blob.close()


async def test_what_was_requested_by_a_clock_that_was_ahead_is_reviewed_all_the_same(
    repository: WritableRepository, collector: Collector, clock: Clock, tmp_path: Path
) -> None:
    clock.wait(timedelta(days=400))
    await push_blob(repository, b"a blob that no manifest needs")
    clock.wait(timedelta(days=-400))
    done = await pass_time(collector, clock)
    assert (done.blobs, files(tmp_path)) == (1, set())
