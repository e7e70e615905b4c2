"""Native stores over one database, as several workers open them, and what tests push to them."""

import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cache.lease.local import LocalLeases
from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.oci.media_types import OCI_INDEX, OCI_MANIFEST
from cache.store.filesystem import FilesystemStore
from cache.store.quarantine import Quarantine
from gateway.db.engine import Database
from gateway.registry.base import WritableRepository
from gateway.registry.intake import NativeBlobs
from gateway.registry.native_store import NativeStore
from gateway.registry.threads import UploadThreads
from gateway.registry.uploads import Uploads
from tests.gateway.registry.opened import NOW

OWNER = "user 1"
KEPT = timedelta(days=1)
LAYER = "application/vnd.oci.image.layer.v1.tar"
CONFIG = "application/vnd.oci.image.config.v1+json"


@asynccontextmanager
async def open_store(
    database: Database, data: Path, clock: Callable[[], datetime] = lambda: NOW
) -> AsyncIterator[NativeStore]:
    """Open the native store of a data folder as one process does, with a database of its own."""
    folder, threads = data / "spool" / "uploads", UploadThreads()
    folder.mkdir(parents=True, exist_ok=True)
    store = FilesystemStore(data / "blobs", Quarantine(data / "quarantine"))
    leases = LocalLeases(folder.parent / "leases")
    try:
        yield NativeStore(Uploads(NativeBlobs(database, store, leases, threads, clock), folder), KEPT)
    finally:
        threads.close()


async def push_blob(repository: WritableRepository, content: bytes) -> Digest:
    """Push a blob and return its digest."""

    async def body() -> AsyncIterator[bytes]:
        yield content

    session, digest = await repository.begin_upload(OWNER), Digest.of(content)
    await session.append(body())
    await session.commit(digest)
    return digest


async def push_image(repository: WritableRepository, text: str, *tags: Any, **fields: Any) -> Manifest:
    """Push an image of a config and a layer, which hold the text, with its blobs."""
    blobs = [await push_blob(repository, f"{part} of {text}".encode()) for part in ("config", "layer")]
    manifest = image(entry(CONFIG, blobs[0]), [entry(LAYER, blobs[1])], **fields)
    await repository.put_manifest(manifest, tags)
    return manifest


def entry(media_type: str, digest: Digest, **fields: Any) -> dict[str, Any]:
    """A descriptor as documents have it; sizes are of no interest here."""
    return {"mediaType": media_type, "digest": str(digest), "size": 7, **fields}


def descriptor_of(manifest: Manifest) -> dict[str, Any]:
    """The descriptor of a manifest as documents have it."""
    own = manifest.descriptor
    return {"mediaType": own.media_type, "digest": str(own.digest), "size": own.size}


def image(config: dict[str, Any], layers: Iterable[dict[str, Any]], **fields: Any) -> Manifest:
    return parsed(OCI_MANIFEST, {"config": config, "layers": list(layers), **fields})


def index(entries: Iterable[dict[str, Any]], **fields: Any) -> Manifest:
    return parsed(OCI_INDEX, {"manifests": list(entries), **fields})


def parsed(media_type: str, fields: dict[str, Any]) -> Manifest:
    """The manifest that a document of this media type is."""
    document = {"schemaVersion": 2, "mediaType": media_type, **fields}
    return Manifest.parse(media_type, json.dumps(document).encode())
