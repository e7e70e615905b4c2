"""Directory: the tree, its users, members and credentials, from memory where possible."""

from collections.abc import Callable, Collection, Coroutine, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from cache.oci.errors import NameUnknown
from cache.oci.names import RepositoryName
from gateway.db import credentials, groups, members, paths, users
from gateway.db.changes import Concern
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.db.shared_reads import SharedReads
from gateway.directory.memory import Memory
from gateway.directory.places import GroupPlace, Located, Place, ProjectPlace
from gateway.directory.reading import FoundPlaces, candidates, group_path_at, located_in, read_groups, read_places
from gateway.directory.tree_administration import TreeAdministration
from gateway.namespaces.credentials import Credential, CredentialRef
from gateway.namespaces.group import HUB, Group
from gateway.namespaces.locate import Root, canonical_name, locate, locate_below
from gateway.namespaces.member import Member
from gateway.namespaces.node import NodeKey, NodeKind, Way, prefixes_of
from gateway.namespaces.old_path import Former
from gateway.namespaces.paths import proxied_name, split_proxied_name
from gateway.namespaces.user import User

KEPT_NODES = 10_000
KEPT_LOCATIONS = 10_000
KEPT_USERS = 10_000
KEPT_MEMBERSHIPS = 200_000
KEPT_CREDENTIALS = 20_000

_CHECK = "check"

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Read = Callable[[Connection], Coroutine[Any, Any, V | None]]


