"""Places of pages: the group, project or repository that a path names, for a visitor who may do something there."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from cache.oci.names import RepositoryName, Tag, is_tag
from gateway.auth.matrix import Action
from gateway.auth.protection import TagGuard
from gateway.db.repositories import StoredRepository
from gateway.directory.places import GroupPlace, Place, ProjectPlace
from gateway.inspection.place_finder import PlaceFinder, PlaceUnknown, sought_path
from gateway.namespaces.group import Group
from gateway.namespaces.paths import proxied_name
from gateway.namespaces.project import RegistryAccess
from gateway.namespaces.reach import PullReach
from gateway.namespaces.role import Role
from gateway.registry.native import NativeRepository
from gateway.services import Services
from gateway.web.errors import PageError, PageUnknown
from gateway.web.visit import Visit


@dataclass(frozen=True, slots=True)
class ProjectPage:
    """A project, and what its pages offer to a visitor. `pulls`: whether the registry is shown; `pushes`, `deletes`,
    `manages`, `administers`: what the visitor may do."""

    place: ProjectPlace
    pulls: bool = False
    pushes: bool = False
    deletes: bool = False
    manages: bool = False
    administers: bool = False
    noun: ClassVar[str] = "project"
    layout: ClassVar[str] = "project_base.html"

    @property
    def shown(self) -> dict[str, Any]:
        """What templates are told of it."""
        return {"page": self, "project": self}

    @property
    def edit_path(self) -> str:
        """The address of Settings > General."""
        return f"/{self.path}/edit"

    @property
    def base(self) -> str:
        """The beginning of the addresses of its further pages."""
        return f"/{self.path}/-"

    @property
    def path(self) -> str:
        """The path of the project."""
        return self.place.project.path

    @property
    def has_registry(self) -> bool:
        """Whether the project has a registry."""
        return self.place.project.registry is not RegistryAccess.DISABLED

    @property
    def registry_path(self) -> str:
        """The address of the page with the repositories."""
        return f"/{self.path}/container_registry"


@dataclass(frozen=True, slots=True)
class GroupPage:
    """A group, and what its pages offer to a visitor. `administers`: whether the visitor may change it; `creates`:
    whether the visitor may create projects in it."""

    place: GroupPlace
    administers: bool = False
    creates: bool = False
    noun: ClassVar[str] = "group"
    layout: ClassVar[str] = "group_base.html"

    @property
    def shown(self) -> dict[str, Any]:
        """What templates are told of it."""
        return {"page": self, "group": self.place.group}

    @property
    def edit_path(self) -> str:
        """The address of Settings > General."""
        return f"{self.base}/edit"

    @property
    def path(self) -> str:
        """The path of the group."""
        return self.place.path

    @property
    def base(self) -> str:
        """The beginning of the addresses of its further pages."""
        return f"/groups/{self.path}/-"


NO_PLACE = "There is nothing at “{}” that you may see and that could hold it."
"""Why nothing is put where a form says."""

NodePage = ProjectPage | GroupPage
"""What has members, tokens and settings."""


@dataclass(frozen=True, slots=True)
class RepositoryPage:
    """A repository in its project. `guard`: what protection rules keep the visitor from doing to its tags."""

    project: ProjectPage
    stored: StoredRepository
    guard: TagGuard

    @property
    def path(self) -> str:
        """The path of the repository, by which images are named."""
        return self.stored.path

    @property
    def address(self) -> str:
        """The address of the page with its tags."""
        return f"{self.project.registry_path}/{self.stored.id}"

    def why_not_removed(self, tag: str) -> str:
        """Why the visitor may not remove a tag; empty where that is not so."""
        if not self.project.deletes:
            return "Developers and above may remove tags."
        rule = self.guard.find_keeping(tag)
        if rule is None:
            return ""
        if rule.delete is None:
            return "It is immutable by a rule."
        return f"It is protected by a rule: {rule.delete.who} may delete it."


@dataclass(frozen=True, slots=True)
class ProxyPage:
    """A group whose dependency proxy is on. `owns`: whether the visitor may purge its cache; `pins`: whether
    the visitor may keep content from eviction, which is content that other groups pull, too."""

    group: Group
    owns: bool
    pins: bool

    @property
    def administers(self) -> bool:
        """Whether the visitor may change the group, which is what its owners do."""
        return self.owns

    @property
    def address(self) -> str:
        """The address of the page with the images."""
        return f"/groups/{self.group.path}/-/dependency_proxy"

    @property
    def prefix(self) -> str:
        """What stands before the names of images that are pulled through the group, after the registry's name."""
        return proxied_name(self.group.path, "").rstrip("/")


