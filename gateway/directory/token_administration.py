"""Personal access tokens and deploy tokens that are listed, made, rotated and revoked.

Their rules are in gateway.namespaces.credential_rules. Secrets are made here, returned once, and stored as hashes.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Generic, TypeVar

import structlog

from gateway.db import bots, deploy_tokens, paths, personal_tokens, token_lists, users
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.db.token_lists import TokenFilter, TokenOrder
from gateway.db.windows import ListPart, ListWindow
from gateway.namespaces.credential_rules import new_deploy_token, new_personal_token, rotation_of
from gateway.namespaces.credentials import (
    CredentialKind,
    DeployToken,
    PersonalToken,
    Scope,
    hash_secret,
    new_secret,
)
from gateway.namespaces.node import NodeKey

log = structlog.get_logger()

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Issued(Generic[T]):
    """A token that was made, with its secret, which is nowhere else."""

    token: T
    secret: str = field(repr=False)


class PersonalTokenAdministration:
    """Personal access tokens as the database has them. Raises TreeError where a token is refused, DatabaseUnusable."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def list_part(self, wanted: TokenFilter, order: TokenOrder, window: ListWindow) -> ListPart[PersonalToken]:
        """A part of the list of tokens, those that ended included."""
        async with self._database.read() as connection:
            return await token_lists.list_personal(connection, wanted, order, window, self._clock())

    async def find(self, id: int) -> PersonalToken | None:
        """Find a token by its id, also one that has ended."""
        return await self._database.query(partial(personal_tokens.find, token_id=id))

    async def create(
        self,
        user_id: int,
        name: str,
        scopes: Collection[Scope],
        expires_at: datetime | None,
        description: str = "",
    ) -> Issued[PersonalToken]:
        """Make a token of a user. `expires_at`: None for the longest lifetime.

        Raises UserUnknown, BotRefused, CredentialInvalid, ExpiryInvalid.
        """
        secret, now = new_secret(CredentialKind.PERSONAL_TOKEN), self._clock()

        async def create(connection: Connection) -> PersonalToken:
            user = await users.get_by_id(connection, user_id)
            await bots.check_person(connection, user)
            token = new_personal_token(user, name, scopes, expires_at, now, description)
            return await personal_tokens.create(connection, token, hash_secret(secret))

        return Issued(await self._database.transact(create), secret)

    async def rotate(self, id: int, expires_at: datetime | None) -> Issued[PersonalToken]:
        """Revoke a token, and make one that takes its place. `expires_at`: None for a week from now.

        Raises PersonalTokenUnknown, CredentialInvalid where it has ended, ExpiryInvalid.
        """
        secret, now = new_secret(CredentialKind.PERSONAL_TOKEN), self._clock()

        async def rotate(connection: Connection) -> PersonalToken:
            token = await personal_tokens.get(connection, id)
            made = rotation_of(token, await users.get_by_id(connection, token.user_id), expires_at, now)
            await personal_tokens.revoke(connection, id, now)
            await bots.prolong(connection, token.user_id, made.expires_at, now)
            return await personal_tokens.create(connection, made, hash_secret(secret))

        return Issued(await self._database.transact(rotate), secret)

    async def revoke(self, id: int) -> PersonalToken:
        """End a token now, and return it. Raises PersonalTokenUnknown."""
        now = self._clock()

        async def revoke(connection: Connection) -> PersonalToken:
            token = await personal_tokens.revoke(connection, id, now)
            await bots.retire(connection, token.user_id, now)
            return token

        return await self._database.transact(revoke)

    async def note_reuse(self, secret: str) -> list[PersonalToken]:
        """Revoke what took the place of a token that was revoked, and by whose secret a rotation is requested; return
        what was revoked.

        Either its owner or somebody else has that token without knowing of the rotation, so one of the two has taken it
        from the other, and nobody can tell who (GitLab, "Automatic reuse detection").
        """

        token = await self._database.query(partial(personal_tokens.find_by_hash, secret_hash=hash_secret(secret)))
        if token is None or token.revoked_at is None:
            return []
        reused, now = token, self._clock()

        async def revoke(connection: Connection) -> list[PersonalToken]:
            family = await personal_tokens.revoke_family(connection, reused, now)
            await bots.retire(connection, reused.user_id, now)
            return family

        every = await self._database.transact(revoke)
        for revoked in every:
            log.warning("rotated_token_reused", token=token.id, revoked=revoked.id, user_id=token.user_id)
        return every


class DeployTokenAdministration:
    """Deploy tokens as the database has them. Raises TreeError where a token is refused, DatabaseUnusable."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def list_part(self, node: NodeKey | None, active: bool | None, window: ListWindow) -> ListPart[DeployToken]:
        """A part of the list of the tokens of a project or group itself, or of all.

        `active`: whether those have not ended; None for all.
        """
        async with self._database.read() as connection:
            return await token_lists.list_deploy(connection, node, active, window, self._clock())

    async def find(self, id: int) -> DeployToken | None:
        """Find a token by its id, also one that has ended."""
        return await self._database.query(partial(deploy_tokens.find, token_id=id))

    async def create(
        self, node: NodeKey, name: str, username: str | None, scopes: Collection[Scope], expires_at: datetime | None
    ) -> Issued[DeployToken]:
        """Make a token of a project or group. `username`: None for the default; `expires_at`: None for no end.

        Raises NodeUnknown, CredentialInvalid, ExpiryInvalid.
        """
        secret, now = new_secret(CredentialKind.DEPLOY_TOKEN), self._clock()
        token = new_deploy_token(node, name, username, scopes, expires_at, now)

        async def create(connection: Connection) -> DeployToken:
            await paths.get_of(connection, node)
            return await deploy_tokens.create(connection, token, hash_secret(secret))

        return Issued(await self._database.transact(create), secret)

    async def revoke(self, id: int) -> DeployToken:
        """End a token now, with the secrets that stand for it in jobs, and return it. Raises DeployTokenUnknown."""
        return await self._database.transact(partial(deploy_tokens.revoke, token_id=id, now=self._clock()))
