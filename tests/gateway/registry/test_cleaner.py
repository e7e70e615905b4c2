"""Runs of cleanup policies: one suite for every database."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, update

from cache.oci.names import RepositoryName, Tag
from gateway.db import (
    cleanups,
    collection_state,
    manifests,
    paths,
    pins,
    projects,
    repositories,
    schema,
    tag_events,
    tags,
)
from gateway.db.cleanups import LEASE, LeaseLost, StoredPolicy
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.db.repositories import StoredRepository
from gateway.namespaces.cleanup_policy import Cadence, CleanupPolicy
from gateway.registry import judged_tags
from gateway.registry.cleaner import ACTOR, CleanedTags, Cleaner, preview
from gateway.registry.cleanup import TagVerdict
from gateway.registry.clock_guard import HOLD
from tests.gateway.db.identity_rows import NOW
from tests.gateway.db.native_rows import add_repository, new_manifest

DAY = timedelta(days=1)
PAGE = BATCH = 100
ALL = CleanupPolicy(enabled=True, keep_n=None, older_than=None)


class Run:
    """A clock that the test sets, what policies deleted, and cleaners."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = NOW
        self.cleaned: list[CleanedTags] = []

    def cleaner(self) -> Cleaner:
        """A cleaner whose clock goes right."""
        return Cleaner(
            self.database, lambda: self.now, self.cleaned.append, passed=lambda: (self.now - NOW).total_seconds()
        )

    @property
    def deleted(self) -> set[tuple[str, str]]:
        return {(cleaned.repository, name) for cleaned in self.cleaned for name, _ in cleaned.tags}

    async def to_a_deletion(self, cleaner: Cleaner) -> None:
        """Go on until something was deleted."""
        while not self.cleaned:
            assert await cleaner.step()

    async def to_its_end(self, cleaner: Cleaner) -> None:
        while await cleaner.step():
            pass


