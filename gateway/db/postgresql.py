"""gateway.db on a PostgreSQL server: how it is reached, how its transactions begin, and what its errors mean."""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NoReturn, TypeVar

from sqlalchemy import event, exc, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from cache.sqlite import DatabaseUnusable
from gateway.db.address import PostgresqlAddress

T = TypeVar("T")

CONNECT_SECONDS = 5.0
STATEMENT_SECONDS = 10.0
POOL_SECONDS = 5.0
"""How long a transaction waits for a connection while others use them all."""
KEPT_CONNECTIONS = 4
FURTHER_CONNECTIONS = 4
IDLE_TRANSACTION = "10s"
"""After which the server ends a transaction of a process that does not go on, so that others are not held up."""

WRITERS_LOCK = 7_236_401
"""Number of the advisory lock that a writer holds: any number that nothing else in the database uses."""
SET_UP_LOCK = 7_236_402
"""Number of the advisory lock of whoever sets the database up or upgrades it."""

# Classes and codes of errors: https://www.postgresql.org/docs/15/errcodes-appendix.html, the longest that fits counts.
_REMEDIES = {
    "28": "check its user, the password in database.password_file, and who may connect in pg_hba.conf",
    "3D000": "create it, owned by that user",
    "42501": "make its user the owner of the database",
    "42P01": "it lacks a table: restore a backup",
    "42703": "it lacks a column: restore a backup",
    "42P07": "it holds tables of something else: name an empty database",
    "53": "look at the server's disk, memory and max_connections",
    "25006": "that server is a read-only standby: name the primary",
    "55P03": "another process is writing: try again",
    "40": "try again",
    "57": "try again",
}
_ELSEWHERE = "check that the server runs and can be reached from here, or try again"
_OF_STATEMENTS = (exc.IntegrityError, exc.ProgrammingError, exc.DataError)
"""Errors that a statement causes, except where the state of the database does, which is one of _REMEDIES."""


class PostgresqlTransactions:
    """Transactions of one database, on the event loop that opened it.

    Writers take one advisory lock in turn, on every host. With the isolation that PostgreSQL has by default each
    statement then sees what all earlier writers committed, so a rule that was checked holds, as on SQLite.
    """

    def __init__(self, address: PostgresqlAddress, engine: AsyncEngine, turn_seconds: float) -> None:
        self.engine = engine
        self._address = address
        self._readers = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._turn = text(f"SET LOCAL lock_timeout = {max(1, round(turn_seconds * 1000))}")

    @classmethod
    @asynccontextmanager
    async def open(cls, address: PostgresqlAddress, turn_seconds: float) -> AsyncIterator["PostgresqlTransactions"]:
        """Open a database. `turn_seconds`: how long a writer waits for its turn."""
        engine = make_engine(address, pooled=True)
        try:
            yield cls(address, engine, turn_seconds)
        finally:
            await engine.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that sees one state of the database. Raises DatabaseUnusable."""
        with explained(self._address):
            async with self._readers.connect() as connection:
                yield connection

    async def query(self, work: Callable[[AsyncConnection], Coroutine[Any, Any, T]]) -> T:
        """Do work in a transaction that sees one state of the database. Raises DatabaseUnusable."""
        async with self.read() as connection:
            return await work(connection)

    @asynccontextmanager
    async def write(self, durable: bool = True) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that no other writer overlaps. Raises DatabaseUnusable."""
        with explained(self._address):
            async with self.engine.begin() as connection:
                if not durable:
                    await connection.execute(text("SET LOCAL synchronous_commit = off"))
                await connection.execute(self._turn)
                await take_lock(connection, WRITERS_LOCK)
                yield connection

    async def transact(self, work: Callable[[AsyncConnection], Coroutine[Any, Any, T]], durable: bool = True) -> T:
        """Do work in a transaction that no other writer overlaps. Raises DatabaseUnusable."""
        async with self.write(durable) as connection:
            return await work(connection)


