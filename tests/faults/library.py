"""The images that the clients pull: some dozens, of every size that has been a border somewhere."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.parts.images import CONFIG, LAYER, MANIFEST, MB, digest_of, seeded
from tests.parts.registry import Registry

KIB = 1024
MIB = 1024 * 1024
SIZES = (
    *(MIB,) * 6,
    60 * MB,
    *(0, 1, 32 * KIB - 1, 32 * KIB, 32 * KIB + 1) * 3,
    *(20 * MB,) * 2,
    *(MIB,) * 6,
    *(60 * MB, 20 * MB),
)
"""By how often they are pulled: small and large ones among the popular, and among those that few ask for."""


@dataclass(frozen=True)
class Content:
    """The bytes behind a digest, for whoever must tell whether others are the same."""

    digest: str
    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)


@dataclass(frozen=True)
class Image:
    """One tag with a manifest, a config and a layer."""

    name: str
    manifest: Content
    config: Content
    layer: Content

    @property
    def blobs(self) -> tuple[Content, Content]:
        return self.config, self.layer

    @property
    def contents(self) -> tuple[Content, Content, Content]:
        return self.manifest, self.config, self.layer


def make(name: str, data: bytes) -> Image:
    """An image whose layer is those bytes; nobody unpacks it."""
    layer, config = Content(digest_of(data), data), json.dumps({"name": name}).encode()
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest_of(config), "size": len(config)},
        "layers": [{"mediaType": LAYER, "digest": layer.digest, "size": layer.size}],
    }
    raw = json.dumps(document).encode()
    return Image(name, Content(digest_of(raw), raw), Content(digest_of(config), config), layer)


def publish(image: Image, registry: Registry) -> None:
    """Make NAME:latest be that image."""
    for content in image.blobs:
        registry.put_blob(image.name, content.data)
    registry.put_manifest(image.name, "latest", MANIFEST, image.manifest.data)


def library(registry: Registry, sizes: Sequence[int] = SIZES, prefix: str = "mix") -> list[Image]:
    """Images of these sizes, published below `prefix`; the same bytes each time."""
    images = list(_images(sizes, prefix))
    for image in images:
        publish(image, registry)
    return images


def _images(sizes: Sequence[int], prefix: str) -> Iterator[Image]:
    for number, size in enumerate(sizes):
        name = f"{prefix}/image-{number:02}"
        yield make(name, seeded(name, size))
