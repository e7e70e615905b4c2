"""Tables of gateway.db as they are after every migration; a test holds the two together."""

from datetime import UTC, datetime

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    false,
)
from sqlalchemy.types import TypeDecorator


class Moment(TypeDecorator[datetime]):
    """Aware datetime, stored in UTC also where the database forgets time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and value.replace(tzinfo=value.tzinfo or UTC)


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

# `path` is the full, lower-case one: `a/b` is the group `b` in the group `a`. An id never returns, for secrets are
# sealed to it.
groups = Table(
    "groups",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("path", String(255), nullable=False, unique=True),
    Column("visibility", String(8), nullable=False),
    Column("proxy_enabled", Boolean, nullable=False),
    Column("anonymous_pull", Boolean, nullable=False),
    Column("default_upstream", String(255), nullable=False),
    Column("upstream_username", String),
    Column("upstream_password_sealed", String),
    Column("created_at", Moment, nullable=False),
    Column("fresh_only", Boolean, nullable=False, server_default=false()),
    Column("gate", Text),
    CheckConstraint("visibility IN ('public', 'internal', 'private')", name="visibility"),
    CheckConstraint("NOT anonymous_pull OR visibility = 'public'", name="anonymous_pull"),
    CheckConstraint("(upstream_username IS NULL) = (upstream_password_sealed IS NULL)", name="upstream_login"),
    sqlite_autoincrement=True,
)

# Mark of a prepared installation, at most one row: when it was given what every new one is given.
installation = Table(
    "installation",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("prepared_at", Moment, nullable=False),
    CheckConstraint("id = 1", name="one"),
)

# Log of changes: what a process that keeps it in memory must drop. Numbers never return, also where all rows are gone.
changes = Table(
    "changes",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("concern", String(16), nullable=False),
    Column("key", String, nullable=False),
    sqlite_autoincrement=True,
)
