"""Documents as registries hold them: each departs from the image specification, and some client pulls it.

- A manifest without layers: https://github.com/opencontainers/image-spec/issues/1025,
  https://github.com/moby/moby/issues/27568
- Descriptors without a size, as dockerd pushed them: https://github.com/moby/moby/issues/46641
- No or an empty media type of the document: https://github.com/gitpod-io/gitpod/pull/3397,
  https://github.com/zarf-dev/zarf/issues/2351
- Indexes of up to 4 MiB, with thousands of entries: https://github.com/Homebrew/brew/pull/15777
- null for a list, which is how Go writes one that was never made: https://pkg.go.dev/encoding/json#Marshal
- Digests of other algorithms: https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests
- Layers that only their vendor serves:
  https://github.com/opencontainers/image-spec/blob/main/layer.md#non-distributable-layers
- Docker's schema 1: https://distribution.github.io/distribution/spec/deprecated-schema-v1/
"""

import json
from collections.abc import Callable
from typing import Any

from .images import INDEX, LAYER, MANIFEST, ImageLayout, digest_of

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
ENTRIES = 5_000

Document = dict[str, Any]


def without(document: Document, *keys: str) -> Document:
    return {key: value for key, value in document.items() if key not in keys}


def index_of(layout: ImageLayout, **entry: Any) -> Document:
    """An index whose last entry is the image; `entry` changes a second one before it."""
    own = {"mediaType": layout.media_type, "digest": layout.digest, "size": len(layout.manifest_bytes)}
    own["platform"] = {"os": "linux", "architecture": "amd64"}
    other = own | {"digest": digest_of(b"other"), "platform": {"os": "linux", "architecture": "s390x"}} | entry
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": [other, own]}


def layer(**more: Any) -> Document:
    return {"mediaType": LAYER, "digest": digest_of(b""), "size": 1} | more


FOUND: dict[str, Callable[[ImageLayout], tuple[str, Document]]] = {
    "layers absent": lambda image: (MANIFEST, without(image.manifest, "layers")),
    "layers null": lambda image: (MANIFEST, image.manifest | {"layers": None}),
    "manifests null": lambda image: (INDEX, index_of(image) | {"manifests": None}),
    "media type empty": lambda image: (MANIFEST, image.manifest | {"mediaType": ""}),
    "media type absent from docker's": lambda image: (DOCKER_MANIFEST, without(image.manifest, "mediaType")),
    "annotations and subject null": lambda image: (MANIFEST, image.manifest | {"annotations": None, "subject": None}),
    "config without size": lambda image: (
        MANIFEST,
        image.manifest | {"config": without(image.manifest["config"], "size")},
    ),
    "config null": lambda image: (MANIFEST, image.manifest | {"config": None}),
    "layer without media type": lambda image: (
        MANIFEST,
        image.manifest | {"layers": [without(entry, "mediaType") for entry in image.manifest["layers"]]},
    ),
    "layer with an empty media type": lambda image: (
        MANIFEST,
        image.manifest | {"layers": [entry | {"mediaType": ""} for entry in image.manifest["layers"]]},
    ),
    "layer of an unknown algorithm": lambda image: (
        MANIFEST,
        image.manifest | {"layers": [*image.manifest["layers"], layer(digest="blake3:" + 64 * "a")]},
    ),
    "thousands of layers": lambda image: (
        MANIFEST,
        image.manifest | {"layers": [layer(digest=digest_of(b"%d" % number)) for number in range(ENTRIES)]},
    ),
    "index entry without media type": lambda image: (INDEX, index_of(image, mediaType="")),
    "index entry of an unknown algorithm": lambda image: (INDEX, index_of(image, digest="blake3:" + 64 * "a")),
    "index entry that is null": lambda image: (
        INDEX,
        index_of(image) | {"manifests": [None, *index_of(image)["manifests"]]},
    ),
    "thousands of index entries": lambda image: (
        INDEX,
        index_of(image)
        | {"manifests": [layer(mediaType=MANIFEST, digest=digest_of(b"%d" % number)) for number in range(ENTRIES)]},
    ),
}


def found(name: str, image: ImageLayout) -> tuple[str, bytes]:
    """The media type and the bytes of a document made from an image."""
    media_type, document = FOUND[name](image)
    return media_type, json.dumps(document).encode()


def with_foreign_layer(image: ImageLayout) -> bytes:
    """The image with a layer more, which its registry does not have."""
    foreign = layer(mediaType=FOREIGN, digest=digest_of(b"foreign"), size=7, urls=["https://vendor.example/layer"])
    return json.dumps(image.manifest | {"layers": [foreign, *image.manifest["layers"]]}).encode()


def schema_1(name: str) -> bytes:
    """An image of schema 1, without signatures."""
    history = [{"v1Compatibility": json.dumps({"id": 64 * "a", "created": "2015-01-01T00:00:00Z"})}]
    document = {"schemaVersion": 1, "name": name, "tag": "latest", "architecture": "amd64"}
    return json.dumps(document | {"fsLayers": [{"blobSum": digest_of(b"")}], "history": history}).encode()
