"""The scope of job tokens: of which other projects and groups the jobs may pull from a project."""

from typing import Annotated, Any

from pydantic import Field
from starlette.responses import Response

from gateway.api.errors import RequestRefused, ResourceUnknown
from gateway.api.options import ApiOptions
from gateway.api.places import Places
from gateway.api.responses import no_content, one, page_of
from gateway.api.routing import Call, Route
from gateway.api.shapes import ListShape, NoParameters, Shape, is_id
from gateway.audit.changes import AuditedChanges
from gateway.audit.event import EventKind
from gateway.auth.matrix import Action
from gateway.directory.places import ProjectPlace
from gateway.http.access_log import note_native_lookup
from gateway.namespaces.errors import AllowanceRefused
from gateway.namespaces.node import NodeKey, NodeKind, PathEntry
from gateway.services import Services

SCOPE = "/projects/{id}/job_token_scope"
PROJECTS, GROUPS = f"{SCOPE}/allowlist", f"{SCOPE}/groups_allowlist"


class JobScopeShape(Shape):
    """Parameters of the scope."""

    enabled: Annotated[
        bool, Field(description="Whether jobs of other projects need an entry in a list; else they pull what they may.")
    ]


class AllowedProjectShape(Shape):
    """Parameters of an entry for a project."""

    target_project_id: Annotated[int, Field(ge=1, description="The id of the project whose jobs are allowed.")]


class AllowedGroupShape(Shape):
    """Parameters of an entry for a group."""

    target_group_id: Annotated[int, Field(ge=1, description="The id of the group whose jobs are allowed.")]


