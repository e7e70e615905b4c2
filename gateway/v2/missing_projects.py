"""MissingProjects: what a push needs where no project is, for whoever may know of the groups above; creates it where
the settings allow that."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from cache.oci.errors import NameUnknown
from cache.oci.names import RepositoryName
from gateway.auth.access import Access
from gateway.auth.decisions import Refusal
from gateway.auth.matrix import Action
from gateway.auth.principal import Principal
from gateway.directory.directory import Directory
from gateway.directory.places import GroupPlace, Located
from gateway.namespaces.errors import PathReserved, PathTaken, TreeError
from gateway.namespaces.locate import native_location
from gateway.namespaces.node import NodeKey, NodeKind, Way, prefixes_of
from gateway.namespaces.paths import NESTING_LIMIT, parse_project_path

CreateProject = Callable[[str, int], Awaitable[None]]
"""Stores a project of a path, created by a user of an id. Raises TreeError."""


@dataclass(frozen=True, slots=True)
class _Holder:
    """A group, or a user's namespace, in which a project may be missing, and the way to it."""

    path: str
    way: Way


class MissingProjects:
    """Finds out which project a push lacks. What it tells depends on the groups alone that the principal may know:
    a project that is hidden from it and one that does not exist look the same."""

    def __init__(self, directory: Directory, access: Access, create: CreateProject | None) -> None:
        """`create`: creates a project; None where a push creates none."""
        self._directory = directory
        self._access = access
        self._create = create

    async def explain(self, name: RepositoryName, principal: Principal, now: datetime) -> str:
        """Write what is missing for a push to a name, and what to do; empty where the principal knows of no group."""
        holder = await self._holder(name, principal, now)
        if holder is None:
            return ""
        if holder.path == name.text:
            return f"{name} is a group, and images lie in projects: push to {name}/PROJECT or below it"
        project = _project_path(name, holder.path)
        return (
            f"there is no project {project!r}, or not for everybody: create it on the server "
            f"(project create {project}), or push to one that exists"
        )

    async def may_create(self, name: RepositoryName, principal: Principal, now: datetime) -> bool:
        """Whether a push of the principal to a name would create the project that is missing."""
        return await self._creatable(name, principal, now) is not None

    async def create(self, name: RepositoryName, principal: Principal, now: datetime) -> bool:
        """Create the project that is missing for a push; return whether there is one now.

        Raises NameUnknown where no project can have the path, or the name would lie too deep in it.
        """
        holder = await self._creatable(name, principal, now)
        if holder is None or self._create is None or principal.user is None:
            return False
        path = _project_path(name, holder.path)
        native_location(name, path)
        try:
            await self._create(parse_project_path(path), principal.user.id)
        except PathTaken:  # another push has created it
            return True
        except PathReserved as error:  # what has moved may be hidden from the principal
            raise NameUnknown(f"the push cannot create project {path!r}: that path is not free") from error
        except TreeError as error:
            raise NameUnknown(f"the push cannot create project {path!r}: {error}") from error
        return True

    async def _creatable(self, name: RepositoryName, principal: Principal, now: datetime) -> _Holder | None:
        """Find the group in which the principal may create the project that is missing."""
        if self._create is None or principal.user is None:
            return None
        holder = await self._holder(name, principal, now)
        if holder is None or holder.path == name.text:
            return None
        decision = await self._access.decide_creation(principal, holder.way, name.text, now)
        return holder if decision.allowed else None

    async def _holder(self, name: RepositoryName, principal: Principal, now: datetime) -> _Holder | None:
        """Find the deepest group on the way to a name that the principal may know, or the principal's own namespace."""
        if principal.is_anonymous:
            return None
        known = await self._known_groups(prefixes_of(name.text)[:NESTING_LIMIT], principal, now)
        if known:
            return _Holder(known[-1].group.path, known[-1].way)
        user = principal.user
        if user is not None and name.components[0] == user.name and name.text != user.name:
            return _Holder(user.name, (NodeKey(NodeKind.USER, user.id),))
        return None

    async def _known_groups(self, wanted: Sequence[str], principal: Principal, now: datetime) -> list[GroupPlace]:
        """The groups of some paths that a principal may know, in their order.

        The others cost the statements of paths that no group has, and as few as those once they were asked for.
        """
        directory = self._directory
        unread = [path for path in wanted if not directory.remembers_group(path)]
        known: dict[str, GroupPlace] = {}
        hidden: list[str] = []

        async def examine(places: Mapping[str, GroupPlace | None]) -> None:
            for path, place in places.items():
                if place is not None and await self._knows(principal, place, now):
                    known[path] = place
                elif place is not None:
                    hidden.append(path)

        await examine({path: await directory.find_group_place(path) for path in wanted if path not in unread})
        unpaid = [path for path in hidden if not directory.is_group_concealed(path)]
        if unread or unpaid:
            found = await directory.read_groups([*unread, *unpaid])
            await examine({path: found.get(path) for path in unread})
        directory.note_concealed_groups(hidden)
        return [known[path] for path in wanted if path in known]

    async def _knows(self, principal: Principal, place: GroupPlace, now: datetime) -> bool:
        """Whether a principal may know that a group exists: it is told why it may not administer the group."""
        whoever, located = replace(principal, limits=None), Located(place.group.path, place)
        decision = await self._access.decide(whoever, Action.ADMIN, located, now)
        return decision.refusal in (None, Refusal.DENIED)


def _project_path(name: RepositoryName, holder: str) -> str:
    """The path of the project of a name that would lie in a group or a user's namespace."""
    return "/".join(name.components[: len(holder.split("/")) + 1])
