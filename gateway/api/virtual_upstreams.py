"""Upstreams of virtual registries, and what is cached of them."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator
from starlette.responses import Response

from cache.index.entries import CacheEntry
from gateway.api.documents import moment
from gateway.api.errors import ResourceUnknown
from gateway.api.options import ApiOptions
from gateway.api.responses import no_content, offset_page, offset_window, one
from gateway.api.routing import Call, Route
from gateway.api.shapes import NoParameters, PageShape, SearchText, Shape, Text, refused
from gateway.api.virtual_places import FoundUpstream, VirtualPlaces, require_some, virtual_refusals
from gateway.api.virtual_registries import BASE, OF_GROUP, ONE, Description, Name, share_document
from gateway.audit.changes import AuditedChanges
from gateway.audit.event import EventKind, Subject
from gateway.maintenance.virtual_caches import EntryName, VirtualCaches
from gateway.namespaces.virtual_registry import (
    DEFAULT_VALIDITY,
    LONGEST_VALIDITY,
    PASSWORD_LIMIT,
    URL_LIMIT,
    USERNAME_LIMIT,
    RegistryUpstream,
    VirtualUpstream,
)
from gateway.virtual.store import VirtualRegistries

OF_REGISTRY, UPSTREAM = f"{ONE}/upstreams", f"{BASE}/upstreams/{{id}}"
ENTRY = f"{BASE}/cache_entries/{{id}}"

Url = Annotated[Text, Field(min_length=1, max_length=URL_LIMIT, description="Where it is, such as https://HOST.")]
Hours = Annotated[
    int, Field(ge=0, le=LONGEST_VALIDITY, description="For how many hours its word on a tag holds; 0: for ever.")
]
Username = Annotated[Text | None, Field(max_length=USERNAME_LIMIT, description="A login; empty: none.")]
Password = Annotated[
    Text | None, Field(max_length=PASSWORD_LIMIT, repr=False, description="Its password, which no response shows.")
]


class _LoginShape(Shape):
    """A login, of which both halves are given, or none."""

    username: Username = None
    password: Password = None

    @model_validator(mode="after")
    def _login_is_whole(self) -> Self:
        if (self.username is None) != (self.password is None) or bool(self.username) != bool(self.password):
            raise refused("username, password are given together, or not at all")
        return self


class NewUpstreamShape(_LoginShape):
    """Parameters of a new upstream."""

    url: Url
    name: Name
    description: Description = ""
    cache_validity_hours: Hours = DEFAULT_VALIDITY


class UpstreamShape(_LoginShape):
    """Parameters that are changed of an upstream; those that are not given stay."""

    url: Url | None = None
    name: Name | None = None
    description: Description | None = None
    cache_validity_hours: Hours | None = None


class UpstreamListShape(PageShape):
    """Parameters of the list of a group's upstreams."""

    upstream_name: Annotated[SearchText, Field(description="Only those whose name holds this text.")] = ""


