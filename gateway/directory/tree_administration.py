"""TreeAdministration: changes of groups, projects and memberships, and lists of them, for whoever may administer them.

Nothing is decided about rights here. Each change is one transaction, which looks at what it changes anew: between the
two it may have been changed, moved or deleted.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from gateway.db import groups, members, moves, old_paths, paths, projects, quotas, tree_lists, users
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.db.moves import Moved
from gateway.db.tree_lists import TreeFilter, TreeOrder
from gateway.db.windows import ListPart, ListWindow, read_part
from gateway.namespaces.group import Group, unknown_group
from gateway.namespaces.member import Member
from gateway.namespaces.node import NodeKey, NodeKind, PathEntry, prefixes_of
from gateway.namespaces.project import Project, unknown_project
from gateway.namespaces.reach import Knowledge
from gateway.namespaces.role import Role
from gateway.namespaces.user import User

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NamedMember:
    """A membership with its user, or the ownership that a user has of the own namespace. `source`: the path of the node
    that has the member."""

    member: Member
    user: User
    source: str


class TreeAdministration:
    """Changes and lists of the tree. Raises DatabaseUnusable, and TreeError where the tree does not allow a change."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # Groups

    async def create_group(self, path: str, change: Callable[[Group], Group], owner: User, now: datetime) -> Group:
        """Create a group that a change has made; its owner is a member of it, unless a group above says so already."""

        async def create(connection: Connection) -> Group:
            made = await groups.create(connection, path, now)
            await groups.update(connection, change(made))
            if not await _is_owner(connection, path, owner.id, now):
                await members.add(connection, Member(_group_key(made.id), owner.id, Role.OWNER, None, now))
            return await groups.get(connection, path)

        return await self._database.transact(create)

    async def update_group(self, id: int, change: Callable[[Group], Group]) -> Group:
        """Change a group; its path stays."""

        async def update(connection: Connection) -> Group:
            group = await _get_group(connection, id)
            changed = change(group)
            if changed != group:
                await groups.update(connection, changed)
            return await groups.get(connection, group.path)

        return await self._database.transact(update)

    async def move_group(self, id: int, place: Callable[[str], str], now: datetime, kept: timedelta) -> Moved:
        """Move a group to the path that `place` makes of its present one. `kept`: how long the old path leads to it."""

        async def move(connection: Connection) -> Moved:
            group = await _get_group(connection, id)
            return await moves.move_group(connection, group.path, place(group.path), now, kept)

        return await self._database.transact(move)

    async def delete_group(self, id: int) -> Group:
        """Delete a group that holds nothing; return it."""

        async def delete(connection: Connection) -> Group:
            return await groups.delete(connection, (await _get_group(connection, id)).path)

        return await self._database.transact(delete)

    async def list_groups(
        self, known: Knowledge, which: TreeFilter, order: TreeOrder, window: ListWindow, *, counted: bool
    ) -> ListPart[Group]:
        """A part of the groups that somebody may know of. `counted`: whether the total is wanted."""

        async def rows(connection: Connection, window: ListWindow) -> list[Group]:
            return await tree_lists.list_groups(connection, known, which, order, window)

        async def total(connection: Connection) -> int:
            return await tree_lists.count_groups(connection, known, which, window.search)

        return await self._part(rows, total, window, counted)

    # Projects

    async def create_project(
        self, path: str, change: Callable[[Project], Project], created_by: int | None, now: datetime
    ) -> Project:
        """Create a project that a change has made."""

        async def create(connection: Connection) -> Project:
            wanted = change(await projects.create(connection, path, now, created_by=created_by))
            await projects.update(connection, wanted)
            return await projects.get(connection, path)

        return await self._database.transact(create)

    async def move_project(self, id: int, place: Callable[[str], str], now: datetime, kept: timedelta) -> Moved:
        """Move a project to the path that `place` makes of its present one; otherwise as `move_group`."""

        async def move(connection: Connection) -> Moved:
            project = await projects.find_by_id(connection, id)
            if project is None:
                raise unknown_project(str(id))
            return await moves.move_project(connection, project.path, place(project.path), now, kept)

        return await self._database.transact(move)

    async def check_project_move(self, id: int, place: Callable[[str], str], now: datetime) -> None:
        """Check that `move_project` would move a project now, and change nothing. Raises what that raises."""

        async def check(connection: Connection) -> None:
            project = await projects.find_by_id(connection, id)
            if project is None:
                raise unknown_project(str(id))
            await moves.move_project(connection, project.path, place(project.path), now, timedelta(0))
            raise _Undone

        with suppress(_Undone):
            await self._database.transact(check)

    async def list_projects(
        self, known: Knowledge, which: TreeFilter, order: TreeOrder, window: ListWindow, *, counted: bool
    ) -> ListPart[Project]:
        """A part of the projects that somebody may know of."""

        async def rows(connection: Connection, window: ListWindow) -> list[Project]:
            return await tree_lists.list_projects(connection, known, which, order, window)

        async def total(connection: Connection) -> int:
            return await tree_lists.count_projects(connection, known, which, window.search)

        return await self._part(rows, total, window, counted)

    async def stored_bytes(self, key: NodeKey, path: str) -> int:
        """Count the bytes that are stored in a project, or in all projects below a group."""
        if key.kind is NodeKind.PROJECT:
            return await self._read(partial(quotas.stored_bytes, project_id=key.id))
        return await self._read(partial(quotas.stored_bytes_below, group=path))

    async def places_of(self, keys: Sequence[NodeKey]) -> list[PathEntry]:
        """Find the places of those of the nodes that exist, in the order of their paths."""
        return await self._read(partial(paths.find_of, keys=keys))

    async def places_at(self, wanted: Sequence[str]) -> dict[str, NodeKey]:
        """Find the nodes of those of the paths that lead to one."""
        return {entry.path: entry.key for entry in await self._read(partial(paths.find_all, paths=wanted))}

    async def last_move(self, nodes: Sequence[NodeKey]) -> datetime | None:
        """When the last of some nodes moved; None where none did, as far as their old paths are kept."""
        return await self._read(partial(old_paths.last_move, nodes=nodes))

    # Members

    async def members_of(
        self, path: str, now: datetime, *, inherited: bool, user_id: int | None = None
    ) -> list[NamedMember]:
        """The members of the node of a path in the order of their names, and with `inherited` those of all nodes above
        it, of each user the strongest membership that has not expired; a user owns what lies in the own namespace.
        `user_id`: of this user alone."""

        async def read(connection: Connection) -> list[NamedMember]:
            places = await paths.find_all(connection, prefixes_of(path) if inherited else [path])
            sources = {place.key: place.path for place in places}
            listed = await members.list_of(connection, sources, user_id)
            found = [member for member in listed if member.is_active(now)]
            owners = [
                place.key.id for place in places if place.key.kind is NodeKind.USER and user_id in (None, place.key.id)
            ]
            people = await users.find_all(connection, {*owners, *(member.user_id for member in found)})
            named = [NamedMember(member, people[member.user_id], sources[member.node]) for member in found]
            return [*(_owner(people[id]) for id in owners), *named]

        strongest: dict[int, NamedMember] = {}
        for one in await self._read(read):
            before = strongest.get(one.user.id)
            if before is None or before.member.role < one.member.role:
                strongest[one.user.id] = one
        return sorted(strongest.values(), key=lambda one: one.user.name)

    async def add_member(
        self, node: NodeKey, user_id: int, role: Role, expires_at: datetime | None, now: datetime
    ) -> None:
        """Make a user a member. Raises MembershipRefused, UserUnknown."""
        await self._database.transact(partial(members.add, member=Member(node, user_id, role, expires_at, now)))

    async def update_member(
        self, node: NodeKey, user_id: int, change: Callable[[Member], Member], now: datetime
    ) -> None:
        """Change the role or the expiry of a member. Raises MemberUnknown, MembershipRefused."""

        async def update(connection: Connection) -> None:
            await members.update(connection, change(await members.get(connection, node, user_id)), now)

        await self._database.transact(update)

    async def remove_member(self, node: NodeKey, user_id: int) -> Member:
        """Remove a member, and return the membership. Raises MemberUnknown."""
        return await self._database.transact(partial(members.remove, node=node, user_id=user_id))

    async def _read(self, query: Callable[[Connection], Awaitable[T]]) -> T:
        async with self._database.read() as connection:
            return await query(connection)

    async def _part(
        self,
        rows: Callable[[Connection, ListWindow], Awaitable[Sequence[T]]],
        total: Callable[[Connection], Awaitable[int]],
        window: ListWindow,
        counted: bool,
    ) -> ListPart[T]:
        """Read a part, and one row more to know whether there are more, in one state of the database."""
        async with self._database.read() as connection:
            return await read_part(connection, rows, total, window, counted=counted)


class _Undone(Exception):
    """Raised to undo a transaction that was only to show whether it can be done."""


async def _get_group(connection: Connection, id: int) -> Group:
    group = await groups.find_by_id(connection, id)
    if group is None:
        raise unknown_group(str(id))
    return group


async def _is_owner(connection: Connection, path: str, user_id: int, now: datetime) -> bool:
    """Whether a group above a new one has a user as an owner."""
    above = await paths.find_all(connection, prefixes_of(path)[:-1])
    found = await members.list_of(connection, [entry.key for entry in above], user_id)
    return any(one.role is Role.OWNER and one.is_active(now) for one in found)


def _group_key(id: int) -> NodeKey:
    return NodeKey(NodeKind.GROUP, id)


def _owner(user: User) -> NamedMember:
    """The ownership that a user has of the own namespace."""
    return NamedMember(Member(user.key, user.id, Role.OWNER, None, user.created_at), user, user.name)
