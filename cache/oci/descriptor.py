"""Descriptor: what a manifest states about content that it refers to (image-spec, descriptor.md)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard

from cache.oci.digest import Digest
from cache.oci.errors import DigestInvalid
from cache.oci.media_types import is_manifest


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Reference to content: its media type, its digest, and its size in bytes."""

    media_type: str
    digest: Digest
    size: int

    @classmethod
    def find(cls, entry: object, unnamed: str = "") -> "Descriptor | None":
        """Read an entry of a document as clients do, who read on where they can; None if its digest cannot be read.

        A size that cannot be read is 0. `urls` are never read. `unnamed`: the media type of an entry that names none;
        "" for none, without which there is no descriptor.
        """
        if not isinstance(entry, Mapping):
            return None
        media_type, digest, size = entry.get("mediaType"), entry.get("digest"), entry.get("size")
        if not isinstance(media_type, str) or not _is_header_text(media_type):
            media_type = unnamed
        if not media_type or not isinstance(digest, str):
            return None
        try:
            return cls(media_type, Digest.parse(digest), size if _is_size(size) else 0)
        except DigestInvalid:
            return None

    @property
    def is_manifest(self) -> bool:
        return is_manifest(self.media_type)

    @property
    def is_distributable(self) -> bool:
        """Whether the registry itself serves it, if it is a layer (image-spec, "Non-Distributable Layers")."""
        return "nondistributable" not in self.media_type and ".foreign." not in self.media_type


def _is_size(size: object) -> TypeGuard[int]:
    return isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**63


def _is_header_text(text: str) -> bool:
    """Whether a text breaks no header, log line or UTF-8; less strict than RFC 6838, section 4.2."""
    return bool(text.strip()) and text.isascii() and text.isprintable()
