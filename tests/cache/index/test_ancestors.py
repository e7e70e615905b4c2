"""Ancestors of a digest: what it costs to find them, whatever else the index knows, and what becomes of them."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

from cache.index.admin import CacheAdmin
from cache.index.ancestors import select_ancestors
from cache.index.images import find_image
from cache.index.sql import MIGRATIONS, SqlIndex
from cache.oci.digest import Digest
from cache.oci.names import Tag
from cache.sqlite import migrate, url
from cache.values import Ancestor, Link, TagPointer
from tests.cache.samples import ANONYMOUS, APP, LATEST, NOON, index_of, manifest_of

MANIFEST = manifest_of("one")
DIGEST = MANIFEST.descriptor.digest
CONFIG = MANIFEST.references()[0].digest
POINTER = TagPointer(ANONYMOUS, APP, LATEST, MANIFEST.descriptor, NOON)
LINK = Link(ANONYMOUS, APP, DIGEST)


@pytest.fixture
async def index(tmp_path: Path) -> AsyncIterator[SqlIndex]:
    index = SqlIndex(tmp_path / "cache.db", clock=NOON.timestamp)
    yield index
    index.close()


def steps(path: Path, digest: Digest) -> int:
    """Number of steps, in tens, that the database takes to find the ancestors."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    engine = create_engine(url("sqlite", path))
    with engine.connect() as connection:
        image_id = find_image(connection, ANONYMOUS, APP)
        connection.connection.driver_connection.set_progress_handler(step, 10)  # type: ignore[union-attr]
        select_ancestors(connection, image_id, digest, NOON.timestamp())
        connection.connection.driver_connection.set_progress_handler(None, 0)  # type: ignore[union-attr]
    engine.dispose()
    return count


@pytest.mark.parametrize("same", [True, False], ids=["of one digest", "of many digests"])
async def test_the_number_of_tags_costs_nothing(index: SqlIndex, same: bool) -> None:
    await index.record(MANIFEST, LINK, POINTER)
    before = steps(index.path, CONFIG)
    other = Digest.of(b"other")
    targets = (DIGEST if same else replace(other, hex=f"{number:064x}") for number in range(1000))
    await index.record(
        *(
            replace(POINTER, tag=Tag(f"t{number}"), target=replace(MANIFEST.descriptor, digest=target))
            for number, target in enumerate(targets)
        )
    )
    assert steps(index.path, CONFIG) <= before + 2


async def test_a_deleted_manifest_leads_to_nothing_any_more(index: SqlIndex) -> None:
    over = index_of(MANIFEST)
    await index.record(MANIFEST, over, LINK, replace(LINK, digest=over.descriptor.digest))
    assert len(await index.ancestors(ANONYMOUS, APP, CONFIG)) == 3
    await index.drop(over.descriptor.digest, lambda: False)
    assert await index.ancestors(ANONYMOUS, APP, CONFIG) == [Ancestor(CONFIG), Ancestor(DIGEST, CONFIG)]
    admin = CacheAdmin(index.path)
    assert admin.ancestors(ANONYMOUS, APP, CONFIG) == [Ancestor(CONFIG), Ancestor(DIGEST, CONFIG)]


@pytest.mark.usefixtures("real_migrations")
def test_the_manifests_of_an_older_version_lead_to_what_they_refer_to(tmp_path: Path) -> None:
    path, config = tmp_path / "cache.db", Config()
    config.set_main_option("script_location", MIGRATIONS)
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0005")
        rows = text("INSERT INTO manifests VALUES (:digest, :media_type, :raw), ('sha256:00', 'x', x'00')")
        values = {"digest": str(DIGEST), "media_type": MANIFEST.descriptor.media_type, "raw": MANIFEST.raw}
        connection.execute(rows, values)
    migrate(path, MIGRATIONS)
    SqlIndex(path).close()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT digest, parent FROM parents")).all() == [(str(CONFIG), str(DIGEST))]
    engine.dispose()
