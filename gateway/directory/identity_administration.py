"""IdentityAdministration: the accounts of people whom an issuer vouches for, each tied to issuer and subject."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from gateway.db import user_identities, users
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.namespaces.errors import PathReserved, PathTaken, UserUnknown
from gateway.namespaces.user import User
from gateway.namespaces.user_identity import UserIdentity, names_for


@dataclass(frozen=True, slots=True)
class IdentifiedUser:
    """A user with the identity that was presented. `is_new`: whether the account has just been made."""

    user: User
    identity: UserIdentity
    is_new: bool


class IdentityAdministration:
    """Identities as the database has them. Raises DatabaseUnusable."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def find(self, id: int) -> UserIdentity | None:
        """Find the identity of an id."""
        return await self._database.query(partial(user_identities.find_by_id, id=id))

    async def find_or_create(self, issuer: str, subject: str, claims: Mapping[str, Any]) -> IdentifiedUser:
        """The user of an identity, whose account is made where there is none. `claims`: name a new account, and nobody
        else. Raises UserUnknown where no name is left for it."""
        for name in names_for(claims):
            try:
                return await self._database.transact(partial(self._identified, issuer, subject, name))
            except (PathTaken, PathReserved):  # another user's, or a group's: never a reason to be taken for that user
                continue
        raise UserUnknown("every name for the new account is taken: ask an administrator")

    async def _identified(self, issuer: str, subject: str, name: str, connection: Connection) -> IdentifiedUser:
        known = await user_identities.find(connection, issuer, subject)
        if known is not None:
            return IdentifiedUser(await users.get_by_id(connection, known.user_id), known, is_new=False)
        now = self._clock()
        user = await users.create(connection, name, now)
        identity = await user_identities.create(connection, UserIdentity(0, user.id, issuer, subject, now))
        return IdentifiedUser(user, identity, is_new=True)
