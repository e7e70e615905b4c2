"""SQLite files: how they are opened, migrated and watched. This module knows no table."""

import errno
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolExhausted
from sqlalchemy.pool import NullPool

from cache.runtime.files import create as create_file
from cache.runtime.files import ensure, sync_file
from cache.runtime.locks import lock, open_lock_file, try_lock

BUSY_TIMEOUT_MS = 5_000
MIGRATION_TURN_SECONDS = 30.0
"""How long a process that starts waits for others that migrate or write."""
WRITES = {"sqlite_begin": "BEGIN IMMEDIATE"}
"""Execution options of a writing engine: it takes the lock at the beginning of a transaction, not in the middle."""


class DatabaseUnusable(Exception):
    """The database cannot be opened, read or written; the text states why, and what a person can do about it."""


class DatabaseOutdated(DatabaseUnusable):
    """The database has an older revision than this program needs, and is upgraded on request alone."""


class Watcher:
    """Reports commits by this and other processes; for one thread.

    `look_every`: seconds for which a result is reused. A check for each of thousands of requests took 11 % of the time
    of a cached manifest.
    """

    def __init__(self, path: Path, look_every: float = 0.0) -> None:
        engine = create_engine(url("sqlite", path), poolclass=NullPool)
        listen(engine)
        with explained(path):
            self._pooled = engine.raw_connection()
        self._connection = cast(sqlite3.Connection, self._pooled.driver_connection)
        self._path = path
        self._look_every = look_every
        self._version = 0
        self.looked_at = 0.0
        """When the file was last looked at, by the monotonic clock."""

    def version(self) -> int:
        """A number that changes with every commit. Read it before the data that it guards. Raises DatabaseUnusable."""
        return self.look() if self.is_due else self._version

    @property
    def is_due(self) -> bool:
        """Whether `version` looks at the file."""
        return time.monotonic() - self.looked_at >= self._look_every

    def look(self) -> int:
        """The number as it is now, whenever it was looked at before; about 2 µs. Raises DatabaseUnusable."""
        now = time.monotonic()
        try:
            [(version,)] = self._connection.execute("PRAGMA data_version").fetchall()
        except sqlite3.DatabaseError as error:
            raise _unusable(self._path, str(error)) from error
        self._version, self.looked_at = int(version), now
        return self._version

    def fetch(self, statement: str, *values: int) -> list[tuple[Any, ...]]:
        """Read rows. Raises DatabaseUnusable."""
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise _unusable(self._path, str(error)) from error

    def close(self) -> None:
        self._pooled.close()


def create(path: Path) -> None:
    """Create an empty database file unless there is one. Raises OSError.

    SQLite would create it readable for everybody, and where a link leads; the files beside it take its mode.
    """
    ensure(path)


def set_up(path: Path, script_location: str) -> None:
    """Create the database if there is none, or an empty one; any other is left as it is, whatever its revision.

    `script_location`: as in `migrate`, which also says when to call it. Raises DatabaseOutdated for an older revision,
    DatabaseUnusable for an unknown one.
    """
    current = read_revision(path) if path.exists() else None
    if current is None:
        migrate(path, script_location)
        return
    needed = newest_revision(script_location)
    if current.isdecimal() and current < needed:
        raise DatabaseOutdated(f"{path} has revision {current}, and this version needs {needed}")
    if current != needed:
        raise _unknown_revision(path, current)


def migrate(path: Path, script_location: str, before_upgrade: Callable[[], None] = lambda: None) -> str | None:
    """Create the database if necessary and upgrade it to the newest revision; several processes may do so at once.

    `script_location`: PACKAGE:FOLDER with the revisions, in files whose names begin with their numbers.
    `before_upgrade`: called where a database that is not empty will be upgraded, while nobody writes to it; what it
    raises leaves that as it is. Returns the revision that was upgraded; None where there was none to upgrade. Blocks;
    for the start of a process. The folder must exist. Raises DatabaseUnusable.
    """
    engine = create_engine(url("sqlite", path, mode="rwc"), poolclass=NullPool)
    listen(engine)
    event.listen(engine, "connect", _write_ahead)
    with explained(path), alone(path, MIGRATION_TURN_SECONDS):
        create(path)
        with engine.connect() as connection:
            current = revision_of(connection)
        if current == newest_revision(script_location):
            return None
        if current is not None:
            before_upgrade()
        with engine.execution_options(**WRITES).begin() as connection:
            run_migrations(connection, script_location, path, current)
    return current


