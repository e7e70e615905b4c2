"""Credentials of every kind, as they are found by their secrets and identities, announced, and noted as used."""

from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from sqlalchemy import delete, event, insert, select

from gateway.db import cascades, credentials, deploy_tokens, jobs, personal_tokens, schema
from gateway.db.engine import Database
from gateway.namespaces.credentials import (
    Credential,
    CredentialKind,
    CredentialRef,
    DeployToken,
    Job,
    JobDeployToken,
    PersonalToken,
    Scope,
    hash_secret,
)
from gateway.namespaces.node import NodeKey, NodeKind
from tests.gateway.db.identity_rows import NOW, add_group, add_project, add_user

SECOND = timedelta(seconds=1)
MANY = 40_000
"""More than a statement may have values."""
SCOPES = frozenset({Scope.READ_REGISTRY})


@dataclass(frozen=True, slots=True)
class Stored:
    """One credential of each kind; the hash of each secret is that of the name of its field."""

    personal: PersonalToken
    deploy: DeployToken
    job: Job

    def found(self) -> dict[str, tuple[CredentialRef, Credential]]:
        """What is found by the secret of each name."""
        standing = JobDeployToken(self.job, self.deploy)
        return {
            "personal": (self.personal.ref, self.personal),
            "deploy": (self.deploy.ref, self.deploy),
            "job": (CredentialRef(CredentialKind.JOB_TOKEN, self.job.id), self.job),
            "job-deploy": (CredentialRef(CredentialKind.JOB_DEPLOY_TOKEN, self.job.id), standing),
        }


@pytest.fixture
async def stored(database: Database) -> Stored:
    async with database.write() as connection:
        group = await add_group(connection)
        project, user = await add_project(connection), await add_user(connection)
        personal = PersonalToken(0, user.id, "p", SCOPES, NOW, NOW + 3600 * SECOND)
        personal = await personal_tokens.create(connection, personal, hash_secret("personal"))
        deploy = DeployToken(0, group, "d", "u", SCOPES, NOW)
        deploy = await deploy_tokens.create(connection, deploy, hash_secret("deploy"))
        job = Job(0, project.id, user.id, None, NOW, NOW + 3600 * SECOND, deploy_token_id=deploy.id)
        job = await jobs.create(connection, job, hash_secret("job"), hash_secret("job-deploy"))
    return Stored(personal, deploy, job)


async def announced(database: Database, after: int = 0) -> list[tuple[str, str]]:
    async with database.read() as connection:
        rows = select(schema.changes.c.concern, schema.changes.c.key).where(schema.changes.c.seq > after)
        listed = await connection.execute(rows.order_by(schema.changes.c.seq))
        return [(row.concern, row.key) for row in listed if row.concern == "credential"]


async def last_number(database: Database) -> int:
    async with database.read() as connection:
        numbers = (await connection.execute(select(schema.changes.c.seq))).scalars().all()
        return max(numbers)


def rows_of(stored: Stored, *secrets: str) -> list[tuple[str, str]]:
    """The rows of the log that announce the credentials of these secrets."""
    found = stored.found()
    return [("credential", key) for secret in secrets for key in (hash_secret(secret), str(found[secret][0]))]


@pytest.mark.parametrize("secret", ["personal", "deploy", "job", "job-deploy"])
async def test_a_credential_is_found_by_the_hash_of_its_secret_and_by_its_identity(
    database: Database, stored: Stored, secret: str
) -> None:
    ref, credential = stored.found()[secret]
    async with database.read() as connection:
        assert await credentials.find_by_hash(connection, hash_secret(secret)) == (ref, credential)
        assert await credentials.find_by_ref(connection, ref) == credential
        assert await credentials.find_by_ref(connection, replace(ref, id=ref.id + 1)) is None
        assert await credentials.find_by_hash(connection, secret) is None


async def test_a_password_is_no_stored_credential(database: Database, stored: Stored) -> None:
    ref = CredentialRef(CredentialKind.PASSWORD, stored.job.user_id)
    async with database.write() as connection:
        assert await credentials.find_by_ref(connection, ref) is None
        await credentials.note_uses(connection, {ref: NOW})


async def test_the_secret_of_a_job_stands_for_nothing_once_the_deploy_token_is_gone(
    database: Database, stored: Stored
) -> None:
    async with database.write() as connection:
        await connection.execute(delete(schema.deploy_tokens))
        assert await credentials.find_by_hash(connection, hash_secret("job-deploy")) is None
        found = await credentials.find_by_hash(connection, hash_secret("job"))
        assert found and found[1] == replace(stored.job, deploy_token_id=None)


