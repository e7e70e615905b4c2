"""Inventory: what native repositories and tags there are, part by part, for whoever looks after them.

Nothing is decided here: the caller knows what its reader may see.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TypeVar

from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.oci.names import Tag
from gateway.db import (
    cleanups,
    found_images,
    manifests,
    projects,
    repositories,
    repository_figures,
    repository_lists,
    tag_events,
    tag_lists,
    tags,
)
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.db.found_images import FoundImage
from gateway.db.manifests import StoredManifest
from gateway.db.repositories import DeletedRepository, StoredRepository
from gateway.db.repository_lists import RepositoryOrder
from gateway.db.tag_events import TagEvent
from gateway.db.tag_lists import TagSelection
from gateway.db.tags import DatedName, StoredTag
from gateway.db.windows import ListPart, ListWindow, read_part
from gateway.namespaces.reach import PullReach
from gateway.registry.image_details import ImageDetails, image_details
from gateway.registry.image_size import size_of
from gateway.registry.storage_errors import database_errors
from gateway.registry.tag_summaries import TagSummary, summarize

T = TypeVar("T")

SUMMED_TAGS = 5_000
"""Tags of a repository whose bytes are summed for a list."""


@dataclass(frozen=True, slots=True)
class TagDetails:
    """A tag, and the manifest that it points to: its media type, the digest of its config, None where it has none, and
    the size of its layers in bytes, None where that is not known."""

    stored: StoredTag
    media_type: str
    config: Digest | None
    size: int | None


@dataclass(frozen=True, slots=True)
class ListedFigures:
    """What a list says of a repository: its tags, the bytes of its content, each blob counted once, None where they are
    not summed, and when a tag of it moved last, None where it has none."""

    tags: int
    bytes: int | None
    published_at: datetime | None


class Inventory:
    """Lists and details of native repositories, read from the database. Raises only RegistryError."""

    def __init__(self, database: Database, parse: Callable[[StoredManifest], Awaitable[Manifest]]) -> None:
        """`parse`: reads a manifest as the database has it."""
        self._database = database
        self._parse = parse

    async def find(self, id: int) -> StoredRepository | None:
        """Find a repository by its id; None for a deleted one."""
        with database_errors():
            return await self._database.query(partial(repositories.find_by_id, id=id))

    async def find_deleted(self, id: int) -> DeletedRepository | None:
        """Find a deleted repository that is not purged yet."""
        with database_errors():
            return await self._database.query(partial(repositories.find_deleted_by_id, id=id))

    async def deleted_of(self, project_id: int, window: ListWindow, *, counted: bool) -> ListPart[DeletedRepository]:
        """A part of the deleted repositories of a project that can be restored."""

        async def rows(connection: Connection, window: ListWindow) -> list[DeletedRepository]:
            return await repository_lists.list_deleted(connection, project_id, window)

        async def total(connection: Connection) -> int:
            return await repository_lists.count_deleted(connection, project_id, window.search)

        return await self._part(rows, total, window, counted)

    async def repositories_of(
        self, project_id: int, order: RepositoryOrder, window: ListWindow, *, counted: bool
    ) -> ListPart[StoredRepository]:
        """A part of the repositories of a project. `counted`: whether the total is wanted."""

        async def rows(connection: Connection, window: ListWindow) -> list[StoredRepository]:
            return await repository_lists.list_of_project(connection, project_id, order, window)

        async def total(connection: Connection) -> int:
            return await repository_lists.count_of_project(connection, project_id, window.search)

        return await self._part(rows, total, window, counted)

    async def repositories_below(
        self, group: str, reach: PullReach, order: RepositoryOrder, window: ListWindow, *, counted: bool
    ) -> ListPart[StoredRepository]:
        """A part of the repositories below a group whose projects are in a person's reach."""

        async def rows(connection: Connection, window: ListWindow) -> list[StoredRepository]:
            return await repository_lists.list_below(connection, group, reach, order, window)

        async def total(connection: Connection) -> int:
            return await repository_lists.count_below(connection, group, reach, window.search)

        return await self._part(rows, total, window, counted)

    async def with_tags(self, reach: PullReach, prefix: str, limit: int) -> list[FoundImage]:
        """Repositories in a person's reach with tags whose names begin with a text, each with the first of them."""
        with database_errors():
            return await self._database.query(partial(found_images.with_tags, reach=reach, prefix=prefix, limit=limit))

    async def with_digest(self, reach: PullReach, digest: Digest, limit: int) -> list[FoundImage]:
        """Images in a person's reach that have a digest."""
        find = partial(found_images.with_digest, reach=reach, digest=str(digest), limit=limit)
        with database_errors():
            return await self._database.query(find)

    async def published_last(self, reach: PullReach, limit: int) -> list[FoundImage]:
        """The repositories in a person's reach in which a tag moved last, with that tag."""
        with database_errors():
            return await self._database.query(partial(found_images.published_last, reach=reach, limit=limit))

    async def reaches_below(self, reach: PullReach, group: str) -> bool:
        """Whether a person's reach has a project below a group."""
        with database_errors():
            return await self._database.query(partial(projects.is_any_viewable, reach=reach, below=group))

    async def tags(self, repository_id: int, window: ListWindow, *, counted: bool) -> ListPart[str]:
        """A part of the names of a repository's tags."""

        async def rows(connection: Connection, window: ListWindow) -> list[str]:
            return await tags.list_window(connection, repository_id, window)

        async def total(connection: Connection) -> int:
            return await tags.count_all(connection, repository_id, window.search)

        async def rest(connection: Connection, last: str) -> int:
            return await tags.count_after(connection, repository_id, window, last)

        return await self._part(rows, total, window, counted, rest)

    async def dated_tags(
        self, repository_id: int, window: ListWindow, after: DatedName | None, *, counted: bool
    ) -> ListPart[DatedName]:
        """A part of a repository's tags by when they last moved. `after`: the tag after which it begins; only without
        a total."""

        async def rows(connection: Connection, window: ListWindow) -> list[DatedName]:
            return await tags.list_dated(connection, repository_id, window, after)

        async def total(connection: Connection) -> int:
            return await tags.count_all(connection, repository_id, window.search)

        async def rest(connection: Connection, last: DatedName) -> int:
            return await tags.count_after(connection, repository_id, window, last)

        return await self._part(rows, total, window, counted, rest)

    async def tag(self, repository_id: int, tag: Tag) -> TagDetails | None:
        """Find a tag with the details of its image; None if there is none."""

        async def read(connection: Connection) -> tuple[StoredTag, StoredManifest] | None:
            if (found := await tags.find_details(connection, repository_id, tag)) is None:
                return None
            stored = await manifests.find(connection, repository_id, found.digest)
            return None if stored is None else (found, stored)

        with database_errors():
            both = await self._database.query(read)
            if both is None:
                return None
            manifest = await self._parse(both[1])
            size = await size_of(self._database, repository_id, manifest)
        config = manifest.config.digest if manifest.config else None
        return TagDetails(both[0], manifest.descriptor.media_type, config, size)

    async def tag_events(
        self, repository_id: int, tag: Tag, window: ListWindow, *, counted: bool
    ) -> ListPart[TagEvent]:
        """A part of the history of a tag."""

        async def rows(connection: Connection, window: ListWindow) -> list[TagEvent]:
            return await tag_events.list_window(connection, repository_id, tag, window)

        async def total(connection: Connection) -> int:
            return await tag_events.count_of(connection, repository_id, tag)

        return await self._part(rows, total, window, counted)

    async def cleanups_started(self, ids: Collection[int]) -> dict[int, datetime]:
        """When a cleanup policy came last to those of some repositories that one has come to, by their ids."""
        with database_errors():
            async with self._database.read() as connection:
                return await cleanups.started_at(connection, ids)

    async def summaries(self, repository_id: int, names: Sequence[str]) -> list[TagSummary]:
        """Summarise those of the names that are tags of a repository, in their order."""
        with database_errors():
            return await summarize(self._database, repository_id, names)

    async def figures(self, ids: Collection[int]) -> dict[int, ListedFigures]:
        """Count what each of some repositories holds, and find out when something was published there, by their ids.

        The bytes of one with more than SUMMED_TAGS tags are not summed: that would take longer than a page may.
        """
        with database_errors():
            async with self._database.read() as connection:
                counts = await repository_figures.tag_counts_of(connection, ids)
                published = await repository_figures.last_published(connection, ids)
                small = [id for id, count in counts.items() if count <= SUMMED_TAGS]
                summed = await repository_figures.figures_of(connection, small)
        return {
            id: ListedFigures(count, summed[id].bytes if id in summed else None, published.get(id))
            for id, count in counts.items()
        }

    async def tag_counts(self, ids: Collection[int]) -> dict[int, int]:
        """Count the tags of some repositories, by their ids."""
        with database_errors():
            async with self._database.read() as connection:
                return await repository_figures.tag_counts_of(connection, ids)

    async def size(self, id: int) -> int:
        """Sum the bytes of the blobs of a repository, each counted once, and of its manifests."""
        with database_errors():
            async with self._database.read() as connection:
                return (await repository_figures.figures_of(connection, [id]))[id].bytes

    async def size_below(self, project_id: int, path: str) -> int | None:
        """Sum the bytes of the repositories of a project at and below a path, each blob once; None where there are
        none."""
        with database_errors():
            async with self._database.read() as connection:
                ids = await repository_lists.list_ids_below(connection, project_id, path)
                return await repository_figures.bytes_of_all(connection, ids) if ids else None

    async def tagged_below(self, project_id: int, path: str, after: str, limit: int) -> list[StoredRepository]:
        """The first repositories of a project at and below a path that have a tag, after a path."""
        listed = partial(repository_lists.list_tagged, project_id=project_id, path=path, after=after, limit=limit)
        with database_errors():
            return await self._database.query(listed)

    async def selected_tags(self, repository_id: int, wanted: TagSelection) -> list[StoredTag]:
        """The tags of a selection, as `tag_lists.list_selected` lists them."""
        listed = partial(tag_lists.list_selected, repository_id=repository_id, wanted=wanted)
        with database_errors():
            return await self._database.query(listed)

    async def images(self, repository_id: int, digests: Collection[Digest]) -> dict[Digest, ImageDetails]:
        """Describe those of the digests of which a repository has manifests."""
        with database_errors():
            return await image_details(self._database, repository_id, digests)

    async def referrers_of(
        self, repository_id: int, subjects: Collection[Digest], types: Collection[str] | None, limit: int
    ) -> dict[Digest, list[tuple[str | None, Digest]]]:
        """What refers to some images, as `tag_lists.referrers_of` finds it."""
        with database_errors():
            async with self._database.read() as connection:
                return await tag_lists.referrers_of(connection, repository_id, subjects, types, limit)

    async def _part(
        self,
        rows: Callable[[Connection, ListWindow], Awaitable[Sequence[T]]],
        total: Callable[[Connection], Awaitable[int]],
        window: ListWindow,
        counted: bool,
        rest: Callable[[Connection, T], Awaitable[int]] | None = None,
    ) -> ListPart[T]:
        """Read a part as `read_part` does, in one state of the database."""
        with database_errors():
            async with self._database.read() as connection:
                return await read_part(connection, rows, total, window, counted=counted, rest=rest)
