"""Deploy tokens as they are stored."""

from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.db import deploy_tokens
from gateway.db.engine import Database
from gateway.namespaces.credentials import CredentialKind, DeployToken, Scope, hash_secret, new_secret
from gateway.namespaces.errors import CredentialUnknown
from gateway.namespaces.node import NodeKey, NodeKind
from tests.gateway.db.identity_rows import NOW, add_group, add_project

DAY = timedelta(days=1)
TOKEN = DeployToken(0, NodeKey(NodeKind.GROUP, 0), "cluster", "puller", frozenset({Scope.READ_REGISTRY}), NOW)
OF_JOBS = replace(TOKEN, name="gitlab-deploy-token")


async def nodes(database: Database) -> tuple[NodeKey, NodeKey]:
    """A project and the group above it."""
    async with database.write() as connection:
        group = await add_group(connection)
        return (await add_project(connection)).key, group


async def create(database: Database, token: DeployToken) -> DeployToken:
    async with database.write() as connection:
        secret_hash = hash_secret(new_secret(CredentialKind.DEPLOY_TOKEN))
        return await deploy_tokens.create(connection, token, secret_hash)


async def test_a_token_is_stored_as_it_was_made(database: Database) -> None:
    for node in await nodes(database):
        made = replace(TOKEN, node=node, expires_at=NOW + DAY)
        token = await create(database, made)
        assert token == replace(made, id=token.id)
        async with database.read() as connection:
            assert await deploy_tokens.get(connection, token.id) == token
            assert await deploy_tokens.list_all(connection, node) == [token]


async def test_a_token_without_a_user_name_is_named_by_its_id(database: Database) -> None:
    project, _ = await nodes(database)
    token = await create(database, replace(TOKEN, node=project, username=""))
    assert token.username == f"gitlab+deploy-token-{token.id}"
    async with database.read() as connection:
        assert await deploy_tokens.find(connection, token.id) == token


async def test_a_revoked_token_stays_and_keeps_the_time_of_its_first_revocation(database: Database) -> None:
    project, _ = await nodes(database)
    token = await create(database, replace(TOKEN, node=project))
    async with database.write() as connection:
        revoked = await deploy_tokens.revoke(connection, token.id, NOW)
        assert await deploy_tokens.revoke(connection, token.id, NOW + DAY) == revoked
        assert await deploy_tokens.get(connection, token.id) == replace(token, revoked_at=NOW)
        with pytest.raises(CredentialUnknown, match=f"there is no deploy token {token.id + 1}$"):
            await deploy_tokens.revoke(connection, token.id + 1, NOW)


async def test_jobs_are_given_the_newest_valid_token_of_their_name_of_the_project_first(database: Database) -> None:
    project, group = keys = await nodes(database)

    async def found() -> DeployToken | None:
        async with database.read() as connection:
            return await deploy_tokens.find_for_jobs(connection, keys, NOW)

    await create(database, replace(TOKEN, node=project))
    assert await found() is None
    of_group = await create(database, replace(OF_JOBS, node=group))
    assert await found() == of_group
    older = await create(database, replace(OF_JOBS, node=project, expires_at=NOW + DAY))
    newer = await create(database, replace(OF_JOBS, node=project))
    await create(database, replace(OF_JOBS, node=project, expires_at=NOW))
    assert await found() == newer
    async with database.write() as connection:
        await deploy_tokens.revoke(connection, newer.id, NOW)
    assert await found() == older