class JobScope:
    """Handlers of the scope of job tokens, which is for those who look after a project."""

    def __init__(self, places: Places, services: Services, audited: AuditedChanges, options: ApiOptions) -> None:
        self._places = places
        self._scopes = services.job_scopes
        self._audited = audited
        self._options = options

    @property
    def routes(self) -> list[Route[Any]]:
        kind, single = "job token scope", "{target_id}"
        return [
            Route("GET", SCOPE, self.show, NoParameters, kind, answer="JobTokenScope"),
            Route("PATCH", SCOPE, self.update, JobScopeShape, kind, status=204),
            Route("GET", PROJECTS, self.list_projects, ListShape, kind, answer="AllowedProjects"),
            Route("POST", PROJECTS, self.add_project, AllowedProjectShape, kind, status=201, answer="ProjectAllowance"),
            Route("DELETE", f"{PROJECTS}/{single}", self.remove_project, NoParameters, kind, status=204),
            Route("GET", GROUPS, self.list_groups, ListShape, kind, answer="AllowedGroups"),
            Route("POST", GROUPS, self.add_group, AllowedGroupShape, kind, status=201, answer="GroupAllowance"),
            Route("DELETE", f"{GROUPS}/{single}", self.remove_group, NoParameters, kind, status=204),
        ]

    async def show(self, call: Call[NoParameters]) -> Response:
        """Show whether jobs of other projects need to be allowed."""
        place = await self._find(call, Action.TOKENS)
        return one({"inbound_enabled": place.project.limits_jobs, "outbound_enabled": False})

    async def update(self, call: Call[JobScopeShape]) -> Response:
        """Say whether jobs of other projects need to be allowed; otherwise they pull whatever their users may."""
        place, limits = await self._find(call, Action.ADMIN), call.parameters.enabled
        if await self._scopes.limit(place.project.id, limits):
            kind = EventKind.REVOKE if limits else EventKind.GRANT
            self._audited.changed_jobs(call, kind, place.project.path, "jobs of all projects")
        return no_content()

    async def list_projects(self, call: Call[ListShape]) -> Response:
        """List the other projects whose jobs may pull from a project."""
        return await self._list(call, NodeKind.PROJECT)

    async def list_groups(self, call: Call[ListShape]) -> Response:
        """List the groups whose jobs, those of all projects below, may pull from a project."""
        return await self._list(call, NodeKind.GROUP)

    async def add_project(self, call: Call[AllowedProjectShape]) -> Response:
        """Let the jobs of another project pull from a project, as far as their users may."""
        place, id = await self._find(call, Action.ADMIN), call.parameters.target_project_id
        target = await self._places.project(str(id), call.principal, Action.KNOW)
        await self._add(call, place, target.project.key, target.project.path)
        return one({"source_project_id": place.project.id, "target_project_id": id}, 201)

    async def add_group(self, call: Call[AllowedGroupShape]) -> Response:
        """Let the jobs of all projects below a group pull from a project, as far as their users may."""
        place, id = await self._find(call, Action.ADMIN), call.parameters.target_group_id
        target = await self._places.group_for(str(id), call.principal, Action.KNOW)
        await self._add(call, place, target.way[-1], target.group.path)
        return one({"source_project_id": place.project.id, "target_group_id": id}, 201)

    async def remove_project(self, call: Call[NoParameters]) -> Response:
        """Let the jobs of another project pull no more."""
        return await self._remove(call, NodeKind.PROJECT)

    async def remove_group(self, call: Call[NoParameters]) -> Response:
        """Let the jobs of a group pull no more."""
        return await self._remove(call, NodeKind.GROUP)

    async def _list(self, call: Call[ListShape], kind: NodeKind) -> Response:
        place, wanted = await self._find(call, Action.TOKENS), call.parameters
        entries, search = await self._scopes.list_allowed(place.project.id, kind), wanted.search.lower()
        known = {entry.key for entry in entries if await self._knows(call, entry)}
        # Of an entry that is hidden, a search would tell the path, letter by letter.
        found = [entry for entry in entries if not search or (entry.key in known and search in entry.path)]
        if wanted.sort == "desc":
            found.reverse()
        return page_of(call, self._options, found, lambda entry: self._document(entry, entry.key in known))

    async def _knows(self, call: "Call[Any]", entry: PathEntry) -> bool:
        try:
            if entry.key.kind is NodeKind.PROJECT:
                await self._places.project(str(entry.key.id), call.principal, Action.KNOW)
            else:
                await self._places.group_for(str(entry.key.id), call.principal, Action.KNOW)
        except ResourceUnknown:
            return False
        return True

    def _document(self, entry: PathEntry, known: bool) -> dict[str, object]:
        """An entry; of what the reader may not know, its id alone."""
        is_group = entry.key.kind is NodeKind.GROUP
        name, way = entry.path.rpartition("/")[2], "groups/" if is_group else ""
        facts: dict[str, object] = {"name": name, "web_url": f"{self._options.url}/{way}{entry.path}"}
        facts |= {"full_path": entry.path} if is_group else {"path": name, "path_with_namespace": entry.path}
        return {"id": entry.key.id, **(facts if known else dict.fromkeys(facts))}

    async def _add(self, call: "Call[Any]", place: ProjectPlace, key: NodeKey, path: str) -> None:
        if key == place.project.key:
            raise RequestRefused("the jobs of a project may pull from it as it is")
        try:
            is_new = await self._scopes.allow(place.project.id, key)
        except AllowanceRefused as error:
            raise RequestRefused(str(error)) from error
        if not is_new:
            raise RequestRefused(f"the jobs of {key.kind} {path!r} are allowed already")
        self._audited.changed_jobs(call, EventKind.GRANT, place.project.path, f"jobs of {key.kind} {path}")

    async def _remove(self, call: "Call[Any]", kind: NodeKind) -> Response:
        place, text = await self._find(call, Action.ADMIN), call.path["target_id"]
        key = NodeKey(kind, int(text)) if is_id(text) else None
        if key is None or not await self._scopes.disallow(place.project.id, key):
            raise ResourceUnknown(f"Target {kind.capitalize()}")
        self._audited.changed_jobs(call, EventKind.REVOKE, place.project.path, f"jobs of {kind} {text}")
        return no_content()

    async def _find(self, call: "Call[Any]", action: Action) -> ProjectPlace:
        place = await self._places.project(call.path["id"], call.principal, action)
        note_native_lookup(call.request.scope, "job token scope", place.project.path)
        return place
