"""CI jobs as they are stored."""

from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.db import credential_rows, jobs
from gateway.db.credential_rows import KEPT_AFTER_END
from gateway.db.engine import Database
from gateway.namespaces.credentials import CredentialKind, Job, hash_secret, new_secret
from gateway.namespaces.errors import CredentialUnknown
from tests.gateway.db.identity_rows import NOW, add_group, add_project, add_user

HOUR = timedelta(hours=1)


@pytest.fixture
async def job(database: Database) -> Job:
    """A job that is not stored yet."""
    async with database.write() as connection:
        await add_group(connection)
        project, user = await add_project(connection), await add_user(connection)
    return Job(0, project.id, user.id, "main", NOW, NOW + HOUR)


async def create(database: Database, job: Job) -> Job:
    async with database.write() as connection:
        return await jobs.create(connection, job, hash_secret(new_secret(CredentialKind.JOB_TOKEN)))


async def test_a_job_is_stored_as_it_was_made(database: Database, job: Job) -> None:
    stored = await create(database, job)
    assert stored == replace(job, id=stored.id)
    async with database.read() as connection:
        assert await jobs.get(connection, stored.id) == stored
        with pytest.raises(CredentialUnknown, match=f"there is no job {stored.id + 1}$"):
            await jobs.get(connection, stored.id + 1)


async def test_a_finished_job_stays_and_keeps_the_time_of_its_first_end(database: Database, job: Job) -> None:
    stored = await create(database, job)
    async with database.write() as connection:
        finished = await jobs.finish(connection, stored.id, NOW)
        assert finished == replace(stored, finished_at=NOW)
        assert await jobs.finish(connection, stored.id, NOW + HOUR) == finished
        assert await jobs.get(connection, stored.id) == finished


async def test_running_jobs_are_neither_finished_nor_expired(database: Database, job: Job) -> None:
    running, expired, finished = [
        await create(database, one) for one in (job, replace(job, expires_at=NOW + HOUR / 2), job)
    ]
    async with database.write() as connection:
        finished = await jobs.finish(connection, finished.id, NOW)
    async with database.read() as connection:
        assert await jobs.list_running(connection, NOW + HOUR / 2) == [running]
        assert await jobs.list_running(connection, NOW, job.project_id + 1) == []
        assert await jobs.list_all(connection, job.project_id) == [running, expired, finished]
        assert await jobs.list_all(connection, job.project_id + 1) == []


async def test_a_new_job_deletes_the_ones_that_ended_a_year_ago(
    database: Database, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credential_rows, "KEPT_NEWEST", 0)
    await create(database, job)
    later = NOW + KEPT_AFTER_END + HOUR
    kept = await create(database, replace(job, created_at=later, expires_at=later + HOUR))
    new = await create(database, replace(job, created_at=later + HOUR, expires_at=later + HOUR))
    async with database.read() as connection:
        assert await jobs.list_all(connection) == [kept, new]
