"""Logins by ID tokens, and the bots that they act for, on every database."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from gateway.db import bots, credentials, id_token_logins, members, projects, users
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.namespaces.credential_rules import find_ending
from gateway.namespaces.credentials import CredentialKind, CredentialRef, IdTokenLogin
from gateway.namespaces.errors import AllowanceRefused, BotRefused, CredentialInvalid, IdTokenLoginUnknown
from gateway.namespaces.node import NodeKey
from gateway.namespaces.project import MOST_ALLOWANCES
from gateway.namespaces.role import Role
from tests.gateway.db.identity_rows import add_group, add_project, add_user

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def login_of(user_id: int, at: datetime = NOW) -> IdTokenLogin:
    return IdTokenLogin(0, "ci", "job 7", user_id, "rule", at, at + timedelta(hours=1))


async def test_a_token_logs_in_once_however_often_it_comes(database: Database) -> None:
    async with database.write() as connection:
        user = await add_user(connection)
        made, is_new = await id_token_logins.begin(connection, login_of(user.id), "hash", "replay")
        assert is_new and await id_token_logins.find(connection, made.id) == made
        later = login_of(user.id, NOW + timedelta(minutes=5))
        assert await id_token_logins.begin(connection, later, "hash", "replay") == (made, False)
        with pytest.raises(CredentialInvalid, match="presented before"):
            await id_token_logins.begin(connection, later, "other spelling", "replay")
        ref = CredentialRef(CredentialKind.ID_TOKEN_LOGIN, made.id)
        assert await credentials.find_by_hash(connection, "hash") == (ref, made)
        await credentials.note_uses(connection, {ref: NOW})
        used = await credentials.find_by_ref(connection, ref)
        assert isinstance(used, IdTokenLogin) and used.last_used_at == NOW
        await users.delete(connection, user.name)
        assert await id_token_logins.find(connection, made.id) is None


async def test_a_login_is_ended_before_its_time_and_its_token_begins_no_other(database: Database) -> None:
    async with database.write() as connection:
        user = await add_user(connection)
        made, _ = await id_token_logins.begin(connection, login_of(user.id), "hash", "replay")
        other, _ = await id_token_logins.begin(connection, login_of(user.id), "hash2", "replay2")
        now = NOW + timedelta(minutes=5)
        ended = await id_token_logins.end(connection, made.id, now)
        assert ended.expires_at == now and find_ending(ended, now) is not None
        assert await id_token_logins.begin(connection, login_of(user.id, now), "hash", "replay") == (ended, False)
        with pytest.raises(CredentialInvalid):
            await id_token_logins.begin(connection, login_of(user.id, now), "signed anew", "replay")
        assert await id_token_logins.end(connection, made.id, now + timedelta(hours=1)) == ended
        assert await id_token_logins.list_all(connection, now) == [other]
        assert await id_token_logins.list_all(connection) == [ended, other]
        with pytest.raises(IdTokenLoginUnknown):
            await id_token_logins.end(connection, 999, now)


async def test_two_first_logins_of_a_rule_share_one_bot(database: Database) -> None:
    async with database.write() as connection:
        home = (await add_project(connection)).key

    async def begin(number: int) -> int:
        async def work(connection: Connection) -> int:
            bot = await bots.find_or_create(connection, home, Role.DEVELOPER, "ci", NOW)
            login = login_of(bot.user.id)
            return (await id_token_logins.begin(connection, login, f"hash-{number}", f"replay-{number}"))[0].user_id

        return await database.transact(work)

    found = await asyncio.gather(*(begin(number) for number in range(4)))
    assert len(set(found)) == 1
    async with database.write() as connection:
        assert [member.role for member in await members.list_of(connection, [home])] == [Role.DEVELOPER]
        bot = await bots.find(connection, found[0])
        assert bot is not None
        await bots.create(connection, home, Role.GUEST, None, NOW)  # which deletes bots that nothing needs
        assert await bots.find(connection, found[0]) == bot


async def test_the_name_of_a_bot_that_a_person_has_is_refused(database: Database) -> None:
    async with database.write() as connection:
        home = (await add_project(connection)).key
        await add_user(connection, f"project_{home.id}_bot_oidc_ci_guest")
        with pytest.raises(BotRefused, match="is no bot of"):
            await bots.find_or_create(connection, home, Role.GUEST, "ci", NOW)


async def test_jobs_of_one_more_project_or_group_are_allowed_up_to_a_limit(database: Database) -> None:
    async with database.write() as connection:
        group = await add_group(connection)
        project, other = await add_project(connection), await add_project(connection, "team/other")
        for key in (other.key, group):
            assert await projects.allow_job_of(connection, project, key)
            assert not await projects.allow_job_of(connection, project, key)
        assert set(await projects.allowed_jobs(connection, project.id)) == {other.key, group}
        assert await projects.disallow_job_of(connection, project, group)
        assert not await projects.disallow_job_of(connection, project, group)
        many: list[NodeKey] = [
            (await add_project(connection, f"team/p{number}")).key for number in range(MOST_ALLOWANCES)
        ]
        await projects.set_allowed_jobs(connection, project, many)
        with pytest.raises(AllowanceRefused, match="at most"):
            await projects.allow_job_of(connection, project, other.key)
