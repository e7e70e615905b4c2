"""Namespaces: what may hold projects, a group or a user's own.

GitLab numbers both together; here users have numbers beyond those of groups.
"""

from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from gateway.api.documents import USER_NAMESPACES, DocumentWriter
from gateway.api.errors import ResourceUnknown
from gateway.api.options import ApiOptions
from gateway.api.places import Places
from gateway.api.responses import one, page_of
from gateway.api.routing import Call, Route
from gateway.api.shapes import ListShape, NoParameters, is_id
from gateway.api.tree_refusals import tree_refusals
from gateway.auth.principal import Principal
from gateway.db.tree_lists import TreeFilter, TreeOrder
from gateway.db.windows import COUNTED, ListWindow
from gateway.directory.places import GroupPlace
from gateway.inspection.place_finder import PlaceFinder
from gateway.namespaces.node import NodeKey, NodeKind, PathEntry
from gateway.namespaces.role import Role
from gateway.services import Services

NAMESPACE = "Namespace"


class Namespaces:
    """Handlers of namespaces, and what others find out about one."""

    def __init__(self, services: Services, places: Places, documents: DocumentWriter, options: ApiOptions) -> None:
        self._tree = services.directory.tree
        self._directory = services.directory
        self._finder = PlaceFinder(services)
        self._places = places
        self._documents = documents
        self._options = options

    @property
    def routes(self) -> list[Route[Any]]:
        return [
            Route("GET", "/namespaces", self.list_own, ListShape, "namespaces", answer="Namespaces"),
            Route("GET", "/namespaces/{id}", self.show, NoParameters, "namespace", answer="Namespace"),
        ]

    async def list_own(self, call: Call[ListShape]) -> Response:
        """List the namespaces in which the caller may create projects."""
        return page_of(call, self._options, await self._own(call.principal, call.parameters), self._documents.namespace)

    async def show(self, call: Call[NoParameters]) -> Response:
        """Show a namespace that the caller may know of."""
        entry, _ = await self._find(call.path["id"], call.principal)
        return one(self._documents.namespace(entry))

    async def path_for_projects(self, principal: Principal, text: str) -> str:
        """The path of the namespace of an id or a path, in which a principal may create projects. Raises Forbidden,
        ResourceUnknown."""
        entry, group = await self._find(text, principal)
        if group is not None:
            with tree_refusals():
                await self._finder.require_creator(principal, group)
        return entry.path

    async def _find(self, text: str, principal: Principal) -> tuple[PathEntry, GroupPlace | None]:
        """The namespace of an id or a path that a principal may know of, with the group that it is, if it is one.
        Raises ResourceUnknown, in the same words for one that is hidden and one that does not exist."""
        entry = await self._entry_of(text)
        if entry is not None and entry.key.kind is NodeKind.USER and _is_own(principal, entry):
            return entry, None
        try:
            place, _ = await self._places.group(text, principal)  # which takes as long where there is none
        except ResourceUnknown as error:
            raise ResourceUnknown(NAMESPACE, error.reason) from error
        if entry is None or entry.key != place.way[-1]:
            raise ResourceUnknown(NAMESPACE, "the path is an old one")
        return entry, place

    async def _own(self, principal: Principal, wanted: ListShape) -> Sequence[PathEntry]:
        known = await self._places.knowledge(principal, Role.DEVELOPER)
        window = ListWindow(COUNTED, search=wanted.search)
        found = await self._tree.list_groups(known, TreeFilter(), TreeOrder.PATH, window, counted=False)
        entries = [PathEntry(group.path, NodeKey(NodeKind.GROUP, group.id)) for group in found.rows]
        user = principal.user
        own = await self._tree.places_of([user.key]) if user is not None else []  # a bot has none
        if user is not None and own and wanted.search.lower() in user.name:
            entries.insert(0, PathEntry(user.name, user.key))
        return entries[::-1] if wanted.sort == "desc" else entries

    async def _entry_of(self, text: str) -> PathEntry | None:
        if not is_id(text):
            key = (await self._tree.places_at([text.lower()])).get(text.lower())
            return None if key is None or key.kind is NodeKind.PROJECT else PathEntry(text.lower(), key)
        number = int(text)
        is_user = number > USER_NAMESPACES
        key = NodeKey(NodeKind.USER, number - USER_NAMESPACES) if is_user else NodeKey(NodeKind.GROUP, number)
        return next(iter(await self._tree.places_of([key])), None)


def _is_own(principal: Principal, entry: PathEntry) -> bool:
    """Whether a namespace is that of the person behind a principal; every one is open to administrators."""
    return principal.user is not None and (principal.user.admin or principal.user.key == entry.key)
