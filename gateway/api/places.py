"""Places: the projects, groups and repositories that paths of the API name, for principals that may do something there.

Whoever may not know of one is answered as if it were not there, and, where it is named by its path, as slowly.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cache.oci.names import RepositoryName
from gateway.api.errors import ApiError, Forbidden, LoginNeeded, ParametersInvalid, ResourceUnknown
from gateway.api.shapes import is_id
from gateway.auth.decisions import Decision, Refusal
from gateway.auth.matrix import Action
from gateway.auth.principal import Principal, PrincipalKind
from gateway.auth.protection import TagGuard
from gateway.db.repositories import DeletedRepository, StoredRepository
from gateway.directory.places import GroupPlace, ProjectPlace
from gateway.inspection.place_finder import (
    PlaceFinder,
    PlaceMoved,
    PlaceRefused,
    PlaceUnknown,
    Sought,
    sought_path,
)
from gateway.namespaces.credentials import Job
from gateway.namespaces.node import NodeKey, NodeKind, PathEntry, Visibility, Way
from gateway.namespaces.paths import parent_path
from gateway.namespaces.reach import Knowledge, PullReach
from gateway.namespaces.role import Role
from gateway.services import Services

PROJECT, GROUP, REPOSITORY, TAG = "Project", "Group", "Repository", "Tag"
"""What the API calls what is not found."""

_CONTENT = (Action.PULL, Action.DELETE_TAG, Action.MANAGE)
"""Actions that a job does to its own project alone by this API."""


def namespace_above(path: str, way: Way) -> PathEntry | None:
    """The namespace that holds the node of a path at the end of a way; None for one at the top."""
    return PathEntry(parent_path(path), way[-2]) if len(way) > 1 else None


@dataclass(frozen=True, slots=True)
class FoundRepository:
    """A repository in its project."""

    project: ProjectPlace
    stored: StoredRepository

    @property
    def name(self) -> RepositoryName:
        """The path of the repository as a name."""
        return RepositoryName(self.stored.path)


@dataclass(frozen=True, slots=True)
class DeletedPlace:
    """A deleted repository in its project."""

    project: ProjectPlace
    deleted: DeletedRepository


class Places:
    """Finds places, and decides; each request anew."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._finder = PlaceFinder(services)

    async def project(self, text: str, principal: Principal, action: Action) -> ProjectPlace:
        """The project of an id or a path, to which a principal may do something. Raises ApiError, DatabaseUnusable.

        An old path is one for reading; whoever changes something is told the new one.
        """
        with told(PROJECT):
            place = await self._finder.project(_sought(text), principal, action)
        _check_job(principal, place, action)
        return place

    async def repository(self, project: str, id: str, principal: Principal, action: Action) -> FoundRepository:
        """The repository of an id in a project, to which a principal may do something. Raises as `project` does."""
        if not is_id(id):
            raise ParametersInvalid(["repository_id is invalid"])
        place = await self.project(project, principal, action)
        stored = await self._services.native.inventory.find(int(id))
        if stored is None or stored.project_id != place.project.id:
            raise ResourceUnknown(REPOSITORY)
        found = FoundRepository(place, stored)
        if action is Action.PUSH:
            with told(PROJECT):
                await self._finder.require(principal, action, place, self._services.clock(), found.name)
        return found

    async def deleted_repository(self, project: str, id: str, principal: Principal) -> DeletedPlace:
        """The deleted repository of an id in a project, for a principal that may manage that. Raises as `project`
        does."""
        if not is_id(id):
            raise ParametersInvalid(["repository_id is invalid"])
        place = await self.project(project, principal, Action.MANAGE)
        deleted = await self._services.native.inventory.find_deleted(int(id))
        if deleted is None or deleted.project_id != place.project.id:
            raise ResourceUnknown(REPOSITORY)
        return DeletedPlace(place, deleted)

    async def deleted_anywhere(self, id: str, principal: Principal) -> DeletedPlace:
        """The deleted repository of an id, in whichever project from which a principal may pull. Raises as `project`
        does."""
        deleted = await self._services.native.inventory.find_deleted(int(id)) if is_id(id) else None
        if deleted is None:
            raise ResourceUnknown(REPOSITORY)
        try:
            return DeletedPlace(await self.project(str(deleted.project_id), principal, Action.PULL), deleted)
        except ResourceUnknown as error:
            raise ResourceUnknown(REPOSITORY, error.reason) from error

    async def repository_anywhere(self, id: str, principal: Principal, action: Action) -> FoundRepository:
        """The repository of an id, in whichever project. Raises as `project` does."""
        stored = await self._services.native.inventory.find(int(id)) if is_id(id) else None
        if stored is None:
            raise ResourceUnknown(REPOSITORY)
        try:
            return FoundRepository(await self.project(str(stored.project_id), principal, action), stored)
        except ResourceUnknown as error:
            raise ResourceUnknown(REPOSITORY, error.reason) from error

    async def group(self, text: str, principal: Principal) -> tuple[GroupPlace, PullReach]:
        """The group of an id or a path that a principal may know of, with the reach of the principal's pulls.

        Whoever may pull from a project below a group knows the group by the path of that. Raises as `project` does.
        """
        with told(GROUP):
            return await self._finder.group(_sought(text), principal)

    async def group_for(self, text: str, principal: Principal, action: Action) -> GroupPlace:
        """The group of an id or a path, to which a principal may do something. Raises as `project` does."""
        with told(GROUP):
            return await self._finder.group_for(_sought(text), principal, action)

    async def require_audience(self, principal: Principal, place: ProjectPlace, wanted: Visibility) -> None:
        """Check that a principal may give a project a visibility. Raises Forbidden."""
        with told(PROJECT):
            await self._finder.require_audience(principal, place, wanted)

    async def role(self, principal: Principal, way: Way) -> Role | None:
        """The strongest role of a person at the end of a way; an administrator is an owner everywhere."""
        return await self._finder.access.role(principal, way, self._services.clock())

    async def knowledge(self, principal: Principal, role: Role | None) -> Knowledge:
        """What a principal may know of; with a role, that in which the principal has at least this one."""
        now = self._services.clock()
        if role is None:
            return await self._finder.access.knowledge(principal, now)
        return await self._finder.access.knowledge(principal, now, weakest=role, members_only=True)

    async def namespaces_of(self, paths: Collection[str]) -> dict[str, PathEntry]:
        """The namespaces that hold nodes, by the paths of these; one at the top has none."""
        above = {path: parent_path(path) for path in paths}
        found = await self._services.directory.tree.places_at([path for path in above.values() if path])
        return {path: PathEntry(parent, found[parent]) for path, parent in above.items() if parent in found}

    async def may(self, principal: Principal, action: Action, place: ProjectPlace) -> bool:
        """Whether a principal may do something to a project that it was shown."""
        decision = await self._finder.decide(principal, action, place, self._services.clock())
        return decision.allowed and _refuse_job(principal, place, action) is None

    async def level(self, principal: Principal, place: ProjectPlace) -> int:
        """The level by which the protection rules of a project judge a principal. Raises DatabaseUnusable."""
        return await self._finder.level(principal, place)

    async def guard(self, principal: Principal, place: ProjectPlace) -> TagGuard:
        """What the protection rules of a project keep a principal from doing to its tags. Raises DatabaseUnusable."""
        return await self._finder.guard(principal, place)

    async def is_within(self, principal: Principal, group: NodeKey) -> bool:
        """Whether a person has a role in a group, or in anything in it; an administrator has one everywhere."""
        await self._services.directory.require_current()
        is_administrator = principal.user is not None and principal.user.is_active_admin
        return is_administrator or await self._finder.access.is_within(principal, group, self._services.clock())

    async def group_named(self, text: str) -> GroupPlace | None:
        """The group of an id or a path, whoever may know of it; an old path names none."""
        if is_id(text):
            return await self.group_of(int(text))
        name = sought_path(text)
        return None if name is None else await self._services.directory.find_group_place(name.text)

    async def group_of(self, id: int) -> GroupPlace | None:
        """The group of an id, whoever may know of it."""
        found = await self._services.directory.find_place(NodeKey(NodeKind.GROUP, id))
        return found if isinstance(found, GroupPlace) else None

    async def project_of(self, id: int) -> ProjectPlace | None:
        """The project of an id, whoever may know of it."""
        return await self._finder.project_of(id)


