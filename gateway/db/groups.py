"""Groups: the nodes of the tree, each with the dependency proxy below it. Nothing here knows which upstreams exist."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into
from sqlalchemy import update as update_of
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from cache.oci.errors import NameInvalid
from cache.oci.names import RepositoryName
from cache.policy.gate import Gate
from gateway.db import schema
from gateway.db.engine import Database
from gateway.db.gates import read_gate, write_gate
from gateway.keys.sealing import Sealer

HUB = "hub"
DEFAULT_UPSTREAM = "docker.io"
NESTING_LIMIT = 20
RESERVED_ANYWHERE = frozenset({"dependency_proxy", "virtual_registries"})
RESERVED_AT_TOP = frozenset({"v2", "api", "jwt", "static", "help", "admin", "groups", "users", "-"})


class Visibility(StrEnum):
    """Who may see what is in a group: everybody, everybody with a login, members."""

    PUBLIC = "public"
    INTERNAL = "internal"
    PRIVATE = "private"


class GroupError(Exception):
    """What was asked of the groups is refused; the text says why, and what a person can do about it."""


class GroupPathInvalid(GroupError):
    """The text can be no path of a group."""


class GroupExists(GroupError):
    """There is a group with this path."""


class GroupUnknown(GroupError):
    """There is no group with this path, or no group above it."""


class GroupNotEmpty(GroupError):
    """The group holds other groups."""


class AnonymousPullRefused(GroupError):
    """Anonymous pull would show what the visibility hides."""


class UpstreamNameInvalid(GroupError):
    """The text can be no name of an upstream."""


class LoginRefused(GroupError):
    """The upstream login is half, or would go to another upstream than it was given for."""


@dataclass(frozen=True, slots=True)
class Login:
    """What a group shows to its default upstream."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Group:
    """One group as it is stored. The sealed password is there if and only if the user name is. `fresh_only`: it is
    served nothing stale. `gate`: None where it lets everything through."""

    id: int
    path: str
    visibility: Visibility
    proxy_enabled: bool
    anonymous_pull: bool
    default_upstream: str
    upstream_username: str | None
    upstream_password_sealed: str | None = field(repr=False)
    created_at: datetime
    fresh_only: bool = False
    gate: Gate | None = None

    def with_login(self, login: Login, sealer: Sealer) -> "Group":
        """The group with this login, sealed to it. Raises LoginRefused for an empty half, SealBroken."""
        if not login.username or not login.password:
            raise LoginRefused(f"the upstream login of group {self.path!r} needs both a user name and a password")
        sealed = sealer.seal(login.password, self._seal_context)
        return replace(self, upstream_username=login.username, upstream_password_sealed=sealed)

    def without_login(self) -> "Group":
        return replace(self, upstream_username=None, upstream_password_sealed=None)

    def open_login(self, sealer: Sealer) -> Login | None:
        """None if the group has none. Raises SealBroken."""
        if self.upstream_username is None or self.upstream_password_sealed is None:
            return None
        return Login(self.upstream_username, sealer.open(self.upstream_password_sealed, self._seal_context))

    @property
    def _seal_context(self) -> str:
        return f"upstream login of group {self.id}"


def looks_like_upstream(component: str) -> bool:
    """Whether this is the form of an upstream's name, and not of an image's: a host name with a dot, or localhost."""
    return "." in component or component == "localhost"


def parse_upstream_name(text: str) -> str:
    """Raises UpstreamNameInvalid."""
    try:
        name = RepositoryName.parse(text)
    except NameInvalid:
        name = None
    if name is None or len(name.components) > 1 or not looks_like_upstream(text):
        raise UpstreamNameInvalid(
            f"{text!r} is no name of an upstream: it is a lower-case host name with a dot, or localhost, without a port"
        )
    return text


def parse_path(text: str) -> str:
    """The full path of a group, fit to stand before a repository name. Raises GroupPathInvalid."""
    if text != text.lower():
        raise GroupPathInvalid(f"group path {text!r} has capitals, which registry names must not: use {text.lower()!r}")
    try:
        components = RepositoryName.parse(text).components
    except NameInvalid as error:
        raise GroupPathInvalid(f"no path of a group: {error.detail}") from error
    if len(components) > NESTING_LIMIT:
        raise GroupPathInvalid(f"group path {text!r} has {len(components)} levels: use at most {NESTING_LIMIT}")
    reserved = RESERVED_ANYWHERE.intersection(components) or RESERVED_AT_TOP.intersection(components[:1])
    if reserved:
        raise GroupPathInvalid(f"group path {text!r} holds the reserved word {min(reserved)!r}: use another name")
    return text


