"""UserAdministration: users that are listed, made, changed, blocked and deleted, by whoever looks after a server.

What each may be is decided in gateway.namespaces.user, inside the transaction that makes the change.
"""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

from gateway.db import bots, user_lists, users
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.db.user_lists import UserFilter, UserOrder
from gateway.db.windows import ListPart, ListWindow
from gateway.keys import root_password
from gateway.namespaces.user import ROOT, User, UserChanges


class UserAdministration:
    """Users as the database has them. Raises TreeError where the tree does not allow a change, DatabaseUnusable."""

    def __init__(self, database: Database, keys_directory: Path, clock: Callable[[], datetime]) -> None:
        """`keys_directory`: where the first password of the first administrator lies, until it is changed."""
        self._database = database
        self._keys_directory = keys_directory
        self._clock = clock

    async def list_part(
        self, wanted: UserFilter, order: UserOrder, window: ListWindow, *, counted: bool
    ) -> ListPart[User]:
        """A part of the list of users. `counted`: whether the total is wanted."""
        async with self._database.read() as connection:
            return await user_lists.list_users(connection, wanted, order, window, counted=counted)

    async def get(self, id: int) -> User:
        """Get the user of an id. Raises UserUnknown."""
        return await self._database.query(partial(users.get_by_id, id=id))

    async def create(self, name: str, given: UserChanges) -> User:
        """Make a user, with a namespace of that name.

        Raises PathInvalid, PathTaken, PathReserved, EmailInvalid, EmailTaken.
        """
        now = self._clock()

        async def create(connection: Connection) -> User:
            user = await users.create(connection, name, now)
            await users.update(connection, given.applied_to(user, now))
            return await users.get_by_id(connection, user.id)

        return await self._database.transact(create)

    async def update(self, id: int, given: UserChanges) -> tuple[User, User]:
        """Change a user, and return the user as before, and as now.

        Raises UserUnknown, BotRefused, EmailInvalid, EmailTaken, LastAdministrator.
        """
        now = self._clock()

        async def update(connection: Connection) -> tuple[User, User]:
            before = await users.get_by_id(connection, id)
            if given != UserChanges(blocked=given.blocked):
                await bots.check_person(connection, before)
            await users.update(connection, given.applied_to(before, now))
            return before, await users.get_by_id(connection, id)

        before, user = await self._database.transact(update)
        if given.password_hash is not None:
            self._forget_first_password(user)
        return before, user

    async def delete(self, id: int) -> User:
        """Delete a user with the user's memberships, tokens and jobs, and return it.

        Raises UserUnknown, LastAdministrator, NodeNotEmpty.
        """

        async def delete(connection: Connection) -> User:
            return await users.delete(connection, (await users.get_by_id(connection, id)).name)

        user = await self._database.transact(delete)
        self._forget_first_password(user)
        return user

    def _forget_first_password(self, user: User) -> None:
        if user.name == ROOT:
            root_password.drop(self._keys_directory)