class VirtualUpstreamRoutes:
    """Handlers of upstreams of virtual registries."""

    def __init__(
        self,
        places: VirtualPlaces,
        virtual: VirtualRegistries,
        caches: VirtualCaches,
        audited: AuditedChanges,
        options: ApiOptions,
    ) -> None:
        self._places = places
        self._virtual = virtual
        self._caches = caches
        self._audited = audited
        self._options = options

    @property
    def routes(self) -> list[Route[Any]]:
        kind, of_group = "virtual_upstream", f"{OF_GROUP}/upstreams"
        entries = f"{UPSTREAM}/cache_entries"
        return [
            Route("GET", of_group, self.of_group, UpstreamListShape, f"{kind}s", answer="VirtualUpstreams"),
            Route("GET", OF_REGISTRY, self.of_registry, NoParameters, f"{kind}s", answer="VirtualUpstreams"),
            Route(
                *("POST", OF_REGISTRY, self.create, NewUpstreamShape, kind),
                status=201,
                answer="VirtualUpstream",
            ),
            Route("GET", UPSTREAM, self.show, NoParameters, kind, answer="VirtualUpstream"),
            Route("PATCH", UPSTREAM, self.update, UpstreamShape, kind, answer="VirtualUpstream"),
            Route("DELETE", UPSTREAM, self.delete, NoParameters, kind, status=204),
            Route("DELETE", f"{UPSTREAM}/cache", self.empty, NoParameters, kind, status=204),
            Route("GET", entries, self.entries, PageShape, "cache_entries", answer="VirtualCacheEntries"),
            Route("DELETE", ENTRY, self.delete_entry, NoParameters, "cache_entry", status=204),
        ]

    async def of_group(self, call: Call[UpstreamListShape]) -> Response:
        """List the upstreams of a group, those that no virtual registry has among them."""
        group, wanted = await self._places.group(call.path["id"], call.principal), call.parameters
        searched = wanted.model_copy(update={"search": wanted.upstream_name or wanted.search})
        part = await self._virtual.upstreams_of_group(group.group.id, offset_window(searched), counted=True)
        return offset_page(call, self._options, part, [_document(upstream) for upstream in part.rows])

    async def of_registry(self, call: Call[NoParameters]) -> Response:
        """List the upstreams of a virtual registry, in the order in which they are asked."""
        found = await self._places.registry(call.path["id"], call.principal)
        place = await self._virtual.find(found.registry.id)
        shares = {share.upstream_id: share for share in await self._virtual.shares_of(found.registry.id)}
        upstreams = () if place is None else place.upstreams
        return one([_document(upstream, shares[upstream.id]) for upstream in upstreams if upstream.id in shares])

    async def create(self, call: Call[NewUpstreamShape]) -> Response:
        """Make an upstream, the last one of a virtual registry, which has five at most. Its login is stored sealed."""
        found = await self._places.registry(call.path["id"], call.principal, changes=True)
        wanted = call.parameters
        values = {**wanted.model_dump(exclude={"password"}), "username": wanted.username or None}
        with virtual_refusals():
            upstream, share = await self._virtual.create_upstream(found.registry, values, wanted.password or None)
        self._note(call, EventKind.CREATE, FoundUpstream(found.group, upstream))
        return one(_document(upstream, share), 201)

    async def show(self, call: Call[NoParameters]) -> Response:
        """Show an upstream, without its password."""
        return one(_document((await self._places.upstream(call.path["id"], call.principal)).upstream))

    async def update(self, call: Call[UpstreamShape]) -> Response:
        """Change an upstream. Another URL or login empties its cache; another registry needs its login anew."""
        found, wanted = await self._places.upstream(call.path["id"], call.principal, changes=True), call.parameters
        values = wanted.model_dump(exclude_none=True, exclude={"password"})
        require_some(tuple(UpstreamShape.model_fields), set(values))
        if "username" in values:
            values["username"] = values["username"] or None
        before = found.upstream
        with virtual_refusals():
            changed = await self._virtual.update_upstream(before, values, wanted.password or None)
        if changed.cache_key != before.cache_key:
            await self._caches.delete_all(before)
        self._note(call, EventKind.UPDATE, FoundUpstream(found.group, changed))
        return one(_document(changed))

    async def delete(self, call: Call[NoParameters]) -> Response:
        """Delete an upstream with its cache, also from all virtual registries that have it."""
        found = await self._places.upstream(call.path["id"], call.principal, changes=True)
        await self._virtual.delete_upstream(found.upstream)
        await self._caches.delete_all(found.upstream)
        self._note(call, EventKind.DELETE, found)
        return no_content()

    async def empty(self, call: Call[NoParameters]) -> Response:
        """Empty the cache of an upstream."""
        found = await self._places.upstream(call.path["id"], call.principal, changes=True)
        await self._virtual.empty_cache(found.upstream)
        await self._caches.delete_all(found.upstream)
        self._note(call, EventKind.UPDATE, found, "its cache was emptied")
        return no_content()

    async def entries(self, call: Call[PageShape]) -> Response:
        """List what is cached of an upstream, by the paths under which clients request it."""
        found = await self._places.upstream(call.path["id"], call.principal)
        part = await self._caches.list_part(found.upstream, offset_window(call.parameters))
        documents = [_entry_document(found.upstream, entry) for entry in part.rows]
        return offset_page(call, self._options, part, documents)

    async def delete_entry(self, call: Call[NoParameters]) -> Response:
        """Delete one entry, with what nothing else that is cached needs of it."""
        name = EntryName.parse(call.path["id"])
        if name is None:
            raise ResourceUnknown()
        found = await self._places.upstream(str(name.upstream_id), call.principal, changes=True)
        if not await self._caches.delete_entry(found.upstream, name.path):
            raise ResourceUnknown()
        self._note(call, EventKind.UPDATE, found, f"{name.path} was deleted from its cache")
        return no_content()

    def _note(self, call: "Call[Any]", kind: EventKind, found: FoundUpstream, told: str | None = None) -> None:
        upstream, path = found.upstream, found.group.group.path
        facts = told or (
            None if kind is EventKind.DELETE else f"url {upstream.url}, user {upstream.username or 'none'}"
        )
        target = f"{upstream.id} ({upstream.name})"
        self._audited.changed(call, kind, Subject.VIRTUAL_UPSTREAM, path, target, after=facts)


def _document(upstream: VirtualUpstream, share: RegistryUpstream | None = None) -> dict[str, object]:
    document: dict[str, object] = {
        "id": upstream.id,
        "group_id": upstream.group_id,
        "url": upstream.url,
        "name": upstream.name,
        "description": upstream.description or None,
        "cache_validity_hours": upstream.cache_validity_hours,
        "username": upstream.username,
        "created_at": moment(upstream.created_at),
        "updated_at": moment(upstream.updated_at),
    }
    if share is not None:
        shown = share_document(share)
        document["registry_upstream"] = {key: shown[key] for key in ("id", "registry_id", "position")}
    return document


def _entry_document(upstream: VirtualUpstream, entry: CacheEntry) -> dict[str, object]:
    """An entry as GitLab's clients know it; its hash is the digest, and no other one is kept."""
    checked_at = None if entry.checked_at is None else moment(entry.checked_at)
    return {
        "id": EntryName(upstream.id, entry.path).id,
        "group_id": upstream.group_id,
        "upstream_id": upstream.id,
        "upstream_checked_at": checked_at,
        "file_md5": None,
        "file_sha1": None,
        "size": entry.size,
        "relative_path": entry.path,
        "content_type": entry.media_type,
        "upstream_etag": entry.digest,
    }
