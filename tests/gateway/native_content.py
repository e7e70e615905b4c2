"""Native content of a data folder, stored as a push leaves it: rows in gateway.db, and files of blobs."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.names import RepositoryName, Tag
from cache.store.paths import blob_path
from gateway.data_folder import NativeFolder
from gateway.db import blobs, manifests, projects, repositories, tags
from gateway.db.engine import Database
from gateway.db.manifests import NewManifest, Reference

PUSHED = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
IMAGE = "application/vnd.oci.image.manifest.v1+json"


def blob_file(data: Path, digest: Digest) -> Path:
    return blob_path(NativeFolder(data).blobs, digest)


def write_blob(data: Path, content: bytes, algorithm: str = "sha256") -> Digest:
    """Write the file of a blob, for which no row exists yet."""
    digest = Digest.of(content, algorithm)
    path = blob_file(data, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return digest


def push(
    data: Path, project: str, path: str, layers: Sequence[bytes], *names: str, algorithm: str = "sha256"
) -> Digest:
    """Store an image with these layers in a repository of an existing project; return the digest of its manifest."""
    raw = json.dumps({"schemaVersion": 2, "mediaType": IMAGE, "layers": [len(layer) for layer in layers]}).encode()
    digests = {write_blob(data, layer, algorithm): len(layer) for layer in layers}

    async def store() -> Digest:
        async with Database.open(data / "gateway.db") as database, database.write() as connection:
            owner = await projects.get(connection, project)
            repository = await repositories.find_or_create(connection, owner.id, RepositoryName.parse(path), PUSHED)
            for digest, size in digests.items():
                await blobs.link(connection, repository.id, digest, size, PUSHED)
            described = Descriptor(IMAGE, Digest.of(raw), len(raw))
            manifest = NewManifest(described, raw, [Reference(digest, False) for digest in digests])
            number = await manifests.put(connection, repository.id, manifest, PUSHED)
            for name in names:
                await tags.point(connection, repository.id, Tag.parse(name), number, PUSHED, "ada")
            return described.digest

    return asyncio.run(store())
