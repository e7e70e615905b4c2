"""Home, and the search: the groups, projects and image repositories that a visitor may see."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.responses import Response

from cache.oci.digest import Digest
from cache.oci.errors import DigestInvalid
from cache.oci.names import is_tag
from gateway.auth.matrix import Action
from gateway.db.found_images import FoundImage
from gateway.db.repository_lists import RepositoryOrder
from gateway.db.tree_lists import TreeFilter, TreeOrder
from gateway.db.windows import ListPart, ListWindow
from gateway.inspection.place_finder import PlaceFinder
from gateway.namespaces.group import Group
from gateway.namespaces.project import Project
from gateway.services import Services
from gateway.web.pages import Pages
from gateway.web.routes import PageRoute
from gateway.web.sign_in import SIGN_IN
from gateway.web.visit import Visit

PAGE = 30
"""Rows of one list on a page."""


PUBLISHED = 10
"""Images on the first page, those that were published last."""


@dataclass(frozen=True, slots=True)
class ShownFind:
    """An image that was found. `project`: the path of its project."""

    found: FoundImage
    project: str

    @property
    def address(self) -> str:
        """The address of the page of the tag, or of the repository where no tag points to the image."""
        return f"{self.repository}/tags/{self.found.tag}" if self.found.tag else self.repository

    @property
    def repository(self) -> str:
        """The address of the page with the tags of its repository."""
        return f"/{self.project}/container_registry/{self.found.repository_id}"


class Home:
    """Handlers of the first page, and of the search."""

    def __init__(self, services: Services, pages: Pages) -> None:
        self._services = services
        self._pages = pages
        self._finder = PlaceFinder(services)

    @property
    def routes(self) -> Sequence[PageRoute]:
        return [PageRoute("GET", "/", self.home), PageRoute("GET", "/search", self.search)]

    async def home(self, visit: Visit) -> Response:
        """List the groups and projects that the visitor may know of; lead a stranger who may see nothing to the sign-in
        page."""
        groups, projects = await self._nodes(visit, "")
        reach = await self._finder.access.reach(visit.principal, self._services.clock())
        published = await self._services.native.inventory.published_last(reach, PUBLISHED)
        if visit.user is None and not groups.rows and not projects.rows and not visit.query.has("after"):
            return self._pages.lead(visit, SIGN_IN)
        shown = await self._shown(visit, published)
        return self._pages.show(visit, "home.html", "Home", groups=groups, projects=projects, published=shown)

    async def search(self, visit: Visit) -> Response:
        """Find groups, projects and image repositories by a part of their paths, tags by the beginning of their names,
        and images by their digests. Nothing tells of what the visitor may not see: rights are part of the query, and
        nothing is counted."""
        sought = visit.query.one("q").strip()
        if not sought:
            return self._pages.lead(visit, "/")
        digest = _digest_of(sought)
        if digest is not None:
            return await self._with_digest(visit, digest)
        groups, projects = await self._nodes(visit, sought)
        reach = await self._finder.access.reach(visit.principal, self._services.clock())
        window = ListWindow(PAGE, after=visit.query.one("images_after") or None, search=sought)
        images = await self._services.native.inventory.repositories_below(
            "", reach, RepositoryOrder.PATH, window, counted=False
        )
        tagged = []
        if is_tag(sought):
            begun = await self._services.native.inventory.with_tags(reach, sought, PAGE + 1)
            tagged = await self._shown(visit, begun)
        addresses = {row.id: await self._address(row.project_id, row.id) for row in images.rows}
        return self._pages.show(
            visit,
            "search.html",
            f"{sought} · Search",
            sought=sought,
            groups=groups,
            projects=projects,
            images=images,
            addresses=addresses,
            tagged=tagged[:PAGE],
            more_tags=len(tagged) > PAGE,
            digest="",
        )

    async def _with_digest(self, visit: Visit, digest: Digest) -> Response:
        """Show where there is the image of a digest."""
        reach = await self._finder.access.reach(visit.principal, self._services.clock())
        found = await self._services.native.inventory.with_digest(reach, digest, PAGE)
        return self._pages.show(
            visit, "search.html", f"{digest} · Search", digest=str(digest), tagged=await self._shown(visit, found)
        )

    async def _shown(self, visit: Visit, found: Sequence[FoundImage]) -> list[ShownFind]:
        """Those of what was found from whose projects the visitor may pull, which are all that the reach finds, unless
        that changes meanwhile."""
        paths, now = dict[int, str](), self._services.clock()
        for id in dict.fromkeys(one.project_id for one in found):
            place = await self._finder.project_of(id)
            if place is not None and (await self._finder.decide(visit.principal, Action.PULL, place, now)).allowed:
                paths[id] = place.project.path
        return [ShownFind(one, paths[one.project_id]) for one in found if one.project_id in paths]

    async def _nodes(self, visit: Visit, sought: str) -> tuple[ListPart[Group], ListPart[Project]]:
        """Groups and projects that the visitor may know of: those with a text in their paths, or those at the top."""
        tree, query = self._services.directory.tree, visit.query
        known = await self._finder.access.knowledge(visit.principal, self._services.clock())
        groups = await tree.list_groups(
            *(known, TreeFilter(direct=not sought), TreeOrder.PATH),
            ListWindow(PAGE, after=query.one("groups_after") or None, search=sought),
            counted=False,
        )
        projects = await tree.list_projects(
            *(known, TreeFilter(), TreeOrder.PATH),
            ListWindow(PAGE, after=query.one("after") or None, search=sought),
            counted=False,
        )
        return groups, projects

    async def _address(self, project_id: int, id: int) -> str:
        """The address of the page of a repository; the home page where its project has just gone."""
        place = await self._finder.project_of(project_id)
        return "/" if place is None else f"/{place.project.path}/container_registry/{id}"


def _digest_of(text: str) -> Digest | None:
    """The digest that a text is, also behind the name of an image; None for what is none."""
    try:
        return Digest.parse(text.rpartition("@")[2])
    except DigestInvalid:
        return None
