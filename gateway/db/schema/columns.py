"""Types of columns, and the metadata that all tables of gateway.db share."""

from datetime import UTC, datetime

from sqlalchemy import (
    DateTime,
    Dialect,
    MetaData,
)
from sqlalchemy.types import TypeDecorator

from gateway.db.storable import StoredText


class Moment(TypeDecorator[datetime]):
    """Aware datetime, stored in UTC also where the database forgets time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and value.replace(tzinfo=value.tzinfo or UTC)


PathText = StoredText(255, bytewise=True)
"""Type of names and paths, compared byte by byte on both databases, so that an index serves prefixes."""

DigestText = StoredText(135, bytewise=True)
"""Type of digests, `algorithm:hex`; a sha512 has 135 characters."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)
