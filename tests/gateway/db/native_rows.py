"""Rows of the native store for tests of what belongs to them."""

import json

from sqlalchemy.ext.asyncio import AsyncConnection

from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.media_types import OCI_MANIFEST
from cache.oci.names import RepositoryName
from gateway.db import repositories
from gateway.db.manifests import NewManifest, Reference
from gateway.db.repositories import StoredRepository
from tests.gateway.db.identity_rows import NOW, add_group, add_project


async def add_repository(connection: AsyncConnection, path: str = "team/app") -> StoredRepository:
    """Store a group, a project in it and a repository of the project, all by the path."""
    await add_group(connection, path.partition("/")[0])
    project = await add_project(connection, path)
    return await repositories.find_or_create(connection, project.id, RepositoryName(path), NOW)


def new_manifest(
    content: str = "one",
    *references: Reference,
    subject: Digest | None = None,
    artifact_type: str | None = None,
    media_type: str = OCI_MANIFEST,
) -> NewManifest:
    """A document with some text in it; the references need not stand there."""
    raw = json.dumps({"schemaVersion": 2, "text": content}).encode()
    return NewManifest(Descriptor(media_type, Digest.of(raw), len(raw)), raw, references, subject, artifact_type)
