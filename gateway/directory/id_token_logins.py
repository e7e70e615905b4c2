"""IdTokenLoginAdministration: logins by ID tokens, each begun in one transaction with the bot that it needs."""

from collections.abc import Callable
from datetime import datetime

from gateway.db import bots, id_token_logins, paths, users
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.namespaces.credentials import IdTokenLogin, hash_secret
from gateway.namespaces.errors import CredentialInvalid
from gateway.namespaces.role import Role
from gateway.namespaces.user import User


class IdTokenLoginAdministration:
    """Logins by ID tokens as the database has them. Raises TreeError where one is refused, DatabaseUnusable."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def begin_as_user(
        self, login: IdTokenLogin, token: str, replay_key: str, name: str
    ) -> tuple[IdTokenLogin, bool]:
        """Begin the login of a token as a user; return it, and whether it is new. `login`: of no user yet.

        Raises UserUnknown, BotRefused, CredentialInvalid: for a token that has logged in already under another
        spelling, and for an administrator, whose rights no rule gives away.
        """

        async def begin(connection: Connection) -> tuple[IdTokenLogin, bool]:
            user = await users.get(connection, name)
            await bots.check_person(connection, user)
            if user.admin:
                raise CredentialInvalid(f"its rule maps to user {name!r}, who is an administrator: name another one")
            return await id_token_logins.begin(connection, _of(login, user), hash_secret(token), replay_key)

        return await self._database.transact(begin)

    async def begin_with_role(
        self, login: IdTokenLogin, token: str, replay_key: str, path: str, kind: str, role: Role
    ) -> tuple[IdTokenLogin, bool]:
        """Begin the login of a token with a role in a project or group. Otherwise as `begin_as_user`; raises
        NodeUnknown, CredentialInvalid where the path is that of another kind."""
        now = self._clock()

        async def begin(connection: Connection) -> tuple[IdTokenLogin, bool]:
            home = (await paths.get(connection, path)).key
            if home.kind != kind:
                raise CredentialInvalid(f"its rule maps to {kind} {path!r}, which is a {home.kind}")
            bot = await bots.find_or_create(connection, home, role, login.issuer, now)
            return await id_token_logins.begin(connection, _of(login, bot.user), hash_secret(token), replay_key)

        return await self._database.transact(begin)


def _of(login: IdTokenLogin, user: User) -> IdTokenLogin:
    return IdTokenLogin(login.id, login.issuer, login.subject, user.id, login.rule, login.created_at, login.expires_at)