class ProxyDisabled(PageError):
    """The dependency proxy of a group is off."""

    status, title = 404, "The dependency proxy of this group is off"


class RegistryDisabled(PageError):
    """The registry of a project is disabled, which is told to whoever may enable it."""

    status, title = 404, "The container registry of this project is off"


class PagePlaces:
    """Finds places for visits. Raises PlaceUnknown, PlaceRefused, PageError, RegistryError, DatabaseUnusable."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.finder = PlaceFinder(services)

    async def project(self, visit: Visit, action: Action = Action.KNOW) -> ProjectPage:
        """The project of a path, to which a visitor may do something."""
        place = await self.finder.project(sought_path(visit.place["project"]), visit.principal, action)
        page = ProjectPage(place)
        return replace(
            page,
            pulls=page.has_registry and await self.may(visit, Action.PULL, place),
            pushes=page.has_registry and await self.may(visit, Action.PUSH, place),
            deletes=page.has_registry and await self.may(visit, Action.DELETE_TAG, place),
            manages=page.has_registry and await self.may(visit, Action.MANAGE, place),
            administers=await self.may(visit, Action.ADMIN, place),
        )

    async def registry(self, visit: Visit, action: Action = Action.PULL) -> ProjectPage:
        """The project of a path, to whose registry a visitor may do something."""
        page = await self.project(visit)
        if page.has_registry:
            await self.finder.require(visit.principal, action, page.place, self._services.clock())
        elif page.administers:
            raise RegistryDisabled(
                "Its images are kept, and nobody can pull or push. You may turn it on again under Settings > General."
            )
        else:
            raise PlaceUnknown("the container registry of the project is disabled")
        return page

    async def repository(self, visit: Visit, action: Action = Action.PULL) -> RepositoryPage:
        """The repository of an id in the project of a path, to which a visitor may do something."""
        page = await self.registry(visit, action)
        stored = await self._services.native.inventory.find(visit.id_in_place("id"))
        if stored is None or stored.project_id != page.place.project.id:
            raise PageUnknown("there is no such repository")
        if action is Action.PUSH:
            name, now = RepositoryName(stored.path), self._services.clock()
            await self.finder.require(visit.principal, action, page.place, now, name)
        return RepositoryPage(page, stored, await self.finder.guard(visit.principal, page.place))

    async def group(self, visit: Visit) -> tuple[GroupPlace, PullReach]:
        """The group of a path that a visitor may know of, with the reach of the visitor's pulls."""
        return await self.finder.group(sought_path(visit.place["group"]), visit.principal)

    async def proxy(self, visit: Visit, action: Action = Action.PULL) -> ProxyPage:
        """The group of a path, whose dependency proxy is on, and to which a visitor may do something."""
        place = await self._group_for(visit, action)
        group = place.group
        if not group.proxy_enabled:
            raise ProxyDisabled("Owners of the group turn it on. Until then nothing is pulled through it.")
        is_administrator = visit.user is not None and visit.user.admin
        return ProxyPage(group, await self.may(visit, Action.OWN, place), is_administrator)

    async def group_page(self, visit: Visit, action: Action = Action.KNOW) -> GroupPage:
        """The group of a path, to which a visitor may do something."""
        return await self.page_of(visit, await self._group_for(visit, action))

    async def page_of(self, visit: Visit, place: GroupPlace) -> GroupPage:
        """A group that a visitor may know of."""
        role = None if visit.user is None else await self.finder.role(visit.principal, place)
        creates = role is not None and role >= Role.DEVELOPER
        return GroupPage(place, await self.may(visit, Action.ADMIN, place), creates)

    async def _group_for(self, visit: Visit, action: Action) -> GroupPlace:
        return await self.finder.group_for(sought_path(visit.place["group"]), visit.principal, action)

    async def node(self, visit: Visit, action: Action = Action.KNOW) -> NodePage:
        """The group or project of a path, to which a visitor may do something."""
        return await (self.group_page if "group" in visit.place else self.project)(visit, action)

    async def may(self, visit: Visit, action: Action, place: Place) -> bool:
        """Whether a visitor may do something at a place."""
        return (await self.finder.decide(visit.principal, action, place, self._services.clock())).allowed

    def open(self, visit: Visit, page: RepositoryPage) -> NativeRepository:
        """Open a repository for a visitor."""
        return self._services.native.repository(
            page.project.place.project,
            RepositoryName(page.path),
            actor=visit.principal.name,
            found=page.stored,
            guard=page.guard,
        )


def tag_of(text: str) -> Tag:
    """The tag of a text. Raises PageUnknown for what no tag can be."""
    if not is_tag(text):
        raise PageUnknown("this can be no tag")
    return Tag(text)
