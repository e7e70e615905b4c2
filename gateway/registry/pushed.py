"""Pushed manifests: what one refers to, which of that its repository has, and the refusal that names the rest."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.document import OFF_LOOP_BYTES
from cache.oci.errors import ManifestBlobUnknown, ManifestInvalid
from cache.oci.manifest import Manifest
from cache.oci.names import RepositoryName
from gateway.db import blobs, manifests
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.db.manifests import NewManifest, Reference
from gateway.registry.referrers import artifact_type

REFERENCE_LIMIT = 10_000
"""Descriptors in one manifest. Images have at most 127 layers, build caches hundreds."""

NAMED_LIMIT = 20
"""Missing digests that a refusal names, and for which other repositories are looked for."""

HOLDERS_LIMIT = 5
"""Other repositories that are considered for one digest."""

Readable = Callable[[str], Awaitable[bool]]
"""Tells whether whoever pushes may read the repository of a path."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A reference to what the repository does not have."""

    digest: Digest
    is_manifest: bool


class ReferencesMissing(Exception):
    """A manifest cannot be stored, since its repository does not have what it refers to."""

    def __init__(self, missing: Sequence[Missing]) -> None:
        super().__init__(missing)
        self.missing = missing


async def read_pushed(manifest: Manifest) -> NewManifest:
    """Make the row of a pushed manifest, as yet without its references. Raises ManifestInvalid."""
    count = len(manifest.references())
    if count > REFERENCE_LIMIT:
        raise ManifestInvalid(f"the manifest refers to {count} manifests and blobs: {REFERENCE_LIMIT} are allowed")
    if len(manifest.raw) > OFF_LOOP_BYTES:
        kind = await asyncio.to_thread(artifact_type, manifest)
    else:
        kind = artifact_type(manifest)
    subject = manifest.subject.digest if manifest.subject else None
    return NewManifest(manifest.descriptor, manifest.raw, subject=subject, artifact_type=kind)


async def find_references(connection: Connection, repository_id: int, manifest: Manifest) -> list[Reference]:
    """Find in a repository what a manifest refers to. Raises ReferencesMissing, which names all that is not there.

    The entries of an index are manifests or blobs by their media types: build caches are indexes that list layers. A
    config or a layer is a blob by its place, but some clients push one with the media type of a manifest as such. A
    layer that no registry distributes may be missing.
    """
    entries = {entry.digest: entry for entry in reversed(manifest.references())}
    named_manifests = [entry.digest for entry in entries.values() if entry.is_manifest]
    absent_manifests = await manifests.missing(connection, repository_id, named_manifests) if named_manifests else set()
    children = {child.digest for child in manifest.children}
    wanted_blobs = [
        entry.digest
        for entry in entries.values()
        if not entry.is_manifest or (entry.digest in absent_manifests and entry.digest not in children)
    ]
    absent_blobs = await blobs.missing(connection, repository_id, wanted_blobs) if wanted_blobs else set()
    found, missing = list[Reference](), list[Missing]()
    for digest, entry in entries.items():
        is_manifest = entry.is_manifest and digest not in absent_manifests
        if is_manifest or (digest not in absent_blobs and not (entry.is_manifest and digest in children)):
            found.append(Reference(digest, is_manifest))
        elif not _may_be_missing(entry, manifest):
            missing.append(Missing(digest, entry.is_manifest))
    if missing:
        raise ReferencesMissing(missing)
    return found


def _may_be_missing(entry: Descriptor, manifest: Manifest) -> bool:
    return not entry.is_distributable and entry in manifest.layers


async def explain_missing(
    missing: Sequence[Missing], name: RepositoryName, database: Database, readable: Readable | None
) -> ManifestBlobUnknown:
    """Make the refusal that names the first missing references, and for each a repository that has it and may be read.

    `readable`: None where no other repository may be named. Raises DatabaseUnusable.
    """
    named = []
    for reference in missing[:NAMED_LIMIT]:
        kind = "manifest" if reference.is_manifest else "blob"
        holder = None
        if readable is not None:
            holder = await _find_holder(reference, name, database, readable)
        named.append(f"{kind} {reference.digest}" + (f" (repository {holder} has it)" if holder else ""))
    count = len(missing)
    more = f", and {count - NAMED_LIMIT} more" if count > NAMED_LIMIT else ""
    return ManifestBlobUnknown(
        f"blob unknown to registry: {name} does not have {count} reference{'s' if count > 1 else ''} of the manifest; "
        f"push {'them' if count > 1 else 'it'} to {name} first, or mount {'them' if count > 1 else 'it'}: "
        f"{', '.join(named)}{more}"
    )


async def _find_holder(reference: Missing, name: RepositoryName, database: Database, readable: Readable) -> str | None:
    holders = manifests.repositories_with if reference.is_manifest else blobs.repositories_with
    async with database.read() as connection:
        paths = await holders(connection, reference.digest, HOLDERS_LIMIT)
    for path in paths:
        if path != name.text and await readable(path):
            return path
    return None
