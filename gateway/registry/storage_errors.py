"""Errors of the disk and the database below the native store, as the refusals that clients are told."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from cache.oci.errors import RegistryError, StorageFull, StoreUnavailable
from cache.runtime.disk import disk_space, is_disk_full
from cache.runtime.throttle import LogThrottle
from cache.sqlite import DatabaseUnusable
from cache.store.spool import MakeRoom

log = structlog.get_logger()
_throttle = LogThrottle()

DATABASE_ROOM = 256 * 1024
"""Free bytes without which a failure of the database is put down to the disk: SQLite has several words for it."""


_FULL = "this server has no room left: nothing of this request was kept; push again once there is room"


def storage_error(error: OSError) -> RegistryError:
    """The refusal of a request for which the disk, or this process, had no room, or failed."""
    if is_disk_full(error):
        return StorageFull(_FULL)
    log.error("native_storage_failed", reason=str(error))
    return StoreUnavailable("the storage of this server failed: push again")


class database_errors:
    """Raise StoreUnavailable for a DatabaseUnusable within the block; each pull enters two, and contextlib takes three
    times as long."""

    __slots__ = ()

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, DatabaseUnusable):
            return
        if _throttle.due("database"):
            log.error("native_store_unusable", reason=str(error))
        raise StoreUnavailable("this server's own database does not respond; its log states why") from error


def make_database_room(folder: Path, make_room: MakeRoom) -> bool:
    """Make room for a database where the file system of a folder has none left; whether there is some now."""
    return disk_space(folder).lacks(DATABASE_ROOM, 1) and make_room(DATABASE_ROOM) > 0


@contextmanager
def full_disk_named(folder: Path) -> Iterator[None]:
    """Raise StorageFull for a DatabaseUnusable within the block while the file system of a folder has no room left."""
    try:
        yield
    except DatabaseUnusable as error:
        if disk_space(folder).lacks(DATABASE_ROOM, 1):
            raise StorageFull(_FULL) from error
        raise
