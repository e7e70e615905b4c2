"""Descriptor: what a manifest states about content that it refers to (image-spec, descriptor.md)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cache.oci.digest import Digest
from cache.oci.errors import DigestInvalid, ManifestInvalid
from cache.oci.media_types import is_manifest


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Reference to content: its media type, its digest, and its size in bytes."""

    media_type: str
    digest: Digest
    size: int

    @classmethod
    def parse(cls, document: Any, where: str) -> "Descriptor":
        """Parse a JSON object; raises ManifestInvalid that names `where` it is. `urls` are never read."""
        if not isinstance(document, Mapping):
            raise ManifestInvalid(f"{where} must be an object with mediaType, digest and size")
        media_type, digest, size = document.get("mediaType"), document.get("digest"), document.get("size")
        if not isinstance(media_type, str) or not _is_header_text(media_type):
            raise ManifestInvalid(f"{where}.mediaType must be a media type")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**63:
            raise ManifestInvalid(f"{where}.size must be a number of bytes")
        if not isinstance(digest, str):
            raise ManifestInvalid(f"{where}.digest must be a digest")
        try:
            return cls(media_type, Digest.parse(digest), size)
        except DigestInvalid as error:
            raise ManifestInvalid(f"{where}.digest must be sha256: or sha512: and lower-case hexadecimal") from error

    @property
    def is_manifest(self) -> bool:
        return is_manifest(self.media_type)


def _is_header_text(text: str) -> bool:
    """Whether a text breaks no header, log line or UTF-8; less strict than RFC 6838, section 4.2."""
    return bool(text.strip()) and text.isascii() and text.isprintable()
