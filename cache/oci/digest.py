"""Digest: the name of content."""

import hashlib
import re
from dataclasses import dataclass
from typing import Protocol

from cache.oci.errors import DigestInvalid

_LENGTHS = {"sha256": 64, "sha512": 128}
_HEX = re.compile(r"[0-9a-f]+")


class Hasher(Protocol):
    """Part of the interface of hashlib's objects that the cache uses."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """`algorithm:hex`, lower case; sha256 and sha512 (image-spec, descriptor.md, "Registered Algorithms")."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> "Digest":
        """Parse `sha256:` with 64 lower-case hex digits, or `sha512:` with 128. Raises DigestInvalid."""
        algorithm, colon, hex_ = text.partition(":")
        length = _LENGTHS.get(algorithm)
        if not colon or length is None:
            raise DigestInvalid(f"{text[:150]!r} does not begin with sha256: or sha512:")
        if len(hex_) != length or not _HEX.fullmatch(hex_):
            raise DigestInvalid(f"{text[:150]!r} must have {length} lower-case hexadecimal digits after {algorithm}:")
        return cls(algorithm, hex_)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> "Digest":
        return cls(algorithm, hashlib.new(algorithm, data).hexdigest())

    def hasher(self) -> Hasher:
        """A fresh hash of this digest's algorithm."""
        return hashlib.new(self.algorithm)

    def holds_for(self, data: bytes) -> bool:
        return Digest.of(data, self.algorithm) == self

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"
