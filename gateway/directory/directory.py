"""Directory: groups and locations of repository names, from memory where possible."""

from collections.abc import Collection

from cachetools import LRUCache

from cache.oci.names import RepositoryName
from gateway.db import groups
from gateway.db.changes import Concern
from gateway.db.engine import Database
from gateway.namespaces.group import HUB, Group
from gateway.namespaces.locate import Location, Root, group_path_of, locate, locate_below

KEPT_GROUPS = 10_000
KEPT_LOCATIONS = 10_000


class Directory:
    """Lookups in the tree for one event loop; a result is at least as new as the call, except for the
    database's `look_every`.

    A group that does not exist is remembered like one that does, until a change names its path.
    """

    def __init__(self, database: Database, upstreams: Collection[str]) -> None:
        """`upstreams`: the names of those that are configured."""
        self._database = database
        self._upstreams = frozenset(upstreams)
        self._groups: LRUCache[str, Group | None] = LRUCache(KEPT_GROUPS)
        self._located: dict[tuple[Root | None, RepositoryName], Location] = {}
        self._version = 0
        database.changes.subscribe(Concern.GROUP, self._drop_group)

    async def find_group(self, path: str) -> Group | None:
        """Find a group by its path; None if it does not exist. Raises DatabaseUnusable."""
        self._database.changes.catch_up()
        if path in self._groups:
            return self._groups[path]
        version = self._version
        async with self._database.read() as connection:
            group = await groups.find(connection, path)
        if version == self._version:
            self._groups[path] = group
        return group

    async def list_groups(self) -> list[Group]:
        """Every group, each after the one above it, read from the database. Raises DatabaseUnusable."""
        async with self._database.read() as connection:
            return await groups.list_all(connection)

    async def locate(self, name: RepositoryName, root: Root | None = None) -> Location:
        """Locate a name below a root, or else by the name itself.

        Raises NameUnknown as `gateway.namespaces.locate.locate` does, and DatabaseUnusable.
        """
        self._database.changes.catch_up()
        key = (root, name)
        if (known := self._located.get(key)) is not None:
            return known
        version = self._version
        path = group_path_of(name) if root is None else root.group
        group = None if path is None else await self.find_group(path)
        known_groups = {} if group is None else {group.path: group}
        if root is None:
            location = locate(name, known_groups, self._upstreams)
        else:
            location = locate_below(root, name, known_groups, self._upstreams)
        if version == self._version:
            if len(self._located) >= KEPT_LOCATIONS:
                self._located.clear()
            self._located[key] = location
        return location

    async def check(self) -> None:
        """Check that the database can be read, whatever is in memory. Raises DatabaseUnusable."""
        async with self._database.read() as connection:
            await groups.find(connection, HUB)

    def _drop_group(self, path: str | None) -> None:
        """Forget a group, or all of them, and with it every location."""
        self._version += 1
        self._located.clear()
        if path is None:
            self._groups.clear()
        else:
            self._groups.pop(path, None)