def newest_revision(script_location: str) -> str:
    """Find the number of the newest revision in PACKAGE:FOLDER."""
    package, _, folder = script_location.partition(":")
    revisions = files(package).joinpath(folder, "versions").iterdir()
    return max(name.partition("_")[0] for name in (file.name for file in revisions) if name.endswith(".py"))


def read_revision(path: Path) -> str | None:
    """Read the revision of a file, which must exist; None for an empty one. Raises DatabaseUnusable."""
    engine = create_engine(url("sqlite", path), poolclass=NullPool)
    listen(engine)
    with reading(engine, path) as connection:
        return revision_of(connection)


def copy(source: Path, target: Path) -> None:
    """Copy one state of a database to a new file while others use it, who do not wait; check the copy, and sync it.

    Raises FileExistsError, DatabaseUnusable, OSError, also if the disk of the target is full.
    """
    os.close(create_file(target))
    with explained(source), closing(_connect(source)) as reader, closing(_connect(target)) as writer:
        writer.execute("PRAGMA journal_mode=OFF").close()
        writer.execute("PRAGMA synchronous=OFF").close()
        try:
            reader.backup(writer)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target)) from error
            raise
    try:
        check(target)
    except DatabaseUnusable as error:
        raise DatabaseUnusable(f"{source} is damaged: restore a backup") from error
    sync_file(target)


