"""Access tokens of projects and groups: personal tokens of bots, which are members of one project or group.

How such a token is rotated and ends is that of every personal token.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from gateway.db import bots, personal_tokens, token_lists, users
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.db.token_lists import TokenFilter, TokenOrder
from gateway.db.windows import ListPart, ListWindow
from gateway.directory.token_administration import Issued
from gateway.namespaces.credential_rules import new_personal_token
from gateway.namespaces.credentials import CredentialKind, PersonalToken, Scope, hash_secret, new_secret
from gateway.namespaces.node import NodeKey
from gateway.namespaces.role import Role


@dataclass(frozen=True, slots=True)
class AccessToken:
    """An access token of a project or group. `role`: of its bot there; None once it has ended."""

    token: PersonalToken
    role: Role | None


class AccessTokenAdministration:
    """Access tokens of projects and groups as the database has them. Raises TreeError where a token is refused,
    DatabaseUnusable."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def list_part(
        self, home: NodeKey, wanted: TokenFilter, order: TokenOrder, window: ListWindow
    ) -> ListPart[AccessToken]:
        """A part of the list of the tokens of a project or group itself, those that ended included."""
        async with self._database.read() as connection:
            part = await token_lists.list_personal(connection, replace(wanted, home=home), order, window, self._clock())
            roles = await bots.roles_of(connection, home, {token.user_id for token in part.rows})
        rows = [AccessToken(token, roles.get(token.user_id)) for token in part.rows]
        return ListPart(rows, part.more, part.total)

    async def find(self, home: NodeKey, id: int) -> AccessToken | None:
        """Find a token of a project or group itself by its id, also one that has ended."""

        async def find(connection: Connection) -> AccessToken | None:
            token = await personal_tokens.find(connection, id)
            bot = None if token is None else await bots.find(connection, token.user_id)
            if token is None or bot is None or bot.home != home:
                return None
            return AccessToken(token, (await bots.roles_of(connection, home, [token.user_id])).get(token.user_id))

        return await self._database.query(find)

    async def is_bot(self, user_id: int) -> bool:
        """Whether a user is the bot of an access token, and no person."""
        return await self._database.query(partial(bots.find, user_id=user_id)) is not None

    async def create(
        self,
        home: NodeKey,
        creator_id: int,
        role: Role,
        name: str,
        scopes: Collection[Scope],
        expires_at: datetime | None,
        description: str = "",
    ) -> Issued[AccessToken]:
        """Make a token of a project or group, with a bot that is a member there. `expires_at`: None for the longest
        lifetime.

        Raises NodeUnknown, BotRefused where its creator is no person, CredentialInvalid, ExpiryInvalid.
        """
        secret, now = new_secret(CredentialKind.PERSONAL_TOKEN), self._clock()

        async def create(connection: Connection) -> PersonalToken:
            await bots.check_person(connection, await users.get_by_id(connection, creator_id))
            bot = await bots.create(connection, home, role, expires_at, now)
            token = new_personal_token(bot.user, name, scopes, expires_at, now, description)
            await bots.prolong(connection, bot.user.id, token.expires_at, now)
            return await personal_tokens.create(connection, token, hash_secret(secret))

        return Issued(AccessToken(await self._database.transact(create), role), secret)
