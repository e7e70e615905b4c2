"""The tree of groups in memory, and where a repository name leads; plain values, no repository is opened here."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cache.oci.errors import NameUnknown
from cache.oci.names import RepositoryName
from gateway.db.engine import Database
from gateway.db.groups import Group, list_all, looks_like_upstream

PROXY_SEPARATOR = "/dependency_proxy/containers/"
DOCKER_HUB = "docker.io"
DOCKER_HUB_ALIAS = "index.docker.io"
DOCKER_HUB_OFFICIAL = "library"


@dataclass(frozen=True, slots=True)
class ProxiedLocation:
    """An image of an upstream, pulled through a group; `image` is its name there, and the same for every spelling."""

    group: Group
    upstream: str
    image: RepositoryName


@dataclass(frozen=True, slots=True)
class NativeLocation:
    """A repository of our own, which may or may not exist."""

    name: RepositoryName


def locate(
    name: RepositoryName, groups: Mapping[str, Group], upstreams: Collection[str]
) -> ProxiedLocation | NativeLocation:
    """Where a name leads: proxied if the separator stands in it, of which the first one counts.

    Raises NameUnknown where there is no such group, its dependency proxy is off, or the upstream is not configured.
    """
    path, separator, image = name.text.partition(PROXY_SEPARATOR)
    if not separator:
        return NativeLocation(name)
    group = groups.get(path)
    if group is None:
        raise NameUnknown(f"there is no group {path!r}: create it, or pull through another")
    first, _, rest = image.partition("/")
    if rest and looks_like_upstream(first):
        return proxied(group, first, RepositoryName.parse(rest), upstreams)
    return proxied(group, group.default_upstream, RepositoryName.parse(image), upstreams)


@dataclass(frozen=True, slots=True)
class Root:
    """Where every name belongs to one group and upstream: an address, or a value of `?ns=`."""

    group: str
    upstream: str


def locate_below(
    root: Root, name: RepositoryName, groups: Mapping[str, Group], upstreams: Collection[str]
) -> ProxiedLocation:
    """Where a name leads that needs no prefix; one that begins with the upstream's own name is the same image.

    Raises NameUnknown as `locate` does.
    """
    group = groups.get(root.group)
    if group is None:
        raise NameUnknown(f"there is no group {root.group!r}: create it, or change the settings of this address")
    first, _, rest = name.text.partition("/")
    spelled = rest and (first == root.upstream or (first == DOCKER_HUB_ALIAS and root.upstream == DOCKER_HUB))
    return proxied(group, root.upstream, RepositoryName.parse(rest) if spelled else name, upstreams)


def proxied(group: Group, upstream: str, image: RepositoryName, upstreams: Collection[str]) -> ProxiedLocation:
    """An image of an upstream through a group, both already known by name. Raises NameUnknown as `locate` does."""
    if not group.proxy_enabled:
        raise NameUnknown(f"the dependency proxy of group {group.path!r} is off: enable it, or pull through another")
    if upstream == DOCKER_HUB_ALIAS:
        upstream = DOCKER_HUB
    if upstream not in upstreams:
        raise NameUnknown(f"upstream {upstream!r} is not configured: configured are {', '.join(sorted(upstreams))}")
    if upstream == DOCKER_HUB and "/" not in image.text:
        image = RepositoryName.parse(f"{DOCKER_HUB_OFFICIAL}/{image}")
    return ProxiedLocation(group, upstream, image)


class Namespaces:
    """The tree as it was at the last refresh; empty before the first one."""

    def __init__(self, database: Database, upstreams: Collection[str]) -> None:
        self._database = database
        self._upstreams = frozenset(upstreams)
        self._groups: Mapping[str, Group] = {}
        self._version: int | None = None

    async def refresh_if_changed(self) -> None:
        """Read the tree again if anybody has committed since it was read; else about 2 µs, and no switch of tasks.

        When it returns, what is here is at least as new as the call. Raises DatabaseUnusable.
        """
        version = self._database.version()
        if version == self._version:
            return
        async with self._database.read() as connection:
            self._groups = {group.path: group for group in await list_all(connection)}
        self._version = version

    async def check(self) -> None:
        """Raises DatabaseUnusable where the tree cannot be read, whatever is known of it."""
        async with self._database.read() as connection:
            await list_all(connection)

    @property
    def version(self) -> int | None:
        """Differs from an earlier one if the tree may differ from what it was then."""
        return self._version

    @property
    def groups(self) -> Collection[Group]:
        return self._groups.values()

    def group(self, path: str) -> Group | None:
        """None if there is none."""
        return self._groups.get(path)

    def locate(self, name: RepositoryName, root: Root | None = None) -> ProxiedLocation | NativeLocation:
        """Below a root, else by what the name says itself. Raises NameUnknown, as the functions of these names do."""
        if root is not None:
            return locate_below(root, name, self._groups, self._upstreams)
        return locate(name, self._groups, self._upstreams)