def check_update(old: Group, new: Group) -> None:
    """Whether one may become the other. Raises AnonymousPullRefused, UpstreamNameInvalid, LoginRefused."""
    if new.anonymous_pull and new.visibility is not Visibility.PUBLIC:
        raise AnonymousPullRefused(
            f"group {new.path!r} cannot be {new.visibility} and allow anonymous pull: "
            "give --visibility public, or --no-anonymous-pull"
        )
    moved = parse_upstream_name(new.default_upstream) != old.default_upstream
    if moved and old.upstream_password_sealed and new.upstream_password_sealed == old.upstream_password_sealed:
        raise LoginRefused(
            f"group {new.path!r} has a login for {old.default_upstream}, which {new.default_upstream} must not see: "
            "give --upstream-username and --upstream-password-file for the new one, "
            'or --upstream-username "" to drop it'
        )


async def prepare(database: Database, now: datetime) -> None:
    """Give a fresh database the group `hub` with an open dependency proxy; once ever, so that it can be deleted."""
    async with database.write() as connection:
        if (await connection.execute(select(schema.installation.c.id))).first():
            return
        await connection.execute(insert_into(schema.installation).values(id=1, prepared_at=now))
        hub = await create(connection, HUB, now)
        await update(connection, replace(hub, visibility=Visibility.PUBLIC, anonymous_pull=True))


async def create(connection: AsyncConnection, path: str, now: datetime) -> Group:
    """A private group with its dependency proxy on; `update` makes it what else it shall be.

    Raises GroupPathInvalid, GroupExists, and GroupUnknown for the group above.
    """
    parent, _, _ = parse_path(path).rpartition("/")
    if parent and await find(connection, parent) is None:
        raise GroupUnknown(f"group {path!r} needs the group {parent!r} above it: create that first")
    statement = insert_into(schema.groups).values(
        path=path,
        visibility=Visibility.PRIVATE,
        proxy_enabled=True,
        anonymous_pull=False,
        default_upstream=DEFAULT_UPSTREAM,
        created_at=now,
    )
    try:
        row = (await connection.execute(statement.returning(schema.groups))).one()
    except IntegrityError as error:
        raise GroupExists(f"group {path!r} exists already: choose another path, or update it") from error
    return _group(row)


async def list_all(connection: AsyncConnection) -> list[Group]:
    """Every group, each after the one above it."""
    rows = await connection.execute(select(schema.groups))
    return sorted(map(_group, rows), key=lambda group: group.path.split("/"))


async def find(connection: AsyncConnection, path: str) -> Group | None:
    row = (await connection.execute(select(schema.groups).where(schema.groups.c.path == path))).first()
    return _group(row) if row else None


async def get(connection: AsyncConnection, path: str) -> Group:
    """Raises GroupUnknown."""
    group = await find(connection, path)
    if group is None:
        raise GroupUnknown(f"there is no group {path!r}: list the groups to see those there are")
    return group


async def update(connection: AsyncConnection, group: Group) -> None:
    """Store the group as it is now, but for its path. Raises GroupUnknown, and what `check_update` raises."""
    stored = await get(connection, group.path)
    check_update(stored, group)
    await connection.execute(
        update_of(schema.groups)
        .where(schema.groups.c.id == stored.id)
        .values(
            visibility=group.visibility,
            proxy_enabled=group.proxy_enabled,
            anonymous_pull=group.anonymous_pull,
            default_upstream=group.default_upstream,
            upstream_username=group.upstream_username,
            upstream_password_sealed=group.upstream_password_sealed,
            fresh_only=group.fresh_only,
            gate=write_gate(group.gate),
        )
    )


async def delete(connection: AsyncConnection, path: str) -> Group:
    """The group that is gone. Raises GroupUnknown, GroupNotEmpty."""
    group = await get(connection, path)
    below = await connection.scalars(
        select(schema.groups.c.path)
        .where(schema.groups.c.path.startswith(f"{path}/", autoescape=True))
        .order_by(schema.groups.c.path)
    )
    if inside := below.all():
        raise GroupNotEmpty(f"group {path!r} holds {_enumerate(inside)}: delete or move what is inside it first")
    await connection.execute(delete_from(schema.groups).where(schema.groups.c.id == group.id))
    return group


def _enumerate(paths: Sequence[str], limit: int = 3) -> str:
    shown = ", ".join(paths[:limit])
    return shown if len(paths) <= limit else f"{shown} and {len(paths) - limit} more"


def _group(row: Row[Any]) -> Group:
    values = dict(row._mapping)
    return Group(**values | {"visibility": Visibility(values["visibility"]), "gate": read_gate(values["gate"])})
