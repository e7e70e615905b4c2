"""Tables of virtual registries and their upstreams."""

from sqlalchemy import CheckConstraint, Column, ForeignKey, Integer, Table, UniqueConstraint

from gateway.db.schema.columns import Moment, metadata
from gateway.db.storable import StoredId, StoredText

# Virtual registries of groups, and the upstreams that they pull from. Ids never return, as those of groups.
virtual_registries = Table(
    "virtual_registries",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("group_id", StoredId, ForeignKey("groups.id", ondelete="CASCADE"), nullable=False),
    Column("name", StoredText(255), nullable=False),
    Column("description", StoredText(1024), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    UniqueConstraint("group_id", "name"),
    sqlite_autoincrement=True,
)

# `cache_key`: under what the content of an upstream is cached; 16 random bytes in hex.
virtual_upstreams = Table(
    "virtual_upstreams",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("group_id", StoredId, ForeignKey("groups.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("url", StoredText(255), nullable=False),
    Column("name", StoredText(255), nullable=False),
    Column("description", StoredText(1024), nullable=False),
    Column("cache_validity_hours", Integer, nullable=False),
    Column("username", StoredText(510)),
    Column("password_sealed", StoredText),
    Column("cache_key", StoredText(32), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    CheckConstraint("(username IS NULL) = (password_sealed IS NULL)", name="login"),
    sqlite_autoincrement=True,
)

# Which upstreams a virtual registry has, in the order of their positions, which count from 1.
virtual_registry_upstreams = Table(
    "virtual_registry_upstreams",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("registry_id", StoredId, ForeignKey("virtual_registries.id", ondelete="CASCADE"), nullable=False),
    Column("upstream_id", StoredId, ForeignKey("virtual_upstreams.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("position", Integer, nullable=False),
    UniqueConstraint("registry_id", "upstream_id"),
    sqlite_autoincrement=True,
)