async def test_a_new_credential_is_announced_by_hash_and_identity(database: Database, stored: Stored) -> None:
    assert await announced(database) == rows_of(stored, "personal", "deploy", "job", "job-deploy")


async def test_the_end_of_a_credential_is_announced_with_all_secrets_that_end_with_it(
    database: Database, stored: Stored
) -> None:
    for end, secrets in {
        (personal_tokens.revoke, stored.personal.id): ["personal"],
        (deploy_tokens.revoke, stored.deploy.id): ["deploy", "job-deploy"],
        (jobs.finish, stored.job.id): ["job", "job-deploy"],
    }.items():
        before = await last_number(database)
        async with database.write() as connection:
            await end[0](connection, end[1], NOW)
        assert await announced(database, before) == rows_of(stored, *secrets)
        async with database.write() as connection:
            await end[0](connection, end[1], NOW)
        assert await announced(database, before) == rows_of(stored, *secrets)


async def test_whatever_ends_with_its_owner_is_announced(database: Database, stored: Stored) -> None:
    for owner, secrets in {
        NodeKey(NodeKind.USER, stored.personal.user_id): ["personal", "job", "job-deploy"],
        stored.deploy.node: ["deploy", "job", "job-deploy"],
        NodeKey(NodeKind.PROJECT, stored.job.project_id): ["job", "job-deploy"],
    }.items():
        before = await last_number(database)
        async with database.write() as connection:
            await cascades.announce_all(connection, owner)
        assert await announced(database, before) == rows_of(stored, *secrets)


async def test_a_thousand_jobs_that_end_with_their_project_cost_few_statements(
    database: Database, stored: Stored
) -> None:
    project = NodeKey(NodeKind.PROJECT, stored.job.project_id)
    async with database.write() as connection:
        row = (await connection.execute(select(schema.jobs).where(schema.jobs.c.id == stored.job.id))).one()
        fields = {**row._mapping, "deploy_token_id": None, "deploy_hash": None}
        del fields["id"]
        await connection.execute(insert(schema.jobs), [{**fields, "hash": f"{number:064}"} for number in range(1_000)])
    before, statements = await last_number(database), list[str]()
    async with database.write() as connection:
        noted = connection.sync_connection
        assert noted is not None
        event.listen(noted, "before_cursor_execute", lambda *given: statements.append(given[2]))
        await cascades.announce_all(connection, project)
    assert len(statements) < 20
    assert len(await announced(database, before)) == 2 * 1_000 + len(rows_of(stored, "job", "job-deploy"))


async def uses(database: Database, stored: Stored) -> list[timedelta | None]:
    """When the personal token, the deploy token and the job were last used, after NOW."""
    async with database.read() as connection:
        used = [
            (await personal_tokens.get(connection, stored.personal.id)).last_used_at,
            (await deploy_tokens.get(connection, stored.deploy.id)).last_used_at,
            (await jobs.get(connection, stored.job.id)).last_used_at,
        ]
    return [at and at - NOW for at in used]


AHEAD = 400 * 86_400
"""Seconds by which a clock was wrong."""


async def test_uses_are_written_down_a_minute_apart_and_announce_nothing(database: Database, stored: Stored) -> None:
    before = await last_number(database)
    personal, job = stored.personal.ref, CredentialRef(CredentialKind.JOB_TOKEN, stored.job.id)
    for seconds, written in [(5, 5), (64, 5), (65, 65), (0, 65), (130, 130), (AHEAD, AHEAD), (200, 200)]:
        at = NOW + seconds * SECOND
        async with database.write() as connection:
            await credentials.note_uses(connection, {personal: at, job: at, replace(job, id=job.id + 1): at})
        assert await uses(database, stored) == [written * SECOND, None, written * SECOND]
    assert await last_number(database) == before


async def test_a_use_of_the_secret_that_stands_for_a_deploy_token_is_one_of_both(
    database: Database, stored: Stored
) -> None:
    standing = CredentialRef(CredentialKind.JOB_DEPLOY_TOKEN, stored.job.id)
    job = CredentialRef(CredentialKind.JOB_TOKEN, stored.job.id)
    async with database.write() as connection:
        await credentials.note_uses(connection, {standing: NOW + SECOND, job: NOW})
    assert await uses(database, stored) == [None, SECOND, SECOND]


async def test_any_number_of_uses_is_written_down(database: Database, stored: Stored) -> None:
    uses = {CredentialRef(CredentialKind.JOB_DEPLOY_TOKEN, stored.job.id + number): NOW for number in range(MANY)}
    async with database.write() as connection:
        await credentials.note_uses(connection, uses)
        assert (await deploy_tokens.get(connection, stored.deploy.id)).last_used_at == NOW