class Directory:
    """Lookups for one event loop; a result is at least as new as the call, except for the database's `look_every`.

    What does not exist is remembered like what does, until a change names it or its kind. What ends by the clock stays:
    whoever is given a member or a token asks for its expiry. All lookups raise DatabaseUnusable.
    """

    def __init__(self, database: Database, upstreams: Collection[str], listed: Collection[str] = ()) -> None:
        """`upstreams`: the names of those that are configured. `listed`: paths by which their settings name groups."""
        self._database = database
        self.tree = TreeAdministration(database)
        self._upstreams = frozenset(upstreams)
        self._listed = frozenset(listed)
        self._groups: Memory[str, GroupPlace] = Memory(KEPT_NODES)
        self._projects: Memory[str, ProjectPlace] = Memory(KEPT_NODES)
        self._former_groups: Memory[str, Former] = Memory(KEPT_NODES)
        self._former_projects: Memory[str, Former] = Memory(KEPT_NODES)
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
            Concern.MOVE: self._drop_places,
        }.items():
            database.changes.subscribe(concern, drop)

    # The tree

    async def find_group(self, path: str) -> Group | None:
        """Find a group by its path; None if it does not exist."""
        place = await self.find_group_place(path)
        return None if place is None else place.group

    async def find_group_place(self, path: str) -> GroupPlace | None:
        """Find a group by its path, with the way to it."""
        if self.remembers_group(path):
            return self._groups.find(path)
        return (await self.read_groups([path])).get(path)

    def remembers_group(self, path: str) -> bool:
        """Whether memory knows of the group of a path, or that there is none."""
        self._database.changes.catch_up()
        return self._groups.find(path) is not None or self._groups.knows_absence(path)

    async def read_groups(self, wanted: Iterable[str]) -> dict[str, GroupPlace]:
        """Read the groups of some paths, with the same statements whether there are any or not."""
        every = tuple(dict.fromkeys(wanted))
        version = self._groups.version

        async def work(connection: Connection) -> dict[str, GroupPlace]:
            ways = dict.fromkeys(prefix for path in every for prefix in prefixes_of(path))
            return await read_groups(connection, every, await paths.find_all(connection, ways), self._listed)

        async def read() -> dict[str, GroupPlace]:
            found = await self._database.query(work)
            self._keep_groups(every, found, version)
            return found

        return await self._reads.read((self._groups, every), version, read)

    def _keep_groups(self, wanted: Iterable[str], found: Mapping[str, GroupPlace], version: int) -> None:
        for path in wanted:
            self._groups.keep(path, found.get(path), version)

    async def find_project_place(self, path: str) -> ProjectPlace | None:
        """Find a project by its path, with the way to it."""

        async def read(connection: Connection) -> ProjectPlace | None:
            return (await read_places(connection, [path], [])).projects.get(path)

        return await self._look_up(self._projects, path, read)

    async def way_to(self, node: NodeKey) -> Way:
        """The way to a group or a project; empty if it does not exist."""
        place = await self.find_place(node)
        return () if place is None else place.way

    async def find_place(self, node: NodeKey) -> Place | None:
        """Find a group or a project by its identity; None if it does not exist."""

        async def read(connection: Connection) -> str | None:
            return next((entry.path for entry in await paths.find_of(connection, [node])), None)

        for _ in range(2):
            path = await self._look_up(self._paths, node, read)
            if path is None:
                return None
            in_group = node.kind is NodeKind.GROUP
            place: Place | None = await (self.find_group_place(path) if in_group else self.find_project_place(path))
            if place is not None and place.way[-1:] == (node,):
                return place
            self._paths.drop(node)  # it had that path
        return None

    async def list_groups(self) -> list[Group]:
        """Every group, each after the one above it, read from the database."""

        async def work(connection: Connection) -> list[Group]:
            return await groups.with_listings(connection, await groups.list_all(connection), self._listed)

        return await self._database.query(work)

    async def locate(self, name: RepositoryName, root: Root | None = None) -> Located:
        """Locate a name below a root, or else by the name itself."""
        known = self.remembered(name, root)
        return known if known is not None else (await self.locate_all([name], root))[name]

    def remembered(self, name: RepositoryName, root: Root | None = None) -> Located | None:
        """Where a name leads as far as memory knows, also that it leads nowhere; None where that must be read."""
        self._database.changes.catch_up()
        path = group_path_at(name, root)
        if path is None:
            return self._remembered_native(name)
        if (known := self._located.find((root, name))) is not None:
            return known
        former = self._former_groups.find(path)
        if (group := self._groups.find(path if former is None else former.present)) is not None:
            located = self._locate_image(name, root, group, former)
            self._located.keep((root, name), located, self._located.version)
            return located
        return Located(name.text, None) if self._groups.knows_absence(path) else None

    def _remembered_native(self, name: RepositoryName) -> Located | None:
        for candidate in reversed(candidates(name.text)):
            if (project := self._projects.find(candidate)) is not None:
                return located_in(name, project)
            former = self._former_projects.find(candidate)
            if former is not None and (project := self._projects.find(former.present)) is not None:
                present = former.present + name.text[len(candidate) :]
                return _by_old_name(name, replace(former, present=present), project)
        return Located(name.text, None) if self._located.knows_absence((None, name)) else None

    async def locate_all(
        self, names: Iterable[RepositoryName], root: Root | None = None
    ) -> dict[RepositoryName, Located]:
        """Read where names lead: any number with the statements of one, whether anything is there or not.

        Only projects and groups are remembered: names that clients invent below one take no room.
        """
        every = tuple(dict.fromkeys(names))
        memories = (self._located, self._projects, self._groups, self._former_projects, self._former_groups)
        versions = tuple(memory.version for memory in memories)

        async def read() -> dict[RepositoryName, Located]:
            native = [name.text for name in every if group_path_at(name, root) is None]
            in_groups = dict.fromkeys(path for name in every if (path := group_path_at(name, root)) is not None)
            work = partial(read_places, native=native, in_groups=in_groups, listed=self._listed)
            found = await self._database.query(work)
            self._keep_places(found, in_groups, versions)
            return {name: self._located_by(found, name, root, versions[0]) for name in every}

        return await self._reads.read((self._located, root, every), versions, read)

    def _keep_places(self, found: FoundPlaces, in_groups: Iterable[str], versions: Sequence[int]) -> None:
        _, of_projects, of_groups, of_former_projects, of_former_groups = versions
        for path, project in found.projects.items():
            self._projects.keep(path, project, of_projects)
        for path, former_project in found.former_projects.items():
            self._former_projects.keep(path, former_project, of_former_projects)
        for path in in_groups:
            former = found.formers.get(path)
            if former is not None:
                self._former_groups.keep(path, former, of_former_groups)
            self._keep_groups([path if former is None else former.present], found.groups, of_groups)

    def _located_by(self, found: FoundPlaces, name: RepositoryName, root: Root | None, absences: int) -> Located:
        """Where a name leads, by what was read of it."""
        path = group_path_at(name, root)
        former = found.formers.get(name.text if path is None else path)
        if path is not None:
            group = found.groups.get(path if former is None else former.present)
            return Located(name.text, None) if group is None else self._locate_image(name, root, group, former)
        project = found.project_of(name.text if former is None else former.present)
        if project is None:
            self._located.keep((None, name), None, absences)
            return Located(name.text, None)
        return located_in(name, project) if former is None else _by_old_name(name, former, project)

    def _locate_image(
        self, name: RepositoryName, root: Root | None, place: GroupPlace, former: Former | None
    ) -> Located:
        """Locate an image below a group, or below the old path of one: then the name goes on to have that in it."""
        group, asked = place.group, name
        if former is not None and root is None and (parts := split_proxied_name(name.text)) is not None:
            asked = RepositoryName(proxied_name(group.path, parts[1]))
        try:
            if root is None:
                location = locate(asked, {group.path: group}, self._upstreams)
            else:
                location = locate_below(replace(root, group=group.path), asked, {group.path: group}, self._upstreams)
        except NameUnknown as error:
            return Located(name.text, place, problem=str(error.detail), former=former)
        canonical = canonical_name(location)
        if former is None:
            return Located(canonical, place, location)
        by_old_name = f"{group_path_at(name, root)}{canonical[len(group.path) :]}"
        return Located(by_old_name, place, location, former=replace(former, present=canonical))

    async def remember_projects_of(self, names: Iterable[RepositoryName]) -> None:
        """Read the projects of native repositories into memory, in a few queries however many they are.

        `locate` finds each there, unless it changes meanwhile.
        """
        if unread := [name for name in names if self.remembered(name) is None]:
            await self.locate_all(unread)

    async def conceal(
        self, names: Collection[RepositoryName], root: Root | None = None, *, read: Collection[RepositoryName] = ()
    ) -> None:
        """Spend on names that must not be known what those cost that lead nowhere: the same statements, and none as
        long as the memory of absences knows of them.

        Without this, a name in memory is refused within microseconds, and one that leads nowhere is read first.
        `read`: names that were read for this request, which has cost that already.
        """
        versions = self._located.version, self._groups.version
        unpaid = [name for name in names if name not in read and not self.is_concealed(name, root)]
        if unpaid:
            await self.locate_all(unpaid, root)
        for name in names:
            if (path := group_path_at(name, root)) is None:
                self._located.conceal((None, name), versions[0])
            else:
                self._groups.conceal(path, versions[1])

    def is_concealed(self, name: RepositoryName, root: Root | None = None) -> bool:
        """Whether a name that must not be known costs nothing any more, like one that is known to lead nowhere."""
        path = group_path_at(name, root)
        return self._located.knows_concealed((None, name)) if path is None else self.is_group_concealed(path)

    def is_group_concealed(self, path: str) -> bool:
        """Whether a group that must not be known costs nothing any more, like a path that no group has."""
        return self._groups.knows_concealed(path)

    def note_concealed_groups(self, paths: Iterable[str]) -> None:
        """Note groups that must not be known, after the request has cost what paths cost that no group has."""
        for path in paths:
            self._groups.conceal(path, self._groups.version)

    async def _pretend(self, memory: Memory[K, V], key: K, read: Read[object]) -> None:
        """Look a key up as if a memory had no value for it."""
        if memory.knows_concealed(key):
            return
        version = memory.version
        await self._database.query(read)
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
        found = bool(await self._database.query(partial(users.list_all, limit=1)))
        if version == self._users.version:
            self._has_logins = found
        return found

    async def memberships(self, user_id: int, nodes: Iterable[NodeKey]) -> tuple[Member, ...]:
        """Memberships of a user in the nodes themselves, expired ones too."""
        every = await self._memberships_of(user_id)
        return tuple(every[node] for node in nodes if node in every)

    async def memberships_anywhere(self, user_id: int) -> tuple[Member, ...]:
        """All memberships of a user, expired ones too."""
        return tuple((await self._memberships_of(user_id)).values())

    async def _memberships_of(self, user_id: int) -> Mapping[NodeKey, Member]:
        async def read(connection: Connection) -> Mapping[NodeKey, Member]:
            return {member.node: member for member in await members.of_user(connection, user_id)}

        return await self._look_up(self._memberships, user_id, read) or {}

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
        """Check that the database can be read, whatever is in memory: once for all that request this at once."""

        async def check() -> None:
            await self._database.query(partial(groups.find, path=HUB))

        await self._reads.read(_CHECK, None, check)

    async def _find_user(
        self,
        memory: Memory[str, int],
        key: str,
        find: Callable[[Connection, str], Coroutine[Any, Any, User | None]],
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
            value = await self._database.query(read)
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

    def _drop_places(self, _: str | None) -> None:
        """Forget all that is found by a path: what lies below something that has moved, has moved too."""
        self._former_groups.drop_all()
        self._former_projects.drop_all()
        self._drop_group(None)
        self._drop_project(None)

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


def _by_old_name(name: RepositoryName, former: Former, project: ProjectPlace) -> Located:
    """What an old name leads to, under the name that was asked for, by which Bearer tokens list it."""
    return replace(located_in(RepositoryName(former.present), project), name=name.text, former=former)
