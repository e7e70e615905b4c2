"""Queries of CI jobs; only hashes of their secrets are stored."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db.credential_rows import announce_credential, prune
from gateway.db.schema import jobs
from gateway.db.windows import ListPart, ListWindow, holds, in_order, read_rows
from gateway.namespaces.credentials import CredentialKind, CredentialRef, Job
from gateway.namespaces.errors import JobUnknown

_ENDS = (jobs.c.expires_at, jobs.c.finished_at)


async def create(connection: AsyncConnection, job: Job, secret_hash: str, deploy_hash: str | None = None) -> Job:
    """Store a new job and return it with its id; deletes jobs that ended long ago.

    `deploy_hash`: of the secret that stands for the deploy token which the job names; None if it names none.
    """
    await prune(connection, jobs, _ENDS, job.created_at)
    values = {
        "project_id": job.project_id,
        "user_id": job.user_id,
        "hash": secret_hash,
        "deploy_token_id": job.deploy_token_id,
        "deploy_hash": deploy_hash,
        "ref": job.ref,
        "created_at": job.created_at,
        "expires_at": job.expires_at,
    }
    row = (await connection.execute(insert(jobs).values(values).returning(jobs))).one()
    await _announce(connection, row)
    return _job(row)


async def find(connection: AsyncConnection, job_id: int) -> Job | None:
    return await _find(connection, jobs.c.id == job_id)


async def find_by_hash(connection: AsyncConnection, secret_hash: str) -> Job | None:
    """Find the job of a job token."""
    return await _find(connection, jobs.c.hash == secret_hash)


async def find_by_deploy_hash(connection: AsyncConnection, secret_hash: str) -> Job | None:
    """Find the job of a secret that stands for a deploy token."""
    return await _find(connection, jobs.c.deploy_hash == secret_hash)


async def get(connection: AsyncConnection, job_id: int) -> Job:
    """Get the job of an id. Raises JobUnknown."""
    job = await find(connection, job_id)
    if job is None:
        raise JobUnknown(job_id)
    return job


async def list_running(connection: AsyncConnection, now: datetime, project_id: int | None = None) -> list[Job]:
    """List the jobs, of a project or of all, that are neither finished nor expired, in the order of their starts."""
    rows = select(jobs).where(jobs.c.finished_at.is_(None), jobs.c.expires_at > now)
    return await _list(connection, rows if project_id is None else rows.where(jobs.c.project_id == project_id))


async def list_all(connection: AsyncConnection, project_id: int | None = None) -> list[Job]:
    """List the jobs, of a project or of all, in the order of their starts; also those that ended."""
    rows = select(jobs)
    return await _list(connection, rows if project_id is None else rows.where(jobs.c.project_id == project_id))


async def list_part(
    connection: AsyncConnection, project_id: int, running: bool, window: ListWindow, now: datetime
) -> ListPart[Job]:
    """List some jobs of a project. `running`: only those that are neither finished nor expired; the search of the
    window is for branches and tags."""
    query = select(jobs).where(jobs.c.project_id == project_id)
    if running:
        query = query.where(jobs.c.finished_at.is_(None), jobs.c.expires_at > now)
    if window.search:
        query = query.where(holds(jobs.c.ref, window.search))
    return await read_rows(connection, in_order(query, jobs.c.id, window), window, _job, counted=True)


async def finish(connection: AsyncConnection, job_id: int, now: datetime) -> Job:
    """End a job and return it; one that was finished before keeps its time. Raises JobUnknown."""
    job = await get(connection, job_id)
    if job.finished_at is not None:
        return job
    change = update(jobs).where(jobs.c.id == job_id).values(finished_at=now).returning(jobs)
    await _announce(connection, (await connection.execute(change)).one())
    return replace(job, finished_at=now)


async def _announce(connection: AsyncConnection, row: Row[Any]) -> None:
    await announce_credential(connection, CredentialRef(CredentialKind.JOB_TOKEN, row.id), row.hash)
    if row.deploy_hash is not None:
        await announce_credential(connection, CredentialRef(CredentialKind.JOB_DEPLOY_TOKEN, row.id), row.deploy_hash)


async def _list(connection: AsyncConnection, rows: Any) -> list[Job]:
    return [_job(row) for row in await connection.execute(rows.order_by(jobs.c.id))]


async def _find(connection: AsyncConnection, condition: ColumnElement[bool]) -> Job | None:
    row = (await connection.execute(select(jobs).where(condition))).first()
    return _job(row) if row else None


def _job(row: Row[Any]) -> Job:
    return Job(
        row.id,
        row.project_id,
        row.user_id,
        row.ref,
        row.created_at,
        row.expires_at,
        row.finished_at,
        row.deploy_token_id,
        row.last_used_at,
    )
