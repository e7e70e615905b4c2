"""Directory: the tree, its users, members and credentials, from memory where possible."""

from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Mapping
from typing import TypeVar

from cache.oci.errors import NameUnknown
from cache.oci.names import RepositoryName
from gateway.db import credentials, groups, members, paths, projects, users
from gateway.db.changes import Concern
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.db.shared_reads import SharedReads
from gateway.directory.memory import Memory
from gateway.directory.places import GroupPlace, Located, Place, ProjectPlace
from gateway.namespaces.credentials import Credential, CredentialRef
from gateway.namespaces.group import HUB, Group
from gateway.namespaces.locate import Root, canonical_name, group_path_of, locate, locate_below, native_location
from gateway.namespaces.member import Member
from gateway.namespaces.node import NodeKey, NodeKind, PathEntry, Way, prefixes_of
from gateway.namespaces.paths import NESTING_LIMIT
from gateway.namespaces.user import User

KEPT_NODES = 10_000
KEPT_LOCATIONS = 10_000
KEPT_USERS = 10_000
KEPT_MEMBERSHIPS = 200_000
KEPT_CREDENTIALS = 20_000

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Read = Callable[[Connection], Awaitable[V | None]]


class Directory:
    """Lookups for one event loop; a result is at least as new as the call, except for the database's `look_every`.

    What does not exist is remembered like what does, until a change names it or its kind. What ends by the clock stays:
    whoever is given a member or a token asks for its expiry. All lookups raise DatabaseUnusable.
    """

    def __init__(self, database: Database, upstreams: Collection[str]) -> None:
        """`upstreams`: the names of those that are configured."""
        self._database = database
        self._upstreams = frozenset(upstreams)
        self._groups: Memory[str, GroupPlace] = Memory(KEPT_NODES)
        self._projects: Memory[str, ProjectPlace] = Memory(KEPT_NODES)
        self._located: Memory[tuple[Root | None, RepositoryName], Located] = Memory(KEPT_LOCATIONS)
        self._paths: Memory[NodeKey, str] = Memory(KEPT_NODES)
        self._users: Memory[int, User] = Memory(KEPT_USERS)
        self._user_ids: Memory[str, int] = Memory(KEPT_USERS)
        self._user_ids_by_email: Memory[str, int] = Memory(KEPT_USERS)
        self._memberships: Memory[int, Mapping[NodeKey, Member]] = Memory(
            KEPT_MEMBERSHIPS, lambda found: 1 + len(found)
        )
        self._credentials: Memory[CredentialRef, Credential] = Memory(KEPT_CREDENTIALS)
        self._refs: Memory[str, CredentialRef] = Memory(KEPT_CREDENTIALS)
        self._has_logins: bool | None = None
        self._reads = SharedReads()
        for concern, drop in {
            Concern.GROUP: self._drop_group,
            Concern.PROJECT: self._drop_project,
            Concern.USER: self._drop_user,
            Concern.MEMBER: self._drop_memberships,
            Concern.CREDENTIAL: self._drop_credential,
        }.items():
            database.changes.subscribe(concern, drop)

    # The tree

    async def find_group(self, path: str) -> Group | None:
        """Find a group by its path; None if it does not exist."""
        place = await self.find_group_place(path)
        return None if place is None else place.group

    async def find_group_place(self, path: str) -> GroupPlace | None:
        """Find a group by its path, with the way to it."""

        async def read(connection: Connection) -> GroupPlace | None:
            group = await groups.find(connection, path)
            if group is None:
                return None
            return GroupPlace(group, _way_of(await paths.find_all(connection, prefixes_of(path))))

        return await self._look_up(self._groups, path, read)

    async def groups_on_the_way(self, name: RepositoryName) -> list[GroupPlace]:
        """The groups whose paths a name begins with, or is, from the top down.

        Each path that no group has costs the same, whether a group stands above it or not.
        """
        found = [await self.find_group_place(path) for path in prefixes_of(name.text)[:NESTING_LIMIT]]
        return [place for place in found if place is not None]

    async def find_project_place(self, path: str) -> ProjectPlace | None:
        """Find a project by its path, with the way to it."""

        async def read(connection: Connection) -> ProjectPlace | None:
            entries = await paths.find_all(connection, prefixes_of(path))
            return (await _read_projects(connection, [path], entries)).get(path)

        return await self._look_up(self._projects, path, read)

    async def way_to(self, node: NodeKey) -> Way:
        """The way to a group or a project; empty if it does not exist."""

        async def read(connection: Connection) -> str | None:
            return next((entry.path for entry in await paths.find_of(connection, [node])), None)

        for _ in range(2):
            path = await self._look_up(self._paths, node, read)
            if path is None:
                return ()
            in_group = node.kind is NodeKind.GROUP
            place: Place | None = await (self.find_group_place(path) if in_group else self.find_project_place(path))
            if place is not None and place.way[-1:] == (node,):
                return place.way
            self._paths.drop(node)  # it had that path
        return ()

    async def list_groups(self) -> list[Group]:
        """Every group, each after the one above it, read from the database."""
        async with self._database.read() as connection:
            return await groups.list_all(connection)

    async def locate(self, name: RepositoryName, root: Root | None = None) -> Located:
        """Locate a name below a root, or else by the name itself."""
        self._database.changes.catch_up()
        key = (root, name)
        if (known := self._located.find(key)) is not None:
            return known
        version = self._located.version
        path = group_path_of(name) if root is None else root.group
        if path is None:
            return await self._locate_native(name)
        group = await self.find_group_place(path)
        if group is None:
            return Located(name.text, None)
        located = self._locate_image(name, root, group)
        self._located.keep(key, located, version)
        return located

    def _locate_image(self, name: RepositoryName, root: Root | None, place: GroupPlace) -> Located:
        known = {place.group.path: place.group}
        try:
            if root is None:
                location = locate(name, known, self._upstreams)
            else:
                location = locate_below(root, name, known, self._upstreams)
        except NameUnknown as error:
            return Located(name.text, place, problem=str(error.detail))
        return Located(canonical_name(location), place, location)

    async def _locate_native(self, name: RepositoryName) -> Located:
        """Locate the project that holds a native repository, which may have the path of the project itself.

        Only projects are remembered: names that clients invent below one take no room.
        """
        candidates = prefixes_of(name.text)[: NESTING_LIMIT + 1]
        for path in reversed(candidates):
            if (place := self._projects.find(path)) is not None:
                return _located_in(name, place)
        key = (None, name)
        if self._located.knows_absence(key):
            return Located(name.text, None)
        version, absences = self._projects.version, self._located.version
        async with self._database.read() as connection:
            entries = await paths.find_all(connection, candidates)
            path = next((entry.path for entry in entries if entry.key.kind is NodeKind.PROJECT), "")
            found = (await _read_projects(connection, [path], entries)).get(path) if path else None
        if found is None:
            self._located.keep(key, None, absences)
            return Located(name.text, None)
        self._projects.keep(path, found, version)
        return _located_in(name, found)

    async def remember_projects_of(self, names: Iterable[RepositoryName]) -> None:
        """Read the projects of native repositories into memory, in a few queries however many they are.

        `locate` finds each there, unless it changes meanwhile.
        """
        self._database.changes.catch_up()
        wanted: set[str] = set()
        for name in names:
            candidates = prefixes_of(name.text)[: NESTING_LIMIT + 1]
            if not any(self._projects.find(path) for path in candidates):
                wanted.update(candidates)
        if not wanted:
            return
        version = self._projects.version
        async with self._database.read() as connection:
            entries = await paths.find_all(connection, sorted(wanted))
            of_projects = [entry.path for entry in entries if entry.key.kind is NodeKind.PROJECT]
            found = await _read_projects(connection, of_projects, entries)
        for path, place in found.items():
            self._projects.keep(path, place, version)

    async def conceal(self, name: RepositoryName, root: Root | None = None) -> None:
        """Spend on a name that must not be known what one costs that leads nowhere: the same query, and no query as
        long as the memory of absences knows of it.

        Without this, a name in memory is refused within microseconds, and one that leads nowhere is read first.
        """
        path = group_path_of(name) if root is None else root.group
        if path is not None:
            await self._pretend(self._groups, path, lambda connection: groups.find(connection, path))
            return
        candidates = prefixes_of(name.text)[: NESTING_LIMIT + 1]
        await self._pretend(self._located, (None, name), lambda connection: paths.find_all(connection, candidates))

    async def _pretend(self, memory: Memory[K, V], key: K, read: Callable[[Connection], Awaitable[object]]) -> None:
        """Look a key up as if a memory had no value for it."""
        if memory.knows_concealed(key):
            return
        version = memory.version
        async with self._database.read() as connection:
            await read(connection)
        memory.conceal(key, version)

    # Users, members and credentials

    async def user(self, user_id: int) -> User | None:
        """Find a user by id; None if there is none."""
        return await self._look_up(self._users, user_id, lambda connection: users.find_by_id(connection, user_id))

    async def find_user(self, name: str) -> User | None:
        """Find a user by name; None if there is none."""
        return await self._find_user(self._user_ids, name, users.find, lambda user: user.name)

    async def find_user_by_email(self, email: str) -> User | None:
        """Find a user by e-mail address, in lower case; None if there is none."""
        return await self._find_user(self._user_ids_by_email, email, users.find_by_email, lambda user: user.email)

    async def conceal_user(self, name: str) -> None:
        """Spend on the name or address of a user, whose login failed, what one costs that nobody has; see `conceal`."""
        memory, find = (self._user_ids_by_email, users.find_by_email) if "@" in name else (self._user_ids, users.find)
        await self._pretend(memory, name, lambda connection: find(connection, name))

    async def has_logins(self) -> bool:
        """Whether there is any user, so that somebody could log in."""
        self._database.changes.catch_up()
        if self._has_logins is not None:
            return self._has_logins
        version = self._users.version
        async with self._database.read() as connection:
            found = bool(await users.list_all(connection, limit=1))
        if version == self._users.version:
            self._has_logins = found
        return found

    async def memberships(self, user_id: int, nodes: Iterable[NodeKey]) -> tuple[Member, ...]:
        """Memberships of a user in the nodes themselves, expired ones too."""

        async def read(connection: Connection) -> Mapping[NodeKey, Member]:
            return {member.node: member for member in await members.of_user(connection, user_id)}

        every = await self._look_up(self._memberships, user_id, read) or {}
        return tuple(every[node] for node in nodes if node in every)

    async def credential_of_hash(self, secret_hash: str) -> tuple[CredentialRef, Credential] | None:
        """Find a credential by the hash of its secret, one that has ended too; None if there is none."""

        async def read(connection: Connection) -> CredentialRef | None:
            found = await credentials.find_by_hash(connection, secret_hash)
            return found and found[0]

        ref = await self._look_up(self._refs, secret_hash, read)
        credential = None if ref is None else await self.credential(ref)
        return None if ref is None or credential is None else (ref, credential)

    async def credential(self, ref: CredentialRef) -> Credential | None:
        """Find a credential by its identity, one that has ended too; None if there is none."""
        return await self._look_up(self._credentials, ref, lambda connection: credentials.find_by_ref(connection, ref))

    async def require_current(self) -> None:
        """Check that memory misses no change that is older than a second; for what a credential opens."""
        await self._database.changes.require_current()

    async def check(self) -> None:
        """Check that the database can be read, whatever is in memory."""
        async with self._database.read() as connection:
            await groups.find(connection, HUB)

    async def _find_user(
        self,
        memory: Memory[str, int],
        key: str,
        find: Callable[[Connection, str], Awaitable[User | None]],
        key_of: Callable[[User], str | None],
    ) -> User | None:
        async def read(connection: Connection) -> int | None:
            found = await find(connection, key)
            return None if found is None else found.id

        for _ in range(2):
            user_id = await self._look_up(memory, key, read)
            user = None if user_id is None else await self.user(user_id)
            if user_id is None or (user is not None and key_of(user) == key):
                return user
            memory.drop(key)  # the user had that name or address
        return None

    async def _look_up(self, memory: Memory[K, V], key: K, read: Read[V]) -> V | None:
        """Find a value in a memory, or else read it, once for all who lack it; what changes meanwhile is not kept."""
        self._database.changes.catch_up()
        if (known := memory.find(key)) is not None or memory.knows_absence(key):
            return known
        version = memory.version

        async def look_up() -> V | None:
            async with self._database.read() as connection:
                value = await read(connection)
            memory.keep(key, value, version)
            return value

        return await self._reads.read((memory, key), version, look_up)

    # Changes

    def _drop_group(self, path: str | None) -> None:
        """Forget a group, or all of them, and with it every location."""
        _drop(self._groups, path)
        self._located.drop_all()
        self._forget_paths(path)

    def _drop_project(self, path: str | None) -> None:
        _drop(self._projects, path)
        self._located.forget_absences()
        self._forget_paths(path)

    def _forget_paths(self, path: str | None) -> None:
        """Forget the absence of nodes; a path that a node had is found out where its node is looked up."""
        if path is None:
            self._paths.drop_all()
        else:
            self._paths.forget_absences()

    def _drop_user(self, key: str | None) -> None:
        """Forget a user by id, or the user that a name or an address leads to."""
        self._has_logins = None
        if key is None or key.isdecimal():
            _drop(self._users, None if key is None else int(key))
        _drop(self._user_ids, key)
        _drop(self._user_ids_by_email, key)

    def _drop_memberships(self, key: str | None) -> None:
        _drop(self._memberships, None if key is None else int(key))

    def _drop_credential(self, key: str | None) -> None:
        """Forget a credential by its identity, or what the hash of its secret leads to."""
        if key is None or ":" in key:
            _drop(self._credentials, None if key is None else CredentialRef.parse(key))
        if key is None or ":" not in key:
            _drop(self._refs, key)


def _drop(memory: Memory[K, V], key: K | None) -> None:
    if key is None:
        memory.drop_all()
    else:
        memory.drop(key)


def _way_of(entries: Collection[PathEntry]) -> Way:
    return tuple(entry.key for entry in entries)


def _located_in(name: RepositoryName, place: ProjectPlace) -> Located:
    try:
        return Located(name.text, place, native_location(name, place.project.path))
    except NameUnknown as error:
        return Located(name.text, place, problem=str(error.detail))


async def _read_projects(
    connection: Connection, wanted: Collection[str], entries: Collection[PathEntry]
) -> dict[str, ProjectPlace]:
    """Read the projects of some paths, where `entries` are those on the ways to them, the shortest first."""
    found = await projects.find_all(connection, wanted)
    allowances = await projects.all_allowed_jobs(connection, [project.id for project in found])
    by_path = {entry.path: entry for entry in entries}
    return {
        project.path: ProjectPlace(
            project,
            _way_of([by_path[path] for path in prefixes_of(project.path) if path in by_path]),
            frozenset(allowances.get(project.id, ())),
        )
        for project in found
    }
