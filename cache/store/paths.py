"""Paths of blobs by digest, and back; pure.

<root>/sha256/ab/abcdef…        one blob, 256 folders by the first two digits
<root>/sha512/01/0123…
"""

from pathlib import Path

from cache.oci.digest import Digest
from cache.oci.errors import DigestInvalid


def blob_path(root: Path, digest: Digest) -> Path:
    return root / digest.algorithm / digest.hex[:2] / digest.hex


def blob_digest(path: Path) -> Digest | None:
    """Digest of the blob at a path; None for a file that holds no blob."""
    try:
        digest = Digest.parse(f"{path.parent.parent.name}:{path.name}")
    except DigestInvalid:
        return None
    return digest if path.parent.name == digest.hex[:2] else None
