"""The audit log: for administrators all of it, for who looks after a group or project what was done there."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from starlette.responses import Response

from cache.oci.errors import NameInvalid
from cache.oci.names import RepositoryName
from gateway.api.audit_documents import AuditDocuments
from gateway.api.errors import Forbidden, ResourceUnknown
from gateway.api.moments import Moment
from gateway.api.options import ApiOptions
from gateway.api.places import Places
from gateway.api.responses import one, page, window_of
from gateway.api.routing import Call, Route
from gateway.api.shapes import Blank, ListShape, NoParameters, SearchText, Text, is_id, refused
from gateway.audit.event import EventKind, Subject
from gateway.audit.file import AuditQuery, EventPosition, WrittenEvent
from gateway.auth.matrix import Action
from gateway.auth.principal import Principal
from gateway.db.windows import ListPart
from gateway.namespaces.node import NodeKey, NodeKind, Way, prefixes_of
from gateway.namespaces.role import Role
from gateway.services import Services

ALL, ONE = "/audit_events", "/audit_events/{event_id}"
EVENT = "Audit Event"
READERS = 2
"""Requests of a process that read the log at the same time: a filter that fits little reads much of it."""

_MOVES = 100
"""Moves to a path, those of repositories too, among which the last one of a group or project is looked for."""

_PARTICIPANT = Role.DEVELOPER
"""Weakest role in a group or project for reading what one did there oneself (GitLab, "Audit events API")."""


class AuditListShape(ListShape):
    """Parameters of a list of audit events, the latest first."""

    created_after: Moment = None
    created_before: Moment = None
    event: Annotated[EventKind | None, Blank, Field(description="Only events of this kind.")] = None
    user: Annotated[SearchText, Field(description="Only those of this user, or deploy token, by its name.")] = ""
    path: Annotated[SearchText, Field(description="Only those of this path, and of all below it.")] = ""
    sort: Annotated[Literal["asc", "desc"], Field(description="The direction of the order of time.")] = "desc"
    cursor: Annotated[Text, Field(max_length=60, description="With keyset: where the page begins.")] = ""

    @property
    def position(self) -> EventPosition | None:
        """The event after which the page begins. Raises ValueError."""
        at, _, number = self.cursor.partition("_")
        return EventPosition(float(at), int(number)) if self.cursor else None

    @model_validator(mode="after")
    def _cursor_is_a_position(self) -> "AuditListShape":
        try:
            fits = self.position is None or is_id(self.cursor.partition("_")[2])
        except ValueError:
            fits = False
        if not fits:
            raise refused("cursor is invalid")
        return self

    def query(self) -> AuditQuery:
        """The events that are wanted. Raises NameInvalid."""
        return AuditQuery(
            since=None if self.created_after is None else self.created_after.timestamp(),
            until=None if self.created_before is None else self.created_before.timestamp(),
            event=self.event,
            user=self.user or None,
            path=RepositoryName.parse(self.path.lower()).text if self.path else None,
        )


class AllAuditShape(AuditListShape):
    """Parameters of the list of all audit events."""

    entity_type: Annotated[
        Literal["User", "Group", "Project"] | None, Blank, Field(description="The kind of what `entity_id` names.")
    ] = None
    entity_id: Annotated[int | None, Field(ge=1, description="Only events of this user, group or project."), Blank] = (
        None
    )

    @model_validator(mode="after")
    def _an_entity_has_both(self) -> "AllAuditShape":
        if (self.entity_type is None) != (self.entity_id is None):
            raise refused("entity_type, entity_id are missing, both must be provided")
        return self


@dataclass(frozen=True, slots=True)
class _Extent:
    """What somebody may read: events of a path and of all below it, since that has its present node; None for all.
    `user`: only those of this one."""

    path: str | None = None
    since: float = 0.0
    user: str | None = None

    def limit(self, query: AuditQuery) -> AuditQuery | None:
        """A query within this; None where nothing of it is left."""
        path, user = query.path, query.user
        if self.path is not None and (path is None or f"{self.path}/".startswith(f"{path}/")):
            path = self.path
        if self.path is not None and not f"{path}/".startswith(f"{self.path}/"):
            return None
        if self.user is not None and user not in (None, self.user):
            return None
        since = max(self.since, query.since or 0.0) or None
        return replace(query, path=path, user=self.user or user, since=since)


class AuditEvents:
    """Handlers of the audit log of this host."""

    def __init__(self, services: Services, places: Places, options: ApiOptions) -> None:
        self._audit = services.audit
        self._tree = services.directory.tree
        self._documents = AuditDocuments()
        self._places = places
        self._options = options
        self._readers = asyncio.Semaphore(READERS)

    @property
    def routes(self) -> list[Route[Any]]:
        kinds, kind = ("audit events", "audit event")
        every: list[Route[Any]] = [
            Route("GET", ALL, self.list_all, AllAuditShape, kinds, administrators=True, answer="AuditEvents"),
            Route("GET", ONE, self.show, NoParameters, kind, administrators=True, answer="AuditEvent"),
        ]
        for of, list_some, show in (
            ("projects", self.list_of_project, self.show_of_project),
            ("groups", self.list_of_group, self.show_of_group),
        ):
            place = f"/{of}/{{id}}"
            every.append(Route("GET", f"{place}{ALL}", list_some, AuditListShape, kinds, answer="AuditEvents"))
            every.append(Route("GET", f"{place}{ONE}", show, NoParameters, kind, answer="AuditEvent"))
        return every

    async def list_all(self, call: Call[AllAuditShape]) -> Response:
        """List what was pulled, pushed, deleted and changed on this host, and by whom, the latest first."""
        wanted, extent = call.parameters, _Extent()
        if wanted.entity_type is not None and wanted.entity_id is not None:
            node = NodeKey(NodeKind(wanted.entity_type.lower()), wanted.entity_id)
            entries = await self._tree.places_of([node])
            if not entries:
                return page(call, self._options, ListPart([], False), [], {})
            extent = _Extent(entries[0].path)
        return await self._list(call, extent)

    async def list_of_project(self, call: Call[AuditListShape]) -> Response:
        """List what was done in a project; developers see what they did themselves."""
        return await self._list(call, await self._project(call))

    async def list_of_group(self, call: Call[AuditListShape]) -> Response:
        """List what was done in a group and all below it; developers and maintainers see what they did themselves."""
        return await self._list(call, await self._group(call))

    async def show(self, call: Call[NoParameters]) -> Response:
        """Show one audit event."""
        return await self._show(call, _Extent())

    async def show_of_project(self, call: Call[NoParameters]) -> Response:
        """Show one audit event of a project."""
        return await self._show(call, await self._project(call))

    async def show_of_group(self, call: Call[NoParameters]) -> Response:
        """Show one audit event of a group."""
        return await self._show(call, await self._group(call))

    async def _project(self, call: "Call[Any]") -> _Extent:
        place = await self._places.project(call.path["id"], call.principal, Action.KNOW)
        return await self._extent(
            call.principal, place.way, place.project.path, place.project.created_at, Role.MAINTAINER
        )

    async def _group(self, call: "Call[Any]") -> _Extent:
        place = await self._places.group_for(call.path["id"], call.principal, Action.KNOW)
        return await self._extent(call.principal, place.way, place.group.path, place.group.created_at, Role.OWNER)

    async def _extent(self, principal: Principal, way: Way, path: str, created_at: datetime, weakest: Role) -> _Extent:
        """What a principal may read of a node. `weakest`: the role from which on that is all. Raises Forbidden.

        A node that had this path before was another one's, whose readers were others: before this one was made, and
        before it moved there.
        """
        role = await self._places.role(principal, way)
        if role is None or role < _PARTICIPANT:
            raise Forbidden("developers and above see audit events")
        since = await self._arrived(way, path, created_at.timestamp())
        return _Extent(path, since, None if role >= weakest else principal.name)

    async def _arrived(self, way: Way, path: str, created_at: float) -> float:
        """When a node came to its path: when it was made, or when it or a group above it moved, in seconds since 1970.

        The database knows of a move at once, and as long as the old path is kept; the log knows for longer.
        """
        moved = await self._tree.last_move(way)
        moves = AuditQuery(since=created_at, event=EventKind.MOVE, paths=frozenset(prefixes_of(path)))
        async with self._readers:
            found = await asyncio.to_thread(partial(self._audit.read, latest_first=True), moves, None, _MOVES)
        events = [written.event for written in found]
        times = [event.at for event in events if event.subject in (Subject.GROUP, Subject.PROJECT)]
        if len(events) == _MOVES:
            times.append(events[-1].at)  # earlier ones are not looked at
        return max(created_at, *times, 0.0 if moved is None else moved.timestamp())

    async def _list(self, call: "Call[Any]", extent: _Extent) -> Response:
        wanted: AuditListShape = call.parameters
        try:
            query = extent.limit(wanted.query())
        except NameInvalid:  # nothing has such a path
            query = None
        window, after = window_of(wanted), None if wanted.pagination is None else wanted.position
        found: Sequence[WrittenEvent] = []
        if query is not None:
            read = partial(self._audit.read, latest_first=window.descending, offset=window.offset)
            async with self._readers:
                found = await asyncio.to_thread(read, query, after, window.limit + 1)
        part = ListPart(found[: window.limit], len(found) > window.limit)
        cursor = {"cursor": f"{part.rows[-1].event.at!r}_{part.rows[-1].id}"} if part.rows else {}
        return page(call, self._options, part, await self._described(part.rows), cursor)

    async def _show(self, call: Call[NoParameters], extent: _Extent) -> Response:
        text = call.path["event_id"]
        query = extent.limit(AuditQuery(number=int(text))) if is_id(text) else None
        if query is None:
            raise ResourceUnknown(EVENT)
        async with self._readers:
            found = await asyncio.to_thread(partial(self._audit.read, latest_first=True), query, None, 1)
        if not found:
            raise ResourceUnknown(EVENT)
        [document] = await self._described(found)
        return one(document)

    async def _described(self, events: Sequence[WrittenEvent]) -> list[dict[str, object]]:
        nodes = await self._tree.places_at(self._documents.paths_of(events))
        return [self._documents.describe(event, nodes) for event in events]
