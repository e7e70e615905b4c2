"""Pages of a repository and of its tags: what there is, how to pull it, and what a tag pointed to before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.errors import ManifestUnknown
from cache.oci.manifest import Manifest
from cache.oci.names import Tag, is_tag
from gateway.db.tag_events import TagEvent
from gateway.db.windows import ListWindow
from gateway.inspection.image_contents import ImageConfig, read_config
from gateway.registry.image_size import layers_of
from gateway.registry.native import NativeRepository
from gateway.registry.platform_names import platform_name
from gateway.services import Services
from gateway.web.errors import PageUnknown
from gateway.web.page_places import PagePlaces, RepositoryPage, tag_of
from gateway.web.pages import Pages
from gateway.web.routes import PageRoute
from gateway.web.tag_lists import SORTS, read_tags
from gateway.web.visit import Visit

EVENTS = 30
"""Events of a tag on its page, the latest first."""

REFERRERS = 50
"""Referrers of an image on its page."""


@dataclass(frozen=True, slots=True)
class Child:
    """What an index lists: an image for a platform, or something beside the images, for which `platform` is empty."""

    descriptor: Descriptor
    platform: str
    is_shown: bool


@dataclass(frozen=True, slots=True)
class ShownImage:
    """An image on a page: what its manifest refers to, and what its config says."""

    manifest: Manifest
    config: ImageConfig

    @property
    def size(self) -> int:
        """Bytes of its layers, each counted once."""
        return sum(layers_of([self.manifest]).values())


class TagPages:
    """Handlers of repositories and tags that are looked at."""

    def __init__(self, services: Services, pages: Pages) -> None:
        self._services = services
        self._inventory = services.native.inventory
        self._pages = pages
        self._places = PagePlaces(services)

    @property
    def routes(self) -> Sequence[PageRoute]:
        one = "/{project:path}/container_registry/{id}"
        return [
            PageRoute("GET", one, self.repository),
            PageRoute("GET", f"{one}/tags/{{tag}}", self.tag),
        ]

    async def repository(self, visit: Visit) -> Response:
        """List the tags of a repository."""
        page = await self._places.repository(visit)
        part = await read_tags(self._inventory, page.stored.id, visit.query)
        figures = (await self._inventory.figures([page.stored.id]))[page.stored.id]
        former = None if part.rows or not is_tag(part.search) else await self._latest(page, Tag(part.search))
        return self._pages.show(
            visit,
            "repository.html",
            f"{page.path} · Tag Details",
            page=page,
            project=page.project,
            part=part,
            figures=figures,
            sorts=SORTS,
            former=former,
        )

    async def tag(self, visit: Visit) -> Response:
        """Show a tag: its image, and what it pointed to before. One that was removed is shown as long as it can be
        restored, or its history is kept."""
        page, tag = await self._places.repository(visit), tag_of(visit.place["tag"])
        window = ListWindow(EVENTS, descending=True)
        events = await self._inventory.tag_events(page.stored.id, tag, window, counted=False)
        details = await self._inventory.tag(page.stored.id, tag)
        if details is None and not events.rows:
            raise PageUnknown("there is no such tag")
        values: Mapping[str, Any] = {"details": None, "children": [], "image": None, "referrers": [], "more": False}
        if details is not None:
            values = {"details": details, **await self._image(visit, page, details.stored.digest)}
        return self._pages.show(
            visit,
            "tag.html",
            f"{tag} · {page.path}",
            page=page,
            project=page.project,
            tag=tag.text,
            events=events,
            kept_until=self._services.native.administration.kept_until,
            why_not=page.why_not_removed(tag.text),
            **values,
        )

    async def _latest(self, page: RepositoryPage, tag: Tag) -> TagEvent | None:
        """The latest event of a tag that is not there, by which its page is found again; None for none."""
        part = await self._inventory.tag_events(page.stored.id, tag, ListWindow(1, descending=True), counted=False)
        return part.rows[0] if part.rows else None

    async def _image(self, visit: Visit, page: RepositoryPage, digest: Digest) -> dict[str, object]:
        """What a tag points to: of an index the image that the query names, or the first one."""
        repository = self._places.open(visit, page)
        manifest = (await repository.manifest(digest)).manifest
        entries = [(child, platform_name(platform)) for child, platform in manifest.platforms()]
        shown = manifest if not entries else await self._chosen(repository, entries, visit.query.one("image"))
        listed = await repository.referrers(digest, None)
        referrers: list[dict[str, Any]] = listed.page.manifests
        return {
            "children": [Child(child, name, _is_shown(child, shown)) for child, name in entries],
            "image": None if shown is None else ShownImage(shown, await read_config(repository, shown.config)),
            "referrers": referrers[:REFERRERS],
            "more": len(referrers) > REFERRERS or listed.page.next is not None,
        }

    async def _chosen(
        self, repository: NativeRepository, entries: Sequence[tuple[Descriptor, str]], wanted: str
    ) -> Manifest | None:
        """The image of an index that is shown; None where it lists none that the repository has."""
        images = [child for child, name in entries if child.is_manifest and name]
        chosen = next((child for child in images if str(child.digest) == wanted), images[0] if images else None)
        try:
            return None if chosen is None else (await repository.manifest(chosen.digest)).manifest
        except ManifestUnknown:  # an index may list what was never pushed
            return None


def _is_shown(child: Descriptor, shown: Manifest | None) -> bool:
    return shown is not None and child.digest == shown.descriptor.digest