def check(path: Path) -> None:
    """Check the structure of a file that nobody else uses, and leave no file beside it. Raises DatabaseUnusable."""
    with explained(path), closing(_connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE").close()
        [verdict] = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise DatabaseUnusable(f"{path} is damaged ({verdict}): restore a backup")


def _connect(path: Path) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=rw"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1000)


def revision_of(connection: Connection) -> str | None:
    """Find the revision of a database; None for an empty one."""
    if not connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").first():
        return None
    return cast(str | None, connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar())


def run_migrations(connection: Connection, script_location: str, database: object, current: str | None) -> None:
    """Upgrade a database in the transaction of its connection. Raises DatabaseUnusable if its revision is unknown.

    `database` names it in the error; `current` is its revision.
    """
    # Imported here, since it takes an eighth of the time of a command's start, and few starts find a revision missing.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", script_location)
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise _unknown_revision(database, current) from error


def _unknown_revision(database: object, current: str | None) -> DatabaseUnusable:
    return DatabaseUnusable(
        f"{database} has revision {current}, which this version does not know: "
        "use the version that wrote it, or restore a backup"
    )


def url(driver: str, path: Path, mode: str = "rw") -> URL:
    """An SQLite URI; with mode rw a missing file is an error and not a new, empty database."""
    return URL.create(driver, database=path.absolute().as_uri(), query={"mode": mode, "uri": "true"})


def listen(engine: Engine, synchronous: str = "FULL") -> None:
    """Configure an engine. `synchronous`: FULL keeps every commit through a power cut, NORMAL may lose the last
    ones."""

    def configure(connection: Any, _record: object) -> None:
        # The driver opens no transactions by itself: `_begin` does, so they include DDL too.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute(f"PRAGMA synchronous={synchronous}")
        cursor.close()

    event.listen(engine, "connect", configure)
    event.listen(engine, "begin", _begin)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Translate errors of the database file into DatabaseUnusable; errors of statements are raised unchanged."""
    try:
        yield
    except (IntegrityError, ProgrammingError):
        raise
    except (DatabaseError, sqlite3.DatabaseError) as error:
        original = error.orig if isinstance(error, DatabaseError) else error
        raise _unusable(path, _reason_of(original, path)) from error
    except PoolExhausted as error:
        raise _unusable(path, "all connections to it are in use") from error


def _reason_of(error: BaseException | None, path: Path) -> str:
    """Say what is wrong with a file; the system says why SQLite cannot open it, or cannot put one beside it."""
    code = getattr(error, "sqlite_errorcode", None)  # set where SQLite, not its Python module, raised it
    if isinstance(code, int) and code & 0xFF == sqlite3.SQLITE_CANTOPEN:
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        except OSError as cause:
            return cause.strerror or str(cause)
    return str(error)


def _unusable(path: Path, reason: str) -> DatabaseUnusable:
    remedy = (
        "try again"
        if "locked" in reason or "in use" in reason
        else "look at the file, its owner and the space on its disk"
    )
    return DatabaseUnusable(f"{path} cannot be used ({reason}): {remedy}")


def _write_ahead(connection: Any, _record: object) -> None:
    # The file keeps its journal mode. Switching to WAL ignores the busy timeout, so only `migrate` does it, alone, and
    # retries while another process closes the file as the last one and cleans up.
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _begin(connection: Connection) -> None:
    # By a cursor: through SQLAlchemy, the statement would take longer than many a lookup in the transaction.
    cursor = connection.connection.cursor()
    cursor.execute(connection.get_execution_options().get("sqlite_begin", "BEGIN"))
    cursor.close()


@contextmanager
def alone(path: Path, seconds: float | None = None) -> Iterator[None]:
    """Hold the lock file beside `path` within the block, after waiting for it; the file is never deleted.

    Writers queue for this lock: SQLite's own lock is polled, and fails as busy after many unlucky polls. `seconds`:
    how long to wait, by polling, out of turn; None queues for as long as it takes. Raises DatabaseUnusable.
    """
    try:
        descriptor = open_lock_file(path.with_name(f"{path.name}.lock"))
    except OSError as error:
        raise DatabaseUnusable(
            f"{path.parent} cannot be written ({error.strerror}): use a folder that belongs to this user"
        ) from error
    try:
        if seconds is None:
            lock(descriptor)
        else:
            _poll_lock(descriptor, path, seconds)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def reading(engine: Engine, path: Path) -> Iterator[Connection]:
    """Open a connection for reading the file. Raises DatabaseUnusable."""
    with explained(path), engine.connect() as connection:
        yield connection


@contextmanager
def writing(engine: Engine, path: Path) -> Iterator[Connection]:
    """Open a transaction that writes to the file, alone among all writers. Raises DatabaseUnusable."""
    with explained(path), alone(path), engine.execution_options(**WRITES).begin() as connection:
        yield connection


def compact(engine: Engine, path: Path, spare: int = 0) -> bool:
    """Give the unused pages of the file back to the disk if they are more than `spare` bytes and than half of it.

    Writers wait meanwhile. Return whether it was done. Raises DatabaseUnusable.
    """
    with explained(path), alone(path), engine.connect() as connection:
        # The first statement opens a transaction, in which VACUUM is refused.
        driver = connection.connection.driver_connection
        assert driver is not None
        [free], [pages], [size] = (
            driver.execute(f"PRAGMA {name}").fetchone() for name in ("freelist_count", "page_count", "page_size")
        )
        if free * size <= spare or free * 2 <= pages:
            return False
        driver.execute("VACUUM")
        driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return True


def file_bytes(path: Path) -> int:
    """Bytes of a database and of the files beside it; what is missing counts as nothing."""
    total = 0
    for suffix in ("", "-wal", "-shm"):
        with suppress(OSError):
            total += path.with_name(path.name + suffix).stat().st_size
    return total


def _poll_lock(descriptor: int, path: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not try_lock(descriptor):
        if time.monotonic() > deadline:
            raise locked_error(path)
        time.sleep(0.02)


def locked_error(path: Path) -> DatabaseUnusable:
    """The error of a process that waited for others in vain."""
    return DatabaseUnusable(f"{path} cannot be used (database is locked): try again")
