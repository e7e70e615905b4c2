"""Queries of credentials of every kind: by their secrets, by their identities, and what is written of their use."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import Table, bindparam, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import deploy_tokens, id_token_logins, jobs, personal_tokens, schema
from gateway.db.batches import batches
from gateway.namespaces.credentials import Credential, CredentialKind, CredentialRef, Job, JobDeployToken

USE_RESOLUTION = timedelta(minutes=1)
"""How much later a use must be than the one written down to be written too."""
USE_AHEAD = timedelta(days=1)
"""How much earlier it must be to be written all the same."""

_USED = {
    CredentialKind.PERSONAL_TOKEN: schema.personal_tokens,
    CredentialKind.DEPLOY_TOKEN: schema.deploy_tokens,
    CredentialKind.JOB_TOKEN: schema.jobs,
    CredentialKind.JOB_DEPLOY_TOKEN: schema.jobs,
    CredentialKind.ID_TOKEN_LOGIN: schema.id_token_logins,
}


async def find_by_hash(connection: AsyncConnection, secret_hash: str) -> tuple[CredentialRef, Credential] | None:
    """Find the credential of a secret, also one that has ended; None if there is none.

    A secret of a job that stands for a deploy token gives both, as long as that token is there.
    """
    if token := await personal_tokens.find_by_hash(connection, secret_hash):
        return token.ref, token
    if deploy_token := await deploy_tokens.find_by_hash(connection, secret_hash):
        return deploy_token.ref, deploy_token
    if job := await jobs.find_by_hash(connection, secret_hash):
        return CredentialRef(CredentialKind.JOB_TOKEN, job.id), job
    if login := await id_token_logins.find_by_hash(connection, secret_hash):
        return login.ref, login
    standing = await jobs.find_by_deploy_hash(connection, secret_hash)
    both = standing and await _with_token(connection, standing)
    return (CredentialRef(CredentialKind.JOB_DEPLOY_TOKEN, both.job.id), both) if both else None


async def find_by_ref(connection: AsyncConnection, ref: CredentialRef) -> Credential | None:
    """Find the credential of an identity, also one that has ended; None if there is none, and for a password."""
    match ref.kind:
        case CredentialKind.PERSONAL_TOKEN:
            return await personal_tokens.find(connection, ref.id)
        case CredentialKind.DEPLOY_TOKEN:
            return await deploy_tokens.find(connection, ref.id)
        case CredentialKind.JOB_TOKEN:
            return await jobs.find(connection, ref.id)
        case CredentialKind.JOB_DEPLOY_TOKEN:
            job = await jobs.find(connection, ref.id)
            return job and await _with_token(connection, job)
        case CredentialKind.ID_TOKEN_LOGIN:
            return await id_token_logins.find(connection, ref.id)
        case CredentialKind.PASSWORD:
            return None


async def note_uses(connection: AsyncConnection, uses: Mapping[CredentialRef, datetime]) -> None:
    """Write down when credentials were last used; announces nothing, since no memory holds it.

    A secret of a job that stands for a deploy token is a use of both. A time that is not `USE_RESOLUTION` later than
    the one written down changes nothing, unless that is `USE_AHEAD` later: a clock that was wrong has written it. Nor
    does a password.
    """
    uses = {**await _of_tokens(connection, uses), **uses}
    for table in dict.fromkeys(_USED.values()):
        newest: dict[int, datetime] = {}
        for ref, at in uses.items():
            if _USED.get(ref.kind) is table:
                newest[ref.id] = max(at, newest.get(ref.id, at))
        if newest:
            await _note_uses(connection, table, newest)


async def _of_tokens(
    connection: AsyncConnection, uses: Mapping[CredentialRef, datetime]
) -> dict[CredentialRef, datetime]:
    """The uses of deploy tokens by the secrets of jobs that stand for them."""
    times = {ref.id: at for ref, at in uses.items() if ref.kind is CredentialKind.JOB_DEPLOY_TOKEN}
    found: dict[CredentialRef, datetime] = {}
    for batch in batches(times):
        standing = select(schema.jobs.c.deploy_token_id, schema.jobs.c.id).where(schema.jobs.c.id.in_(batch))
        for token_id, job_id in await connection.execute(standing.where(schema.jobs.c.deploy_token_id.is_not(None))):
            ref = CredentialRef(CredentialKind.DEPLOY_TOKEN, token_id)
            found[ref] = max(times[job_id], found.get(ref, times[job_id]))
    return found


async def _note_uses(connection: AsyncConnection, table: Table, uses: Mapping[int, datetime]) -> None:
    before = table.c.last_used_at <= bindparam("before", type_=table.c.last_used_at.type)
    ahead = table.c.last_used_at >= bindparam("ahead", type_=table.c.last_used_at.type)
    changed = (
        update(table)
        .where(table.c.id == bindparam("number"), or_(table.c.last_used_at.is_(None), before, ahead))
        .values(last_used_at=bindparam("at", type_=table.c.last_used_at.type))
    )
    rows = [
        {"number": number, "at": at, "before": at - USE_RESOLUTION, "ahead": at + USE_AHEAD}
        for number, at in uses.items()
    ]
    await connection.execute(changed, rows)


async def _with_token(connection: AsyncConnection, job: Job) -> JobDeployToken | None:
    token = job.deploy_token_id and await deploy_tokens.find(connection, job.deploy_token_id)
    return JobDeployToken(job, token) if token else None
