"""First administrator: each start makes the user `root` where there is no administrator.

The generated password is in its file before the user is committed: a start that is killed in between leaves a file that
the next start replaces, never an administrator whose password nobody knows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from secrets import token_urlsafe

from gateway.auth.passwords import hash_password, matches
from gateway.db import paths, users
from gateway.db.engine import Database, DatabaseUnusable
from gateway.keys import root_password
from gateway.namespaces.node import NodeKind
from gateway.namespaces.user import ROOT

_GENERATED_BYTES = 18


@dataclass(frozen=True, slots=True)
class AdministratorStart:
    """Outcome of a start that looked for an administrator. `obstacle`: why there is none; empty if there is one."""

    created: bool = False
    generated: bool = False
    """Whether the password of the created user was generated."""

    obstacle: str = ""
    holder: NodeKind | None = None
    """What has the name `root`, if that is the obstacle."""


async def prepare_administrator(
    database: Database, keys_directory: Path, now: datetime, choose: Callable[[], str | None]
) -> AdministratorStart:
    """Create the user `root` unless there is an administrator; of several starts at the same time one creates it.

    `choose` returns the password, or None for a generated one. It is called only where there is no administrator, and
    what it raises is raised. Whatever else fails is an obstacle, since a server serves without an administrator, too.
    """
    try:
        async with database.read() as connection:
            if await users.has_admin(connection):
                return AdministratorStart()
            holder = await paths.find(connection, ROOT)
        if holder is not None:
            return _name_taken(holder.key.kind)
        password = choose()
        return await _create_root(database, keys_directory, now, password)
    except DatabaseUnusable as error:
        return AdministratorStart(obstacle=str(error))
    except OSError as error:
        reason = f"the password cannot be written to {keys_directory} ({error.strerror})"
        return AdministratorStart(obstacle=reason)


async def drop_changed_password(database: Database, keys_directory: Path) -> None:
    """Delete the file with the generated password if it is not that of `root` any more. Raises DatabaseUnusable."""
    password = root_password.find(keys_directory)
    if password is None:
        return
    async with database.read() as connection:
        root = await users.find(connection, ROOT)
    if root is None or root.password_hash is None or not matches(root.password_hash, password):
        root_password.drop(keys_directory)


async def _create_root(
    database: Database, keys_directory: Path, now: datetime, chosen: str | None
) -> AdministratorStart:
    password = chosen or token_urlsafe(_GENERATED_BYTES)
    password_hash = hash_password(password)
    async with database.write() as connection:
        if await users.has_admin(connection):
            return AdministratorStart()
        if (holder := await paths.find(connection, ROOT)) is not None:
            return _name_taken(holder.key.kind)
        await users.create(connection, ROOT, now, admin=True, password_hash=password_hash)
        if chosen is None:
            root_password.write(keys_directory, password)
    return AdministratorStart(created=True, generated=chosen is None)


def _name_taken(kind: NodeKind) -> AdministratorStart:
    what = "is a regular user" if kind is NodeKind.USER else f"is the path of a {kind}"
    return AdministratorStart(obstacle=f"there is no administrator, and {ROOT!r} {what}", holder=kind)
