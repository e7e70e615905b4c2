"""Addresses of gateway.db: a file for SQLite, or a database of a PostgreSQL server."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

DATABASE_FILE = "gateway.db"
"""Name of the file in the data folder."""

POSTGRESQL_PORT = 5432


@dataclass(frozen=True, slots=True)
class PostgresqlAddress:
    """A database of a PostgreSQL server, and the file with the password of its user."""

    user: str
    host: str
    """A host name, an IP address, or the folder of a Unix socket."""
    name: str
    port: int = POSTGRESQL_PORT
    password_file: Path | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"postgresql://{self.user}@{host}:{self.port}/{self.name}"


DatabaseAddress: TypeAlias = Path | PostgresqlAddress
"""A path is that of an SQLite file."""
