"""Upgrade of the database to the revision that this version needs, with a copy of an SQLite file as it was before.

An upgrade cannot be undone, and an older version may refuse what it has made. So none happens while a server, which may
be of an older version, uses the data folder, and the copy is there before anything is changed:

1. The file is copied to the folder `upgrade.draft`, checked and synced, while nobody writes to it.
2. The folder is renamed to `before-upgrade-TIME`, which is kept.
3. The migrations run in one transaction.

What is killed before step 2 has changed nothing, and its draft is deleted by the next upgrade.
"""

import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cache import sqlite
from cache.runtime.disk import sync_folder
from gateway.data_folder import server_lock
from gateway.db.address import DatabaseAddress
from gateway.db.revisions import needed_revision
from gateway.db.setup import read_revision, upgrade
from gateway.maintenance.restore import DataFolderBusy

COPY_PREFIX = "before-upgrade-"
_DRAFT = "upgrade.draft"


@dataclass(frozen=True, slots=True)
class DatabaseUpgrade:
    """An upgrade that was done. `copy`: of the SQLite file as it was before; None without one."""

    before: str
    after: str
    copy: Path | None


async def upgrade_database(
    data: Path, address: DatabaseAddress, now: datetime, keep_copy: bool = True
) -> DatabaseUpgrade | None:
    """Upgrade the database where it is older than this version needs; an empty one is set up.

    Returns None where nothing was there to upgrade. Raises DataFolderBusy if a server uses the data folder of an SQLite
    file that is older, DatabaseUnusable, OSError if no copy can be made.
    """
    if not isinstance(address, Path):
        before = await upgrade(address)
        return None if before is None else DatabaseUpgrade(before, needed_revision(), None)
    found = (await read_revision(address)).number if address.exists() else None
    if found is None or found == needed_revision():
        await upgrade(address)
        return None
    with server_lock(data) as free:
        if not free:
            raise DataFolderBusy(
                f"{address} has revision {found}, and a server uses its data folder: stop that before the upgrade"
            )
        copies: list[Path] = []
        before = await upgrade(address, lambda: copies.append(_copy(data, address, now)) if keep_copy else None)
    return None if before is None else DatabaseUpgrade(before, needed_revision(), next(iter(copies), None))


def _copy(data: Path, file: Path, now: datetime) -> Path:
    """Copy the file into a folder of its own, and return the copy. Raises OSError, DatabaseUnusable."""
    draft, kept = data / _DRAFT, data / f"{COPY_PREFIX}{now:%Y%m%dT%H%M%S.%fZ}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    try:
        sqlite.copy(file, draft / file.name)
        sync_folder(draft)
        draft.rename(kept)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    sync_folder(data)
    return kept / file.name
