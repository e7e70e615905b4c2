"""CacheMaintenance: the usage file beside the index, whatever becomes of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cache.index.maintenance import CacheMaintenance
from cache.index.sql import MIGRATIONS
from cache.index.usage import UsageFile
from cache.sqlite import migrate


@pytest.fixture
def usage(tmp_path: Path) -> UsageFile:
    return UsageFile(tmp_path / "usage.db")


@pytest.fixture
def maintenance(tmp_path: Path, usage: UsageFile) -> Iterator[CacheMaintenance]:
    migrate(tmp_path / "cache.db", MIGRATIONS)
    maintenance = CacheMaintenance(tmp_path / "cache.db", usage)
    maintenance.prepare_usage()
    yield maintenance
    maintenance.close()


def beside(usage: UsageFile) -> list[Path]:
    return list(usage.path.parent.glob(f"{usage.path.name}-*"))


def test_a_usage_file_that_is_damaged_later_is_replaced(maintenance: CacheMaintenance, usage: UsageFile) -> None:
    maintenance.close()  # so that the next connection reads the file again
    usage.path.write_bytes(b"no database" * 10_000)
    assert maintenance.least_checked(0.0, 10) == []
    assert usage.last_used() == {}


def test_a_usage_file_that_is_deleted_later_is_made_again(maintenance: CacheMaintenance, usage: UsageFile) -> None:
    for file in (usage.path, *beside(usage)):
        file.unlink()
    maintenance.tidy_usage("sha256:ab", 1.0, 0.0)
    assert usage.path.exists()
    assert maintenance.least_checked(0.0, 10) == []