@contextmanager
def told(what: str) -> Iterator[None]:
    """Render what is refused within the block. `what`: the kind of what was looked for."""
    try:
        yield
    except PlaceUnknown as error:
        raise ResourceUnknown(what, error.reason) from error
    except PlaceRefused as error:
        _check(error.decision)
    except PlaceMoved as error:
        raise Forbidden(str(error)) from error


def _check(decision: Decision) -> None:
    """Raises LoginNeeded where a token may help, Forbidden."""
    if not decision.allowed:
        raise LoginNeeded(decision.reason) if decision.refusal is Refusal.LOGIN else Forbidden(decision.reason)


def _sought(text: str) -> Sought:
    """The id or the path that a client names."""
    return int(text) if is_id(text) else sought_path(text)


def _check_job(principal: Principal, place: ProjectPlace, action: Action) -> None:
    if (refusal := _refuse_job(principal, place, action)) is not None:
        raise refusal


def _refuse_job(principal: Principal, place: ProjectPlace, action: Action) -> ApiError | None:
    """Refuse what the job of another project wants of the content of this one: by the API it has only its own."""
    if principal.kind is not PrincipalKind.JOB_TOKEN or action not in _CONTENT:
        return None
    if isinstance(principal.credential, Job) and principal.credential.project_id == place.project.id:
        return None
    return Forbidden("the token of a job opens the registry of its own project alone")
