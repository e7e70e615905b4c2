"""The native store of a server: what it makes in the data folder, and what it clears away there."""

import asyncio
import os
import stat
from pathlib import Path
from uuid import uuid4

import pytest

from cache.store.spool import no_room
from gateway.data_folder import NativeFolder
from gateway.db.engine import Database
from gateway.settings.tables import CollectionSettings, Settings
from gateway.wiring.from_settings import upload_limits
from gateway.wiring.native import open_native, sweeping_uploads
from tests.gateway.db.native_rows import add_repository

OWNER = "user 1"


async def swept(folder: Path, *kept: str) -> None:
    """Return when the folder holds these files alone."""
    async with asyncio.timeout(30):
        while True:
            if sorted(os.listdir(folder)) == sorted(kept):
                return
            await asyncio.sleep(0.01)


async def test_the_folders_of_native_content_are_made_for_this_user_alone(database: Database, tmp_path: Path) -> None:
    folder = NativeFolder(tmp_path)
    async with open_native(folder, database, no_room, CollectionSettings()):
        for made in (folder.blobs, folder.uploads):
            assert stat.S_IMODE(os.stat(made).st_mode) == 0o700


async def test_a_server_clears_away_what_ended_uploads_left_and_no_other(database: Database, tmp_path: Path) -> None:
    folder = NativeFolder(tmp_path)
    async with database.write() as connection:
        repository = await add_repository(connection)
    async with open_native(folder, database, no_room, CollectionSettings()) as native:
        ended, going_on = str(uuid4()), await native.uploads.begin(repository.id, OWNER)
        for name in (ended, going_on.id):
            (folder.uploads / name).write_bytes(b"some bytes")
        async with sweeping_uploads(native):
            await swept(folder.uploads, going_on.id)
        found = await native.uploads.find(going_on.id, repository.id, OWNER)
        assert found.received == len(b"some bytes")


@pytest.mark.parametrize(("text", "limit"), [("64KiB", 65536), ("0", 0)])
def test_the_largest_blob_is_a_setting(text: str, limit: int) -> None:
    assert upload_limits(Settings.model_validate({"native": {"max_blob": text}})).blob_bytes == limit
