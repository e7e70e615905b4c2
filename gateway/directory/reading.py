"""Places as they are read from the database: any number of names with the statements of one, whether anything is there,
was there, or neither."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

from cache.oci.errors import NameUnknown
from cache.oci.names import RepositoryName
from gateway.db import groups, old_paths, projects, protections
from gateway.db.connection import Connection
from gateway.directory.places import GroupPlace, Located, ProjectPlace
from gateway.namespaces.locate import Root, group_path_of, native_location
from gateway.namespaces.node import NodeKind, PathEntry, Way, prefixes_of
from gateway.namespaces.old_path import Former, MovedKind, OldPath, follow
from gateway.namespaces.paths import NESTING_LIMIT
from gateway.namespaces.protection import UNPROTECTED

_NO_PATH, _NO_ID = "", 0
"""A path and an id that nothing has."""


@dataclass(frozen=True, slots=True)
class FoundPlaces:
    """What was read for some native names and paths of groups.

    `formers`: what those lead to that are old. `former_projects`: by the old paths of the projects of old names.
    """

    projects: Mapping[str, ProjectPlace]
    groups: Mapping[str, GroupPlace]
    formers: Mapping[str, Former]
    former_projects: Mapping[str, Former]

    def project_of(self, name: str) -> ProjectPlace | None:
        """The project that holds a name which is no old one."""
        return next((self.projects[path] for path in candidates(name) if path in self.projects), None)


async def read_places(
    connection: Connection, native: Collection[str], in_groups: Collection[str], listed: Collection[str] = ()
) -> FoundPlaces:
    """Read where native names lead, and the groups of some paths; a native repository may have the path of its project.

    Of old names, what they lead to is read too. `listed`: as for `read_groups`.
    """
    ways = await _read_ways(connection, [*native, *in_groups])
    found_projects: dict[str, ProjectPlace] = {}
    found_groups: dict[str, GroupPlace] = {}
    if native:
        found_projects = await _read_projects(connection, ways.projects, ways.entries)
    if in_groups:
        of_groups = {*in_groups, *(ways.formers[path].present for path in in_groups if path in ways.formers)}
        found_groups = await read_groups(connection, of_groups, ways.entries, listed)
    former_projects = dict(ways.former_project(name) for name in native if name in ways.formers)
    former_projects.pop(_NO_PATH, None)
    return FoundPlaces(found_projects, found_groups, ways.formers, former_projects)


@dataclass(slots=True)
class _Ways:
    """The nodes on the ways to some names, and what old names lead to."""

    entries: list[PathEntry]
    formers: dict[str, Former]
    projects: set[str]

    def project_at(self, name: str) -> str | None:
        """The path of the project that holds a name; None where none is known."""
        return next((path for path in reversed(candidates(name)) if path in self.projects), None)

    def step(self, name: str, at: str, known: Iterable[OldPath]) -> Former | None:
        """The next step of a name, which has come so far: the old path of a node leads on from above the last one, that
        of a repository where no project is."""
        before = self.formers.get(name)
        settled = 0 if before is None else len(before.new)
        nodes = [old for old in known if old.kind is not MovedKind.REPOSITORY and len(old.path) > settled]
        former = follow(at, nodes)
        if former is None and self.project_at(at) is None:
            former = follow(at, known)
        return former if former is None or before is None else replace(former, until=min(former.until, before.until))

    def former_project(self, name: str) -> tuple[str, Former]:
        """The old path of the project that holds what an old name leads to; none where the repository alone moved."""
        former = self.formers[name]
        project = self.project_at(former.present)
        if project is None or former.kind is MovedKind.REPOSITORY:
            return _NO_PATH, former
        return name[: len(name) - len(former.present) + len(project)], replace(former, present=project)


async def _read_ways(connection: Connection, names: Iterable[str]) -> _Ways:
    """Read the nodes on the ways to names, and follow old ones: with as many statements for those as for others."""
    ways = _Ways([], {}, set())
    going = {name: name for name in names}
    for past in count():
        if past > 1 and not going:
            return ways
        entries, known = await old_paths.read_ways(
            connection, {path for at in going.values() for path in prefixes_of(at)}
        )
        ways.entries += entries
        ways.projects |= {entry.path for entry in entries if entry.key.kind is NodeKind.PROJECT}
        steps = {name: step for name, at in going.items() if (step := ways.step(name, at, known)) is not None}
        ways.formers |= steps
        going = {name: step.present for name, step in steps.items()}
    raise AssertionError("each step leaves less of a name to follow")


async def read_groups(
    connection: Connection, wanted: Collection[str], entries: Collection[PathEntry], listed: Collection[str] = ()
) -> dict[str, GroupPlace]:
    """Read the groups of some paths, where `entries` are those on the ways to them. `listed`: paths by which settings
    name groups, which may be old ones."""
    by_path = {entry.path: entry for entry in entries}
    found = await groups.with_listings(connection, await groups.find_all(connection, wanted), listed)
    return {
        group.path: GroupPlace(group, _way_of([by_path[path] for path in prefixes_of(group.path) if path in by_path]))
        for group in found
    }


async def _read_projects(
    connection: Connection, wanted: Collection[str], entries: Collection[PathEntry]
) -> dict[str, ProjectPlace]:
    """Read the projects of some paths, where `entries` are those on the ways to them.

    The number of statements tells nothing of whether there are any.
    """
    found = await projects.find_all(connection, wanted or [_NO_PATH])
    ids = [project.id for project in found] or [_NO_ID]
    allowances = await projects.all_allowed_jobs(connection, ids)
    rules = await protections.of_projects(connection, ids)
    by_path = {entry.path: entry for entry in entries}
    return {
        project.path: ProjectPlace(
            project,
            _way_of([by_path[path] for path in prefixes_of(project.path) if path in by_path]),
            frozenset(allowances.get(project.id, ())),
            rules.get(project.id, UNPROTECTED),
        )
        for project in found
    }


def _way_of(entries: Collection[PathEntry]) -> Way:
    return tuple(entry.key for entry in entries)


def group_path_at(name: RepositoryName, root: Root | None) -> str | None:
    """The path of the group through which a name is pulled; None for a native repository."""
    return group_path_of(name) if root is None else root.group


def candidates(name: str) -> Sequence[str]:
    """Paths that the project of a native repository may have."""
    return prefixes_of(name)[: NESTING_LIMIT + 1]


def located_in(name: RepositoryName, place: ProjectPlace) -> Located:
    try:
        return Located(name.text, place, native_location(name, place.project.path))
    except NameUnknown as error:
        return Located(name.text, place, problem=str(error.detail))