@pytest.fixture
def run(database: Database, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(judged_tags, "PAGE", PAGE)
    monkeypatch.setattr(judged_tags, "BATCH", BATCH)
    return Run(database)


@pytest.fixture
async def repository(database: Database) -> StoredRepository:
    async with database.write() as connection:
        return await add_repository(connection)


async def add_tags(database: Database, repository: StoredRepository, dates: dict[str, datetime]) -> None:
    """Store tags of one manifest, each with its date."""
    async with database.write() as connection:
        number = await manifests.put(connection, repository.id, new_manifest(), NOW)
        rows = [
            {"repository_id": repository.id, "name": name, "manifest_id": number, "created_at": date, "moved_at": date}
            for name, date in dates.items()
        ]
        await connection.execute(insert(schema.tags), rows)


async def save(database: Database, repository: StoredRepository, policy: CleanupPolicy, now: datetime = NOW) -> None:
    async with database.write() as connection:
        await cleanups.save(connection, repository.project_id, policy, now)


async def stored(database: Database, repository: StoredRepository) -> StoredPolicy:
    async with database.read() as connection:
        found = await cleanups.find(connection, repository.project_id)
    assert found is not None
    return found


async def names(database: Database, repository: StoredRepository) -> set[str]:
    async with database.read() as connection:
        return set(await tags.list_page(connection, repository.id))


async def foreseen(database: Database, repository: StoredRepository, policy: CleanupPolicy) -> set[tuple[str, str]]:
    """What a preview says is deleted."""
    return {
        (path, each.tag.name)
        async for path, page in preview(database, repository.project_id, policy, NOW)
        for each in page
        if each.verdict is TagVerdict.DELETED
    }


def many(count: int) -> dict[str, datetime]:
    """Tags over several pages, some of one moment, the names in another order than the dates."""
    return {f"v{number * 7919 % count}": NOW - 3 * timedelta(hours=number // 3) for number in range(count)} | {
        "latest": NOW - 900 * DAY
    }


POLICY = CleanupPolicy(True, Cadence.DAY, 100, "14d", "v[0-9]*[0-8]", "v1.*")


async def test_a_run_deletes_what_its_preview_says_of_every_repository(
    database: Database, repository: StoredRepository, run: Run
) -> None:
    async with database.write() as connection:
        other = await repositories.find_or_create(
            connection, repository.project_id, RepositoryName("team/app/web"), NOW
        )
    before = {repository.path: many(10 * PAGE + 7), other.path: many(3)}
    await add_tags(database, repository, before[repository.path])
    await add_tags(database, other, before[other.path])
    await save(database, repository, POLICY)
    expected = await foreseen(database, repository, POLICY)
    assert len(expected) > BATCH
    assert await run.cleaner().clean(repository.project_id)
    assert run.deleted == expected
    for place in (repository, other):
        gone = {name for path, name in expected if path == place.path}
        assert await names(database, place) == set(before[place.path]) - gone
    policy = await stored(database, repository)
    assert (policy.deleted, policy.repositories, policy.cleaned) == (len(expected), 2, 2)
    assert (policy.completed_at, policy.run_at, policy.problem) == (NOW, None, None)
    async with database.read() as connection:
        done = await cleanups.list_of_project(connection, repository.project_id)
        [event] = await tag_events.list_page(connection, repository.id, Tag(sorted(expected)[0][1]))
    assert [(each.repository, each.completed_at) for each in done] == [("team/app", NOW), ("team/app/web", NOW)]
    assert [each.deleted + (each.kept or 0) for each in done] == [10 * PAGE + 8, 4]
    assert (event.change.value, event.actor, event.before) == ("delete", ACTOR, new_manifest().descriptor.digest)


async def test_a_run_that_is_interrupted_is_gone_on_with_to_the_same_end(
    database: Database, repository: StoredRepository, run: Run
) -> None:
    await add_tags(database, repository, many(3 * BATCH))
    await save(database, repository, ALL)
    expected = await foreseen(database, repository, ALL)
    run.now += DAY
    first, second = run.cleaner(), run.cleaner()
    await run.to_a_deletion(first)
    assert 0 < len(run.deleted) < len(expected)
    await second.step()
    begun = (await stored(database, repository)).run_at
    await first.close()
    run.now += DAY / 2
    await run.to_its_end(second)
    assert run.deleted == expected
    policy = await stored(database, repository)
    assert (begun, policy.completed_at, policy.deleted) == (NOW + DAY, run.now, len(expected))


async def test_nobody_goes_on_with_a_run_before_the_lease_of_its_owner_has_ended(
    database: Database, repository: StoredRepository, run: Run
) -> None:
    await add_tags(database, repository, many(3 * BATCH))
    await save(database, repository, ALL)
    run.now += DAY
    killed = run.cleaner()
    await run.to_a_deletion(killed)
    deleted = len(run.deleted)
    run.now += LEASE / 2
    assert not await run.cleaner().step()
    assert not await run.cleaner().clean(repository.project_id)
    assert len(run.deleted) == deleted
    run.now += LEASE / 2
    assert await run.cleaner().clean(repository.project_id)
    assert len(run.deleted) == 3 * BATCH
    # What it had not known of: its lease was another's by then.
    await run.to_its_end(killed)
    assert (await stored(database, repository)).completed_at == run.now


async def test_a_run_that_deletes_nothing_for_long_keeps_its_lease(
    database: Database, repository: StoredRepository, run: Run
) -> None:
    await add_tags(database, repository, many(3 * PAGE))
    await save(database, repository, replace(ALL, name_regex_delete="x"))
    run.now += DAY
    cleaner = run.cleaner()
    for _ in range(3):
        assert await cleaner.step()
        run.now += LEASE / 2
        assert not await run.cleaner().step()
    await run.to_its_end(cleaner)
    done = await stored(database, repository)
    assert (done.deleted, done.cleaned, done.completed_at) == (0, 1, run.now)


async def test_neighbours_by_name_are_deleted_together(
    database: Database, repository: StoredRepository, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judged_tags, "PAGE", 6)
    monkeypatch.setattr(judged_tags, "BATCH", 4)
    monkeypatch.setattr(judged_tags, "GATHERED", 12)
    dates = many(30)
    await add_tags(database, repository, dates)
    await save(database, repository, ALL)
    assert await run.cleaner().clean(repository.project_id)
    newest = sorted(dates, key=lambda name: (dates[name], name), reverse=True)[:-1]
    gathered = [sorted(newest[first : first + 12]) for first in (0, 12, 24)]
    batches = [part[first : first + 4] for part in gathered for first in range(0, len(part), 4)]
    assert [sorted(name for name, _ in cleaned.tags) for cleaned in run.cleaned] == batches


async def test_repositories_without_tags_are_passed_over_at_once(
    database: Database, repository: StoredRepository, run: Run
) -> None:
    async with database.write() as connection:
        empty = [
            await repositories.find_or_create(connection, repository.project_id, RepositoryName(path), NOW)
            for path in ("team/app/a", "team/app/b", "team/app/gone")
        ]
    await add_tags(database, repository, {"v1": NOW - 9 * DAY})
    await save(database, repository, ALL)
    run.now += DAY
    cleaner = run.cleaner()
    assert await cleaner.step()
    async with database.write() as connection:
        await repositories.delete(connection, RepositoryName(empty[2].path), NOW, "ada")
    assert (await stored(database, repository)).cleaned == 2
    await run.to_its_end(cleaner)
    policy = await stored(database, repository)
    assert (policy.repositories, policy.cleaned, policy.deleted) == (3, 3, 1)
    run.now += DAY
    await run.to_its_end(cleaner)
    async with database.read() as connection:
        done = await cleanups.list_of_project(connection, repository.project_id)
    assert [(each.repository, each.started_at, each.completed_at, each.deleted, each.kept) for each in done] == [
        (path, run.now, run.now, 0, 0) for path in ("team/app", "team/app/a", "team/app/b")
    ]


async def test_repositories_that_are_gone_are_not_noted(
    database: Database, repository: StoredRepository, run: Run
) -> None:
    """What is listed may be deleted or moved before it is noted."""
    await save(database, repository, ALL)
    async with database.write() as connection:
        begun = await cleanups.claim(connection, repository.project_id, "me", NOW)
        assert begun is not None
        await repositories.delete(connection, RepositoryName(repository.path), NOW, "ada")
        await cleanups.complete_untagged(connection, begun, [repository.id, 77], NOW)
        assert await cleanups.started_at(connection, [repository.id]) == {}
        with pytest.raises(LeaseLost):
            await cleanups.complete_untagged(connection, replace(begun, owner="another"), [repository.id], NOW)
        with pytest.raises(LeaseLost):
            await cleanups.complete_repository(connection, replace(begun, owner="another"), repository.id, 0, NOW)


async def test_a_repository_in_which_nothing_is_deleted_is_written_of_twice(
    database: Database, repository: StoredRepository, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_tags(database, repository, many(3 * PAGE))
    await save(database, repository, replace(ALL, name_regex_delete="x"))
    written: list[object] = []
    transact = database.transact

    def counted(work: Any, durable: bool = True) -> Any:
        written.append(work.func)
        return transact(work, durable)

    monkeypatch.setattr(database, "transact", counted)
    assert await run.cleaner().clean(repository.project_id)
    of_repository = [cleanups.begin_repository, cleanups.complete_repository]
    assert written == [cleanups.claim, *of_repository, cleanups.complete]


async def test_a_policy_runs_once_in_its_cadence(database: Database, repository: StoredRepository, run: Run) -> None:
    await save(database, repository, replace(ALL, cadence=Cadence.WEEK))
    cleaner = run.cleaner()
    run.now += 7 * DAY - timedelta(seconds=1)
    assert not await cleaner.step()
    run.now += timedelta(seconds=1)
    await run.to_its_end(cleaner)
    policy = await stored(database, repository)
    assert (policy.completed_at, policy.next_run_at) == (run.now, run.now + 7 * DAY)
    assert not await cleaner.step()
    await save(database, repository, replace(ALL, enabled=False))
    run.now += 99 * DAY
    assert not await cleaner.step()


async def test_a_clock_that_jumps_ahead_makes_no_policy_due(
    database: Database, repository: StoredRepository, run: Run
) -> None:
    await add_tags(database, repository, {"v1": NOW - 9 * DAY})
    await save(database, repository, ALL)
    passed = 0.0
    cleaner = Cleaner(database, lambda: run.now, run.cleaned.append, passed=lambda: passed)
    assert not await cleaner.step()
    run.now += 2 * DAY
    assert not await cleaner.step()
    assert await names(database, repository) == {"v1"}
    passed = HOLD.total_seconds()
    run.now += HOLD
    assert await cleaner.step(), "it has gone right since"
    await run.to_its_end(cleaner)
    assert run.deleted == {(repository.path, "v1")}


async def test_a_new_cleaner_waits_where_the_clock_says_that_nobody_has_looked_for_long(
    database: Database, repository: StoredRepository, run: Run
) -> None:
    await add_tags(database, repository, {"v1": NOW - 9 * DAY})
    await save(database, repository, ALL)
    async with database.write() as connection:
        await collection_state.note_seen(connection, NOW)
    run.now += 2 * DAY
    cleaner = run.cleaner()
    assert not await cleaner.step()
    run.now += HOLD
    assert await cleaner.step()


async def test_a_policy_that_cannot_be_carried_out_disables_itself_and_says_why(
    database: Database, repository: StoredRepository, run: Run
) -> None:
    await add_tags(database, repository, {"v1": NOW - 9 * DAY})
    await save(database, repository, ALL)
    async with database.write() as connection:
        await connection.execute(update(schema.cleanup_policies).values(name_regex_keep="v("))
    run.now += DAY
    await run.to_its_end(run.cleaner())
    policy = await stored(database, repository)
    assert not policy.policy.enabled
    assert policy.problem == "name_regex_keep: 'v(' is no regular expression of RE2: missing ): v("
    assert await names(database, repository) == {"v1"}


@pytest.mark.parametrize("begun", [False, True])
async def test_a_pinned_project_stays_as_it_is_and_the_policy_says_so(
    database: Database, repository: StoredRepository, run: Run, begun: bool
) -> None:
    """Also one that is pinned while a run goes on."""
    async with database.write() as connection:
        number = await manifests.put(connection, repository.id, new_manifest("two"), NOW)
        await tags.point(connection, repository.id, Tag("new"), number, NOW, "ada")
    await add_tags(database, repository, many(3 * BATCH))
    await save(database, repository, ALL)
    run.now += DAY
    cleaner = run.cleaner()
    if begun:
        await run.to_a_deletion(cleaner)
    before = await names(database, repository)
    async with database.write() as connection:
        await pins.pin(connection, (await paths.get(connection, "team")).key, "team", NOW, run.now)
    await run.to_its_end(cleaner)
    assert await names(database, repository) == before
    policy = await stored(database, repository)
    assert policy.problem is not None and policy.problem.startswith("group team is pinned")
    assert policy.completed_at == run.now
    assert policy.policy.enabled


async def change_policy(connection: Connection, repository: StoredRepository) -> None:
    await cleanups.save(connection, repository.project_id, replace(ALL, name_regex_delete="x"), NOW + DAY)


async def delete_repository(connection: Connection, repository: StoredRepository) -> None:
    assert await repositories.delete(connection, RepositoryName(repository.path), NOW, "ada")


async def delete_project(connection: Connection, repository: StoredRepository) -> None:
    await projects.delete(connection, "team/app", NOW)


@pytest.mark.parametrize("change", [change_policy, delete_repository, delete_project])
async def test_a_run_ends_where_what_it_is_about_changes(
    database: Database, repository: StoredRepository, run: Run, change: Callable[..., Any]
) -> None:
    await add_tags(database, repository, many(3 * BATCH))
    await save(database, repository, ALL)
    run.now += DAY
    cleaner = run.cleaner()
    await run.to_a_deletion(cleaner)
    before = await names(database, repository)
    async with database.write() as connection:
        await change(connection, repository)
    await run.to_its_end(cleaner)
    assert await names(database, repository) == (set() if change is delete_project else before)
    async with database.read() as connection:
        found = await cleanups.find(connection, repository.project_id)
    assert (found is None) == (change is delete_project)


async def test_a_tag_that_moves_after_it_was_judged_stays(
    database: Database, repository: StoredRepository, run: Run
) -> None:
    await add_tags(database, repository, {"moves": NOW - 9 * DAY, "stays": NOW - 9 * DAY})
    async with database.write() as connection:
        chosen: Sequence[tags.DatedName] = await tags.list_by_date(connection, repository.id, None, 10)
        number = await manifests.put(connection, repository.id, new_manifest("two"), NOW)
        await tags.point(connection, repository.id, Tag("moves"), number, NOW, "ada")
        gone = await tags.delete_unmoved(connection, repository.id, chosen, NOW, ACTOR)
    assert gone == [("stays", str(new_manifest().descriptor.digest))]
    assert await names(database, repository) == {"moves"}


async def test_tags_are_listed_by_date_and_by_name_among_equals(
    database: Database, repository: StoredRepository
) -> None:
    dates = many(50)
    await add_tags(database, repository, dates)
    listed: list[tags.DatedName] = []
    async with database.read() as connection:
        while page := await tags.list_by_date(connection, repository.id, listed[-1] if listed else None, 7):
            listed += page
    expected = sorted(((date, name) for name, date in dates.items()), reverse=True)
    assert [(tag.moved_at, tag.name) for tag in listed] == expected
