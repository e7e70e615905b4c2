"""Tags of a repository: the list, and one of them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.responses import Response

from cache.oci.errors import TagInvalid
from cache.oci.names import Tag, is_tag
from gateway.api.documents import DocumentWriter
from gateway.api.errors import ParametersInvalid, ResourceUnknown
from gateway.api.options import ApiOptions
from gateway.api.places import TAG, FoundRepository, Places
from gateway.api.responses import one, page, window_of
from gateway.api.routing import Call, Route
from gateway.api.shapes import ListShape, NoParameters, SearchText, is_id
from gateway.auth.matrix import Action
from gateway.db.tags import DatedName
from gateway.http.access_log import note_native_lookup
from gateway.registry.inventory import Inventory

LIST = "/projects/{id}/registry/repositories/{repository_id}/tags"
ONE = f"{LIST}/{{tag_name}}"


_JOINT = "~"
"""Stands between the date and the name of a tag in a cursor; no tag has it."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MICROSECOND = (datetime(9999, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


class TagListShape(ListShape):
    """Parameters of a list of tags."""

    order_by: Annotated[
        Literal["name", "published_at"],
        Field(description="What the list is sorted by: the name, or when the tag last moved to another image."),
    ] = "name"
    last: Annotated[SearchText, Field(description="With keyset and by name: the tag after which the page begins.")] = ""
    cursor: Annotated[
        SearchText, Field(description="With keyset and by date: where the page begins; taken from the link to it.")
    ] = ""

    def after(self) -> DatedName | None:
        """The tag after which a page of a keyset by date begins. Raises ParametersInvalid."""
        if self.pagination is None or not self.cursor:
            return None
        microseconds, _, name = self.cursor.partition(_JOINT)
        if not is_id(microseconds) or not is_tag(name) or int(microseconds) > _LAST_MICROSECOND:
            raise ParametersInvalid(["cursor is invalid"])
        return DatedName(name, _EPOCH + timedelta(microseconds=int(microseconds)))


class Tags:
    """Handlers of tags that are read."""

    def __init__(self, places: Places, inventory: Inventory, documents: DocumentWriter, options: ApiOptions) -> None:
        self._places = places
        self._inventory = inventory
        self._documents = documents
        self._options = options

    @property
    def routes(self) -> list[Route[Any]]:
        return [
            Route("GET", LIST, self.list_all, TagListShape, "tags", anonymous=True, jobs=True, answer="Tags"),
            Route("GET", ONE, self.show, NoParameters, "tag", anonymous=True, jobs=True, answer="TagDetails"),
        ]

    async def list_all(self, call: Call[TagListShape]) -> Response:
        """List the tags of a repository."""
        wanted = call.parameters
        found = await find_repository(self._places, call, Action.PULL, "tags")
        counted = wanted.pagination is None
        if wanted.order_by == "name":
            part = await self._inventory.tags(found.stored.id, window_of(wanted, wanted.last or None), counted=counted)
            documents = self._documents.tags(found.stored.path, part.rows)
            return page(call, self._options, part, documents, {"last": part.rows[-1]} if part.rows else {})
        dated = await self._inventory.dated_tags(found.stored.id, window_of(wanted), wanted.after(), counted=counted)
        documents = self._documents.tags(found.stored.path, [tag.name for tag in dated.rows])
        return page(call, self._options, dated, documents, _cursor(dated.rows))

    async def show(self, call: Call[NoParameters]) -> Response:
        """Show one tag, with the manifest that it points to."""
        found = await find_repository(self._places, call, Action.PULL, "tag")
        details = await self._inventory.tag(found.stored.id, tag_of(call))
        if details is None:
            raise ResourceUnknown(TAG)
        return one(self._documents.tag_details(found.stored.path, details))


async def find_repository(places: Places, call: "Call[Any]", action: Action, kind: str) -> FoundRepository:
    """The repository that a path names, to which a principal may do something. `kind`: as the log names it."""
    found = await places.repository(call.path["id"], call.path["repository_id"], call.principal, action)
    note_native_lookup(call.request.scope, kind, found.project.project.path)
    return found


def _cursor(rows: Sequence[DatedName]) -> dict[str, str]:
    """The parameter by which the page of a keyset begins that follows some tags."""
    if not rows:
        return {}
    microseconds = (rows[-1].moved_at - _EPOCH) // timedelta(microseconds=1)
    return {"cursor": f"{microseconds}{_JOINT}{rows[-1].name}"}


def tag_of(call: "Call[Any]") -> Tag:
    """The tag that a path names. Raises ResourceUnknown for what no tag can be."""
    try:
        return Tag.parse(call.path["tag_name"])
    except TagInvalid as error:
        raise ResourceUnknown(TAG) from error
