"""Images that the clients pull: some dozens, of every size that has once been a boundary."""

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
"""Sizes by rank of popularity: small and large ones both among the popular images and among the rare ones."""


@dataclass(frozen=True)
class Content:
    """Bytes behind a digest, to compare with received bytes."""

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
    """Makes an image whose layer is `data`; no client unpacks it."""
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
    """Publishes an image as NAME:latest."""
    for content in image.blobs:
        registry.put_blob(image.name, content.data)
    registry.put_manifest(image.name, "latest", MANIFEST, image.manifest.data)


def library(registry: Registry, sizes: Sequence[int] = SIZES, prefix: str = "mix") -> list[Image]:
    """Publishes images of these sizes below `prefix`; the bytes are the same each time."""
    images = list(_images(sizes, prefix))
    for image in images:
        publish(image, registry)
    return images


def _images(sizes: Sequence[int], prefix: str) -> Iterator[Image]:
    for number, size in enumerate(sizes):
        name = f"{prefix}/image-{number:02}"
        yield make(name, seeded(name, size))
