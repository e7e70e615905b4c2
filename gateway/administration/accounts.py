"""Accounts of users, as administrators of the server make, change and delete them."""

import asyncio

from gateway.administration.actor import Actor
from gateway.audit.changes import AuditedChanges
from gateway.audit.event import EventKind, Subject
from gateway.audit.told import tell_user
from gateway.auth.passwords import hash_password
from gateway.namespaces.user import User, UserChanges, check_password
from gateway.services import Services


class AccountChanges:
    """Changes accounts. The caller has found that the actor is an administrator. Raises TreeError where an account is
    refused, DatabaseUnusable."""

    def __init__(self, services: Services) -> None:
        self._users = services.users
        self._audited = AuditedChanges(services.audit)

    async def create(self, actor: Actor, name: str, given: UserChanges) -> User:
        """Make a user with a namespace."""
        user = await self._users.create(name, given)
        self._audited.changed(actor, EventKind.CREATE, Subject.USER, user.name, after=tell_user(user))
        return user

    async def update(self, actor: Actor, id: int, given: UserChanges) -> User:
        """Change what is given of a user."""
        before, user = await self._users.update(id, given)
        if user != before:
            self._audited.updated(actor, Subject.USER, user.name, tell_user(before), tell_user(user))
        return user

    async def delete(self, actor: Actor, id: int) -> None:
        """Delete a user with the user's memberships and tokens; the namespace must hold no project."""
        user = await self._users.delete(id)
        self._audited.changed(actor, EventKind.DELETE, Subject.USER, user.name, before=tell_user(user))


async def hash_given(password: str | None) -> str | None:
    """Hash a password, which takes a thread some 20 ms; None where none is given. Raises PasswordRefused."""
    if password is None:
        return None
    check_password(password)
    return await asyncio.to_thread(hash_password, password)
