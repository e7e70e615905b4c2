"""Manifest: a document byte for byte, and what it refers to (image-spec, manifest.md and image-index.md)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.document import parse_document
from cache.oci.errors import ManifestInvalid
from cache.oci.media_types import OCTET_STREAM, is_index, is_manifest

SIZE_LIMIT = 4 * 1024 * 1024
"""Bytes; registries SHOULD accept at least this much and may refuse more (distribution-spec, "Pushing Manifests")."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest. `raw` holds the received bytes, which are never serialised again, so their digest stays valid.

    The descriptors are those that can be read: registries serve, and clients pull, documents with others as well.
    """

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
        have been sent with that media type (image-spec, "Media Types Conflicts"). What stands in no conflict is read as
        clients read it: null and absent are the same, an empty `mediaType` is none, and a descriptor without a digest
        of a known algorithm is left out.
        """
        if not is_manifest(media_type):
            raise ManifestInvalid(f"media type {media_type[:100]!r} is not that of a manifest or an index")
        if len(raw) > SIZE_LIMIT:
            raise ManifestInvalid(f"a manifest has at most {SIZE_LIMIT} bytes")
        document = _load(raw)
        _check_kind(document, media_type)
        own = Descriptor(media_type, Digest.of(raw, algorithm), len(raw))
        subject = Descriptor.find(document.get("subject"))
        if is_index(media_type):
            return cls(own, raw, children=tuple(child for child, _ in _entries(document)), subject=subject)
        # A config or a layer is a blob by its place, whether it names its media type or not.
        config = Descriptor.find(document.get("config"), OCTET_STREAM)
        found = (Descriptor.find(entry, OCTET_STREAM) for entry in _list(document, "layers"))
        return cls(own, raw, config=config, layers=tuple(layer for layer in found if layer), subject=subject)

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

    def platforms(self) -> list[tuple[Descriptor, Mapping[str, Any] | None]]:
        """The children, each with the platform that its entry states, read from the document again."""
        return _entries(parse_document(self.raw)) if self.children else []


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
    if document.get("mediaType") not in (None, "", media_type):
        raise ManifestInvalid(f"mediaType is not {media_type}, as which the document was sent")
    index_keys, image_keys = {"manifests"} & document.keys(), {"config", "layers"} & document.keys()
    if index_keys and (image_keys or "fsLayers" in document):
        raise ManifestInvalid("the document is an image and an index at once")
    if not (index_keys if is_index(media_type) else image_keys):
        raise ManifestInvalid(f"the document does not have the fields of {media_type}")


def _entries(index: Mapping[str, Any]) -> list[tuple[Descriptor, Mapping[str, Any] | None]]:
    """The entries of an index that can be read, with their platforms. One without a media type may be an image or a
    blob, so it is neither."""
    found = ((Descriptor.find(entry), entry) for entry in _list(index, "manifests"))
    return [(child, _object(entry.get("platform"))) for child, entry in found if child]


def _object(value: object) -> Mapping[str, Any] | None:
    return value if isinstance(value, dict) else None


def _list(document: Mapping[str, Any], key: str) -> list[Any]:
    entries = document.get(key)
    if entries is not None and not isinstance(entries, list):
        raise ManifestInvalid(f"{key} must be a list")
    return entries or []
