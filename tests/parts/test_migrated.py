"""The recorded script makes the databases that the migrations make."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from cache import sqlite
from cache.index import sql
from gateway.db import revisions
from tests.parts.migrated import RecordedMigrations


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        order = [str(row) for row in connection.execute("SELECT type, name FROM sqlite_master ORDER BY type, name")]
        return [*order, *sorted(connection.iterdump())]


@pytest.mark.usefixtures("real_migrations")
@pytest.mark.parametrize("location", [revisions.MIGRATIONS, sql.MIGRATIONS])
def test_a_recorded_script_makes_what_the_migrations_make(
    location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[object] = []
    real: Callable[..., None] = sqlite.run_migrations

    def counted(connection: object, script_location: str, database: object, current: str | None) -> None:
        runs.append(database)
        real(connection, script_location, database, current)

    sqlite.migrate(tmp_path / "real.db", location)
    monkeypatch.setattr(sqlite, "run_migrations", RecordedMigrations(counted).upgrade)
    for name in ("recorded.db", "replayed.db"):
        sqlite.migrate(tmp_path / name, location)
    assert runs == [tmp_path / "recorded.db"]
    assert dump(tmp_path / "real.db") == dump(tmp_path / "recorded.db") == dump(tmp_path / "replayed.db")
    sqlite.migrate(tmp_path / "replayed.db", location)
    assert len(runs) == 1
