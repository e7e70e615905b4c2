"""New databases that are made by a recorded script, since running the migrations cost more than most tests."""

import sqlite3
from collections.abc import Callable
from typing import cast

from sqlalchemy import Connection

from cache import sqlite

Upgrade = Callable[[Connection, str, object, str | None], None]
RUN_MIGRATIONS: Upgrade = sqlite.run_migrations


class RecordedMigrations:
    """Runs the real migrations for one empty database, and replays what they made for every other.

    Files, locks, journal modes and transactions are always those of `cache.sqlite.migrate`; a database that is not
    empty is migrated by the migrations themselves.
    """

    def __init__(self, run: Upgrade = RUN_MIGRATIONS) -> None:
        self._run = run
        self._statements: dict[str, list[str]] = {}

    def upgrade(self, connection: Connection, script_location: str, database: object, current: str | None) -> None:
        """Stand in for `cache.sqlite.run_migrations`."""
        if current is None and script_location in self._statements:
            for statement in self._statements[script_location]:
                _driver(connection).execute(statement)
            return
        self._run(connection, script_location, database, current)
        if current is None:
            _, *statements, _ = _driver(connection).iterdump()  # without its BEGIN and COMMIT
            self._statements[script_location] = statements


def _driver(connection: Connection) -> sqlite3.Connection:
    return cast(sqlite3.Connection, connection.connection.driver_connection)
