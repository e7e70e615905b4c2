"""NativeStore: opens native repositories, and finds them for lists."""

import asyncio
from collections.abc import Callable, Collection
from datetime import timedelta
from functools import partial

import structlog

from cache.oci.digest import Digest
from cache.oci.document import OFF_LOOP_BYTES
from cache.oci.errors import StoreUnavailable
from cache.oci.manifest import Manifest
from cache.oci.names import RepositoryName
from cache.runtime.fair_queue import NOBODY, Requester
from gateway.auth.protection import TagGuard
from gateway.db import blobs, old_paths, projects, repositories
from gateway.db.connection import Connection
from gateway.db.manifests import StoredManifest
from gateway.db.repositories import StoredRepository
from gateway.namespaces.old_path import Former
from gateway.namespaces.project import Project, unknown_project
from gateway.namespaces.reach import PullReach
from gateway.registry.administration import Administration
from gateway.registry.blob_files import BlobFiles
from gateway.registry.bulk_deletion import BulkDeleter
from gateway.registry.cleanup_policies import StoredPolicies
from gateway.registry.inventory import Inventory
from gateway.registry.memory import NativeMemory
from gateway.registry.native import NativeRepository
from gateway.registry.parts import NativeParts
from gateway.registry.protection_rules import ProtectionRules
from gateway.registry.pushed import Readable
from gateway.registry.storage_errors import database_errors
from gateway.registry.stored_sources import StoredSources
from gateway.registry.uploads import Uploads

log = structlog.get_logger()


class NativeStore:
    """The native repositories of one data folder, as one process uses them. Raises only RegistryError."""

    def __init__(self, uploads: Uploads, kept: timedelta) -> None:
        """`uploads`: name the database and the store of blobs, too. `kept`: how long content stays at least that
        nothing needs."""
        native = uploads.native
        self.uploads = uploads
        self._database = native.database
        memory = NativeMemory(native.database, parse_stored)
        files, sources = BlobFiles(native.store), StoredSources(native)
        self._parts = NativeParts(native.database, uploads, files, sources, memory, native.clock, kept)
        self.inventory = Inventory(native.database, parse_stored)
        self.administration = Administration(native.database, native.clock, kept)
        self.bulk = BulkDeleter(native.database, native.clock)
        self.protection_rules = ProtectionRules(native.database, native.clock)
        self.policies = StoredPolicies(native.database, native.clock)

    def repository(
        self,
        project: Project,
        name: RepositoryName,
        readable: Readable | None = None,
        who: Requester = NOBODY,
        actor: str = "",
        found: StoredRepository | None = None,
        guard: TagGuard | None = None,
    ) -> NativeRepository:
        """Open a repository of a project, which may not exist yet; the caller has located the name in the project.

        `readable`: tells which other repositories whoever pushes may read, for refusals that name one; None for none.
        `who`: takes turns with others. `actor`: whom the history of tags names. `found`: what `find` has returned for
        the same request. `guard`: what the project's rules for tags let whoever uses it do; None where nobody has
        decided: then what they protect at all is refused.
        """
        return NativeRepository(self._parts, project, name, readable, who, actor, found, guard)

    async def find(self, name: RepositoryName) -> StoredRepository | None:
        """Find a repository by its name, as it is now."""
        with database_errors():
            await self._parts.memory.require_newest()
            return await self._parts.memory.repository(name)

    async def former(self, name: RepositoryName) -> Former | None:
        """What a name leads to that `find` does not find, if it is the old one of something that has moved."""
        with database_errors():
            return await self._parts.memory.former(name)

    async def forget_old_paths(self) -> None:
        """Forget the old paths of what has moved that have ended."""
        now = self._parts.clock()
        with database_errors():
            if await self._database.query(partial(old_paths.any_ended, now=now)):
                await self._database.transact(partial(old_paths.sweep, now=now))

    async def create_project(self, path: str, created_by: int) -> None:
        """Create a private project for a push that lacks it; it is seen by this process when this returns.

        `created_by`: id of the user. Raises TreeError where the tree does not allow it.
        """
        with database_errors():
            try:
                async with self._database.write() as connection:
                    now = self._parts.clock()
                    await projects.create(connection, path, now, created_by=created_by)
            finally:  # where another process has created it too
                await self._database.changes.refresh()

    async def update_project(self, id: int, change: Callable[[Project], Project]) -> Project:
        """Change the switches of a project, as it is when the change is made; the change is seen by this process when
        this returns. Raises VisibilityRefused, ProjectUnknown."""

        async def update(connection: Connection) -> Project:
            project = await projects.find_by_id(connection, id)
            if project is None:
                raise unknown_project(str(id))
            changed = change(project)
            if changed != project:
                await projects.update(connection, changed)
            return changed

        with database_errors():
            return await self._database.transact(update)

    async def list_projects(
        self, reach: PullReach, after: str, limit: int, also: Collection[str] = ()
    ) -> list[tuple[int, str]]:
        """List the ids and paths of the first projects in reach after a path, as `projects.list_reached` does."""
        with database_errors():
            async with self._database.read() as connection:
                return await projects.list_reached(connection, reach, after, limit, also)

    async def list_repositories(self, project_ids: Collection[int], after: str, limit: int) -> list[str]:
        """List the paths of the first repositories of some projects after a path, in their byte order."""
        with database_errors():
            async with self._database.read() as connection:
                return await repositories.list_paths(connection, project_ids, after, limit)

    async def repositories_with(self, digest: Digest, limit: int) -> list[str]:
        """List the paths of the first `limit` repositories that have a blob, whoever may see them."""
        with database_errors():
            async with self._database.read() as connection:
                return await blobs.repositories_with(connection, digest, limit)


async def parse_stored(stored: StoredManifest) -> Manifest:
    """Read a stored manifest, and check that its bytes are those that were pushed. Raises StoreUnavailable."""
    if len(stored.raw) > OFF_LOOP_BYTES:
        return await asyncio.to_thread(_parse, stored)
    return _parse(stored)


def _parse(stored: StoredManifest) -> Manifest:
    digest = stored.descriptor.digest
    manifest = Manifest.parse(stored.descriptor.media_type, stored.raw, digest.algorithm)
    if manifest.descriptor.digest != digest:
        log.error("native_manifest_damaged", digest=str(digest))
        raise StoreUnavailable(f"the manifest {digest} is damaged in this server's database: restore a backup")
    return manifest
