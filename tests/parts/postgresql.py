"""PostgreSQL: a real server on loopback, whose databases sort text by the rules of a language."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from gateway.db.address import PostgresqlAddress
from gateway.db.setup import set_up

from .ports import HOST, free_port
from .processes import PartFailed, Process, plain_environment

USER, PASSWORD = "gateway", "canary-database-password"
ADMIN = "admin"
BINARIES = "/usr/lib/postgresql"
MEMORY_BYTES = 1 << 30
DAEMON_USER = "postgres"
"""User of Debian's package, for the server refuses to run as root."""


class Postgresql:
    """A server with a folder and a port of its own; its databases belong to a user who must show a password.

    Their locale is a linguistic one (ICU, en-US), in which `a-b` stands between `aa` and `ac`, and `B` after `a`.
    """

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="gateway-postgresql-", dir=_memory()))
        self._data = self._directory / "data"
        self.port = free_port()
        self.password_file = self._directory / "password"
        self.password_file.write_text(f"{PASSWORD}\n")
        own = self._own_rights()
        if own:
            shutil.chown(self._directory, DAEMON_USER, DAEMON_USER)
            shutil.chown(self.password_file, DAEMON_USER, DAEMON_USER)
        self._initialise(own)
        options = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "max_connections": 200,
            "autovacuum": "off",
            "shared_buffers": "32MB",
            "max_wal_size": "64MB",
        }
        settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        argv = [*own, binary("postgres"), "-D", str(self._data), *settings]
        self._process = Process(argv, log=self._directory / "log", environment=plain_environment(LC_ALL="C.UTF-8"))

    @property
    def pid(self) -> int:
        """Process id of the server, which is that of the parent of all its processes."""
        return self._process.pid

    def start(self) -> None:
        probe = [binary("pg_isready"), "--quiet", f"--host={HOST}", f"--port={self.port}"]
        self._process.start(lambda: subprocess.run(probe, env=plain_environment(), check=False).returncode == 0)

    def stop(self) -> None:
        """Ends the server and the connections to it."""
        self._process.signal(signal.SIGINT)
        self._process.wait()
        self._process.stop()

    def close(self) -> None:
        """Ends the server at once and deletes its folder."""
        if self._process.running:
            self._process.signal(signal.SIGQUIT)  # its processes, each in a group of its own, end with it
            self._process.wait()
        self._process.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def log_text(self) -> str:
        return self._process.log_text()

    def address(self, name: str) -> PostgresqlAddress:
        return PostgresqlAddress(USER, HOST, name, self.port, self.password_file)

    async def create_user(self) -> None:
        """Creates the user that owns the databases; once."""
        await self._execute(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")

    async def create(self, name: str, template: str = "template0") -> PostgresqlAddress:
        """Creates a database, as a copy of another one that nobody uses."""
        await self._execute(f'CREATE DATABASE "{name}" OWNER {USER} TEMPLATE "{template}"')
        return self.address(name)

    async def drop(self, name: str) -> None:
        """Drops a database, whoever uses it."""
        await self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    async def allow_connections(self, name: str, allowed: bool) -> None:
        """Lets clients use a database, or ends their connections and refuses others."""
        await self._execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {str(allowed).lower()}')
        if not allowed:
            await self._execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(
            host=HOST, port=self.port, user=ADMIN, password=PASSWORD, database="postgres", timeout=30
        )
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def _initialise(self, own: Sequence[str]) -> None:
        options = ["--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US"]
        options += ["--auth=scram-sha-256", f"--username={ADMIN}", f"--pwfile={self.password_file}"]
        argv = [*own, binary("initdb"), "-D", str(self._data), *options]
        done = subprocess.run(
            argv, env=plain_environment(), cwd="/", capture_output=True, text=True, check=False, timeout=120
        )
        if done.returncode != 0:
            raise PartFailed(f"{' '.join(argv)}\n{done.stdout}{done.stderr}")

    @staticmethod
    def _own_rights() -> list[str]:
        """The words before a command that give it rights with which the server agrees to run."""
        if os.geteuid() != 0:
            return []
        return ["setpriv", f"--reuid={DAEMON_USER}", f"--regid={DAEMON_USER}", "--clear-groups", "--"]


class Databases:
    """Fresh databases of one server: copies of a template that our own migrations have made."""

    TEMPLATE = "migrated"

    def __init__(self, server: Postgresql) -> None:
        self.server = server
        self._count = 0

    async def prepare(self) -> None:
        """Makes the template; once."""
        await self.server.create_user()
        await set_up(await self.server.create(self.TEMPLATE))

    @asynccontextmanager
    async def made(self, *, empty: bool = False) -> AsyncIterator[PostgresqlAddress]:
        """Makes a database, which is dropped at the end. `empty`: without tables."""
        self._count += 1
        address = await self.server.create(f"test_{self._count}", "template0" if empty else self.TEMPLATE)
        try:
            yield address
        finally:
            await self.server.drop(address.name)


def _memory() -> str | None:
    """A folder in memory, where there is room: every database consists of three hundred files."""
    shared = Path("/dev/shm")
    return str(shared) if shared.is_dir() and shutil.disk_usage(shared).free > MEMORY_BYTES else None


def binary(name: str) -> str:
    """Path of a program of the newest PostgreSQL that is installed."""
    found = sorted(Path(BINARIES).glob(f"*/bin/{name}"), key=lambda path: int(path.parent.parent.name))
    if not found:
        raise PartFailed(f"{name} is not installed; tests need it: apt-get install postgresql")
    return str(found[-1])