async def take_lock(connection: AsyncConnection, number: int) -> None:
    """Take an advisory lock until the end of the transaction; fails after the transaction's `lock_timeout`."""
    await connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": number})


def make_engine(address: PostgresqlAddress, *, pooled: bool = False) -> AsyncEngine:
    """Make an engine, which reads the password file for each connection, and whose errors `explained` knows.

    Not `pooled`: each connection is closed after its use, and a statement takes as long as it takes.
    """
    # Imported here, since it takes a part of the time of a command's start, and most installations have SQLite.
    import asyncpg  # type: ignore[import-untyped]

    async def connect() -> Any:
        try:
            return await asyncpg.connect(
                host=address.host,
                port=address.port,
                user=address.user,
                database=address.name,
                password=_read_password(address),
                timeout=CONNECT_SECONDS,
                command_timeout=STATEMENT_SECONDS if pooled else None,
                server_settings={
                    "application_name": "registry-gateway",
                    "idle_in_transaction_session_timeout": IDLE_TRANSACTION,
                },
            )
        except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise unusable(address, error) from error

    pool: dict[str, Any] = {"poolclass": NullPool}
    if pooled:
        # A connection is tried before it is used, since the server may have been started again meanwhile.
        pool = {"pool_size": KEPT_CONNECTIONS, "max_overflow": FURTHER_CONNECTIONS, "pool_timeout": POOL_SECONDS}
        pool["pool_pre_ping"] = True
    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, hide_parameters=True, **pool)

    def explain(context: ExceptionContext) -> None:
        error = context.original_exception
        # A connection that breaks is an OSError, which the code inside a transaction may raise for reasons of its own.
        if isinstance(error, OSError):
            _raise(address, error)
        # The detail of a violated constraint is the whole row, with all that is secret in it.
        error.args = error.args[:1] and (str(error.args[0]).partition("\n")[0],)
        if error.__cause__ is not None and hasattr(error.__cause__, "detail"):
            error.__cause__.detail = None

    event.listen(engine.sync_engine, "handle_error", explain)
    return engine


@contextmanager
def explained(address: PostgresqlAddress) -> Iterator[None]:
    """Translate errors of the database into DatabaseUnusable; errors of statements are raised unchanged."""
    try:
        yield
    except exc.DBAPIError as error:
        code = getattr(error.orig, "sqlstate", None) or ""
        if isinstance(error, _OF_STATEMENTS) and code not in _REMEDIES:
            raise
        raise unusable(address, error.orig or error) from error
    except exc.TimeoutError as error:  # of the pool
        raise DatabaseUnusable(f"{address} cannot be used (all connections to it are in use): try again") from error


def unusable(address: PostgresqlAddress, error: BaseException) -> DatabaseUnusable:
    """Make the error that says why a database cannot be used, and what helps; it holds no password."""
    cause = error.__cause__ if error.__cause__ is not None and hasattr(error.__cause__, "sqlstate") else error
    code = getattr(cause, "sqlstate", None) or ""
    reason = (str(cause).splitlines() or [""])[0] or ("no answer in time" if isinstance(cause, TimeoutError) else "")
    remedy = _REMEDIES.get(code) or _REMEDIES.get(code[:2]) or _ELSEWHERE
    return DatabaseUnusable(f"{address} cannot be used ({reason or type(cause).__name__}): {remedy}")


def _raise(address: PostgresqlAddress, error: BaseException) -> NoReturn:
    raise unusable(address, error) from error


def _read_password(address: PostgresqlAddress) -> str:
    """Read the password, without the end of its last line. Raises DatabaseUnusable."""
    file = address.password_file
    if file is None:
        return ""  # not None, with which the driver would look for one in other places
    try:
        return file.read_text().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise DatabaseUnusable(f"{file}, the database.password_file, cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DatabaseUnusable(f"{file}, the database.password_file, is not UTF-8: write it as text") from error
