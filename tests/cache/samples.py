"""Values that the tests of cache/ speak of."""

import contextlib
import ctypes
import gc
import json
import os
from datetime import UTC, datetime
from pathlib import Path

from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.oci.media_types import OCI_INDEX, OCI_MANIFEST
from cache.oci.names import RepositoryName, Tag
from cache.values import CredentialId, Origin, Source
from tests.parts.images import seeded

ORIGIN = Origin("https", "registry.example", 443)
ANONYMOUS = Source(ORIGIN)
ALICE = Source(ORIGIN, CredentialId("alice"))
ELSEWHERE = Source(Origin("https", "other.example", 443))
APP = RepositoryName("acme/app")
WEB = RepositoryName("acme/web")
LATEST = Tag("latest")
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def manifest_of(seed: str, algorithm: str = "sha256") -> Manifest:
    """A small image manifest; another seed, another digest."""
    config = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": str(Digest.of(seed.encode())),
        "size": len(seed),
    }
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": []}
    return Manifest.parse(OCI_MANIFEST, json.dumps(document).encode(), algorithm)


def index_of(*children: Manifest) -> Manifest:
    entries = [
        {"mediaType": child.descriptor.media_type, "digest": str(child.descriptor.digest), "size": len(child.raw)}
        for child in children
    ]
    return Manifest.parse(OCI_INDEX, json.dumps({"schemaVersion": 2, "manifests": entries}).encode())


def blob_of(size: int, algorithm: str = "sha256", seed: str = "blob") -> tuple[bytes, Digest]:
    content = seeded(seed, size)
    return content, Digest.of(content, algorithm)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def resident_bytes() -> int:
    """Memory of this process that is in use, without what the allocator would give back."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
