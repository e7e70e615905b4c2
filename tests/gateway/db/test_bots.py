"""Bots: users behind access tokens, on every database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete

from gateway.db import bots, groups, members, paths, personal_tokens, projects, schema, user_lists, users
from gateway.db.engine import Database
from gateway.db.user_lists import UserFilter, UserOrder
from gateway.db.windows import ListWindow
from gateway.namespaces.credential_rules import new_personal_token
from gateway.namespaces.credentials import Scope
from gateway.namespaces.errors import BotRefused, PathTaken
from gateway.namespaces.node import NodeKey, NodeKind
from gateway.namespaces.role import Role

NOW = datetime(2030, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=30)


async def test_a_bot_is_a_member_of_its_home_and_has_no_path(database: Database) -> None:
    async with database.write() as connection:
        group = await groups.create(connection, "team", NOW)
        project = await projects.create(connection, "team/app", NOW)
        for home in (NodeKey(NodeKind.GROUP, group.id), project.key):
            bot = await bots.create(connection, home, Role.DEVELOPER, LATER, NOW)
            assert await bots.find(connection, bot.user.id) == bot and bot.home == home
            member = await members.get(connection, home, bot.user.id)
            assert (member.role, member.expires_at) == (Role.DEVELOPER, LATER)
            assert await bots.roles_of(connection, home, [bot.user.id]) == {bot.user.id: Role.DEVELOPER}
            assert await paths.find(connection, bot.user.name) is None
            with pytest.raises(PathTaken):
                await users.create(connection, bot.user.name, NOW)
            with pytest.raises(BotRefused):
                await bots.check_person(connection, bot.user)
            await bots.prolong(connection, bot.user.id, LATER + timedelta(days=1), NOW)
            assert (await members.get(connection, home, bot.user.id)).expires_at == LATER + timedelta(days=1)
        with pytest.raises(BotRefused):
            await members.add(connection, replace(member, node=NodeKey(NodeKind.GROUP, group.id)))
        window = ListWindow(10)
        found = await user_lists.list_users(connection, UserFilter(), UserOrder.ID, window, counted=True)
        assert (list(found.rows), found.total) == ([], 0)


async def test_a_person_is_no_bot(database: Database) -> None:
    async with database.write() as connection:
        person = await users.create(connection, "ada", NOW)
        assert await bots.find(connection, person.id) is None
        await bots.check_person(connection, person)
        await bots.prolong(connection, person.id, LATER, NOW)
        await bots.retire(connection, person.id, NOW)


async def test_a_bot_retires_with_its_last_valid_token(database: Database) -> None:
    async with database.write() as connection:
        group = await groups.create(connection, "team", NOW)
        home = NodeKey(NodeKind.GROUP, group.id)
        bot = await bots.create(connection, home, Role.GUEST, LATER, NOW)
        tokens = [
            await personal_tokens.create(
                connection, new_personal_token(bot.user, name, [Scope.API], LATER, NOW), f"hash-{name}"
            )
            for name in ("one", "two")
        ]
        for token, stays in zip(tokens, (True, False), strict=True):
            await personal_tokens.revoke(connection, token.id, NOW)
            await bots.retire(connection, bot.user.id, NOW)
            assert (await members.find(connection, home, bot.user.id) is not None) is stays
        await bots.retire(connection, bot.user.id, NOW)
        assert await bots.find(connection, bot.user.id) is not None


async def test_a_bot_whose_tokens_are_gone_goes_when_another_one_comes(database: Database) -> None:
    async with database.write() as connection:
        group = await groups.create(connection, "team", NOW)
        home = NodeKey(NodeKind.GROUP, group.id)
        bot = await bots.create(connection, home, Role.GUEST, LATER, NOW)
        token = new_personal_token(bot.user, "ci", [Scope.API], LATER, NOW)
        await personal_tokens.create(connection, token, "hash")
        other = await bots.create(connection, home, Role.GUEST, LATER, NOW)
        await personal_tokens.create(connection, replace(token, user_id=other.user.id), "other")
        assert await bots.find(connection, bot.user.id) is not None
        await connection.execute(delete(schema.personal_tokens).where(schema.personal_tokens.c.hash == "hash"))
        await bots.create(connection, home, Role.GUEST, LATER, NOW)
        assert await users.find_by_id(connection, bot.user.id) is None
        assert await bots.find(connection, other.user.id) is not None


@pytest.mark.parametrize("kind", ["group", "project"])
async def test_bots_go_with_their_home(database: Database, kind: str) -> None:
    async with database.write() as connection:
        group = await groups.create(connection, "team", NOW)
        project = await projects.create(connection, "team/app", NOW)
        ids = []
        for home in (project.key, NodeKey(NodeKind.GROUP, group.id)):
            bot = await bots.create(connection, home, Role.GUEST, LATER, NOW)
            token = new_personal_token(bot.user, "ci", [Scope.API], LATER, NOW)
            await personal_tokens.create(connection, token, f"hash-{bot.user.id}")
            ids.append(bot.user.id)
        await projects.delete(connection, "team/app", NOW)
        if kind == "group":
            await groups.delete(connection, "team")
        found = [await users.find_by_id(connection, id) for id in ids]
        assert [user is None for user in found] == [True, kind == "group"]
        left = (await connection.execute(schema.personal_tokens.select())).all()
        assert len(left) == (0 if kind == "group" else 1)
