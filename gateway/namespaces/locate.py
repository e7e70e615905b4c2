"""Location of a repository name, from the groups and upstreams that are given; pure, no repository is opened."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cache.oci.errors import NameUnknown
from cache.oci.names import RepositoryName
from gateway import known_registries
from gateway.namespaces.group import Group
from gateway.namespaces.paths import proxied_name, split_proxied_name
from gateway.upstream_names import looks_like_upstream


@dataclass(frozen=True, slots=True)
class ProxiedLocation:
    """An image of an upstream, pulled through a group; `image` is its name there, one for all spellings."""

    group: Group
    upstream: str
    image: RepositoryName


@dataclass(frozen=True, slots=True)
class NativeLocation:
    """A native repository, which may or may not exist."""

    name: RepositoryName


Location = ProxiedLocation | NativeLocation


@dataclass(frozen=True, slots=True)
class Root:
    """A group and an upstream to which every name belongs: at an address, or for a value of `?ns=`."""

    group: str
    upstream: str


LEVELS_BELOW_PROJECT = 3
"""Components that the name of a repository may have beyond the path of its project."""


def native_location(name: RepositoryName, project: str) -> NativeLocation:
    """Locate a name in the project of a path at its beginning. Raises NameUnknown where it lies too deep below it."""
    below = name.text[len(project) :].count("/")
    if below > LEVELS_BELOW_PROJECT:
        deepest = "/".join(name.components[: len(project.split("/")) + LEVELS_BELOW_PROJECT])
        raise NameUnknown(
            f"{name} lies {below} components below project {project!r}: a repository has the path of its project, "
            f"or at most {LEVELS_BELOW_PROJECT} components more, such as {deepest}"
        )
    return NativeLocation(name)


def group_path_of(name: RepositoryName) -> str | None:
    """The path of the group that `locate` looks up for a name; None for a native name."""
    parts = split_proxied_name(name.text)
    return None if parts is None else parts[0]


def locate(name: RepositoryName, groups: Mapping[str, Group], upstreams: Collection[str]) -> Location:
    """Locate a name: it is proxied if the separator stands in it, of which the first one counts.

    `groups`: by path; only the one that `group_path_of` names is looked up. Raises NameUnknown where there is no such
    group, its dependency proxy is off, or the upstream is not configured.
    """
    parts = split_proxied_name(name.text)
    if parts is None:
        return NativeLocation(name)
    path, image = parts
    group = groups.get(path)
    if group is None:
        raise NameUnknown(f"there is no group {path!r}: create it, or pull through another")
    first, _, rest = image.partition("/")
    if rest and looks_like_upstream(first):
        return proxied_location(group, first, RepositoryName.parse(rest), upstreams)
    return proxied_location(group, group.default_upstream, RepositoryName.parse(image), upstreams)


def locate_below(
    root: Root, name: RepositoryName, groups: Mapping[str, Group], upstreams: Collection[str]
) -> ProxiedLocation:
    """Locate a name below a root, which needs no prefix; the upstream's own name before it changes nothing.

    `groups`: by path; only the root's is looked up. Raises NameUnknown where `locate` does.
    """
    group = groups.get(root.group)
    if group is None:
        raise NameUnknown(f"there is no group {root.group!r}: create it, or change the settings of this address")
    first, _, rest = name.text.partition("/")
    spelled = rest and root.upstream in (first, known_registries.canonical_name(first))
    return proxied_location(group, root.upstream, RepositoryName.parse(rest) if spelled else name, upstreams)


def locate_image(image: str, group: str, groups: Mapping[str, Group], upstreams: Collection[str]) -> ProxiedLocation:
    """Locate `[UPSTREAM/]NAME`, as people write it, below a group. Raises NameInvalid, and NameUnknown where `locate`
    does."""
    location = locate(RepositoryName.parse(proxied_name(group, image)), groups, upstreams)
    if not isinstance(location, ProxiedLocation):
        raise AssertionError("a name with the separator in it is proxied")
    return location


def canonical_name(location: Location) -> str:
    """The one name of a repository, however it was spelled and whatever address it was requested at.

    It is what a main address locates: of an image at the group's default upstream the shorter form.
    """
    if isinstance(location, NativeLocation):
        return location.name.text
    image = str(location.image)
    default = known_registries.canonical_name(location.group.default_upstream)
    short = location.upstream == default and not looks_like_upstream(image.partition("/")[0])
    return proxied_name(location.group.path, image if short else f"{location.upstream}/{image}")


def proxied_location(group: Group, upstream: str, image: RepositoryName, upstreams: Collection[str]) -> ProxiedLocation:
    """The location of an image whose group and upstream are already known. Raises NameUnknown where `locate` does."""
    if not group.proxy_enabled:
        raise NameUnknown(f"the dependency proxy of group {group.path!r} is off: enable it, or pull through another")
    upstream = known_registries.canonical_name(upstream)
    if upstream not in upstreams:
        raise NameUnknown(f"upstream {upstream!r} is not configured: configured are {', '.join(sorted(upstreams))}")
    return ProxiedLocation(group, upstream, known_registries.full_name(upstream, image))
