"""Manifest: a document byte for byte, and what it refers to (image-spec, manifest.md and image-index.md)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.document import parse_document
from cache.oci.errors import ManifestInvalid
from cache.oci.media_types import OCI_INDEX, OCI_MANIFEST, is_index, is_manifest

SIZE_LIMIT = 4 * 1024 * 1024
"""Bytes; registries SHOULD accept at least this much and may refuse more (distribution-spec, "Pushing Manifests")."""

DESCRIPTOR_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest. `raw` holds the received bytes, which are never serialised again, so their digest stays valid."""

    descriptor: Descriptor
    raw: bytes
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    children: tuple[Descriptor, ...] = ()
    subject: Descriptor | None = None

    @classmethod
    def parse(cls, media_type: str, raw: bytes, algorithm: str = "sha256") -> "Manifest":
        """Parse a document. Raises ManifestInvalid unless it is either an image or an index, as its media type states.
        Its detail repeats nothing of the document.

        A document with both `manifests` and `config` or `layers` is ambiguous, and a document with a `mediaType` must
        have been sent with that media type (image-spec, "Media Types Conflicts").
        """
        if not is_manifest(media_type):
            raise ManifestInvalid(f"media type {media_type[:100]!r} is not that of a manifest or an index")
        if len(raw) > SIZE_LIMIT:
            raise ManifestInvalid(f"a manifest has at most {SIZE_LIMIT} bytes")
        document = _load(raw)
        _check_kind(document, media_type)
        own = Descriptor(media_type, Digest.of(raw, algorithm), len(raw))
        subject = Descriptor.parse(document["subject"], "subject") if document.get("subject") is not None else None
        if is_index(media_type):
            return cls(own, raw, children=_descriptors(document, "manifests"), subject=subject)
        config = Descriptor.parse(document.get("config"), "config")
        return cls(own, raw, config=config, layers=_descriptors(document, "layers"), subject=subject)

    @property
    def memory(self) -> int:
        """Bytes that the manifest takes in memory, about: a descriptor of 110 bytes becomes objects of 400."""
        return len(self.raw) + 1000 + 400 * (len(self.layers) + len(self.children))

    def references(self) -> tuple[Descriptor, ...]:
        """Direct references that a complete pull needs: config, layers and children; not the subject.

        The media type of a reference decides whether it is a manifest or a blob: build caches are indexes that list
        layers.
        """
        return (*((self.config,) if self.config else ()), *self.layers, *self.children)


def _load(raw: bytes) -> Mapping[str, Any]:
    try:
        document = parse_document(raw)
    except ValueError as error:
        raise ManifestInvalid(str(error)) from error
    if not isinstance(document, dict):
        raise ManifestInvalid("the document must be a JSON object")
    return document


def _check_kind(document: Mapping[str, Any], media_type: str) -> None:
    version = document.get("schemaVersion")
    if not isinstance(version, int) or version != 2:
        raise ManifestInvalid("schemaVersion must be 2")
    named = document.get("mediaType", media_type)
    if named != media_type:
        raise ManifestInvalid(f"mediaType is not {media_type}, as which the document was sent")
    if "mediaType" not in document and media_type not in (OCI_MANIFEST, OCI_INDEX):
        raise ManifestInvalid("mediaType is missing")
    index_keys, image_keys = {"manifests"} & document.keys(), {"config", "layers", "fsLayers"} & document.keys()
    if index_keys and image_keys:
        raise ManifestInvalid("the document is an image and an index at once")
    if not (index_keys if is_index(media_type) else image_keys):
        raise ManifestInvalid(f"the document does not have the fields of {media_type}")


def _descriptors(document: Mapping[str, Any], key: str) -> tuple[Descriptor, ...]:
    entries = document.get(key)
    if not isinstance(entries, list):
        raise ManifestInvalid(f"{key} must be a list")
    if len(entries) > DESCRIPTOR_LIMIT:
        raise ManifestInvalid(f"{key} has {len(entries)} entries, more than {DESCRIPTOR_LIMIT}")
    return tuple(Descriptor.parse(entry, f"{key}[{place}]") for place, entry in enumerate(entries))
