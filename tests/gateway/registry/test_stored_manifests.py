"""Manifests for lists are read a few at a time, however many a list shows."""

from pathlib import Path

from cache.oci.digest import Digest
from cache.oci.names import RepositoryName
from gateway.cli import folder
from gateway.registry.stored_manifests import read_in_parts
from gateway.settings.tables import Settings
from tests.gateway.v2.pushing import open_surface
from tests.parts.images import digest_of


async def test_many_are_read_in_parts_and_each_once(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with open_surface(data) as surface:
        pushed = [await surface.push_image("team/app", text=str(number)) for number in range(20)]
        repository = await surface.services.native.find(RepositoryName("team/app"))
        assert repository is not None
        wanted = [Digest.parse(text) for text in (*pushed, *pushed, digest_of(b"absent"))]
    async with folder.open_made(Settings.model_validate({"data": str(data)})) as database:
        parts = [part async for part in read_in_parts(database, repository.id, wanted)]
    assert max(map(len, parts)) <= 16
    assert sorted(str(one.descriptor.digest) for part in parts for one in part) == sorted(pushed)
