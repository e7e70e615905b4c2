"""Comparison of two images of a repository: the layers that they share, and what of the config has changed."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.responses import Response

from cache.oci.digest import Digest
from cache.oci.errors import DigestInvalid, ManifestUnknown
from cache.oci.manifest import Manifest
from cache.oci.names import Tag, is_tag
from gateway.inspection.image_comparison import compare
from gateway.inspection.image_contents import read_config
from gateway.registry.native import NativeRepository
from gateway.registry.platform_names import platform_name
from gateway.services import Services
from gateway.web.page_places import PagePlaces
from gateway.web.pages import Pages
from gateway.web.routes import PageRoute
from gateway.web.visit import Visit

_INVALID = 422


class _NotCompared(Exception):
    """Two references cannot be compared; the text says why, for people."""


@dataclass(frozen=True, slots=True)
class ComparedImage:
    """One of two images. `text`: how the address names it; `digest`: of what that points to; `platform`: of the image
    that is compared where that is an index."""

    text: str
    digest: Digest
    image: Manifest
    platform: str


class ComparisonPages:
    """Handler of comparisons."""

    def __init__(self, services: Services, pages: Pages) -> None:
        self._pages = pages
        self._places = PagePlaces(services)

    @property
    def routes(self) -> Sequence[PageRoute]:
        return [PageRoute("GET", "/{project:path}/container_registry/{id}/compare", self.compare)]

    async def compare(self, visit: Visit) -> Response:
        """Compare what two tags or digests point to; of indexes the images for one platform."""
        page, query = await self._places.repository(visit), visit.query
        texts = query.one("from").strip(), query.one("to").strip()
        repository, problem, found, comparison = self._places.open(visit, page), "", None, None
        if any(texts):
            try:
                first = await _open(repository, texts[0], "")
                second = await _open(repository, texts[1], first.platform)
                configs = (
                    await read_config(repository, first.image.config),
                    await read_config(repository, second.image.config),
                )
                found, comparison = (first, second), compare(first.image, second.image, configs)
            except _NotCompared as error:
                problem = str(error)
        return self._pages.show(
            visit,
            "compare.html",
            f"{'Error: compare' if problem else 'Compare'} · {page.path}",
            status=_INVALID if problem else 200,
            page=page,
            project=page.project,
            texts=texts,
            found=found,
            comparison=comparison,
            problem=problem,
        )


async def _open(repository: NativeRepository, text: str, platform: str) -> ComparedImage:
    """The image of a tag or digest; of an index that for a platform, or the first one. Raises _NotCompared."""
    try:
        manifest = (await repository.manifest(_reference_of(text))).manifest
        entries = [(child, platform_name(wanted)) for child, wanted in manifest.platforms()]
        if not entries:
            return ComparedImage(text, manifest.descriptor.digest, manifest, "")
        images = [(child, name) for child, name in entries if child.is_manifest and name]
        fitting = [(child, name) for child, name in images if name == platform] or images
        if not fitting:
            raise _NotCompared(f"{text} is an index without images.")
        child, name = fitting[0]
        return ComparedImage(text, manifest.descriptor.digest, (await repository.manifest(child.digest)).manifest, name)
    except ManifestUnknown as error:
        raise _NotCompared(f"This repository has no {text}, or not all of it any more.") from error


def _reference_of(text: str) -> Tag | Digest:
    if is_tag(text):
        return Tag(text)
    try:
        return Digest.parse(text)
    except DigestInvalid as error:
        raise _NotCompared("Name two tags, or two digests, of this repository.") from error
