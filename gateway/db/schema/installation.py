"""Tables of the database itself: its marks, and the log of changes."""

from sqlalchemy import CheckConstraint, Column, Integer, String, Table

from gateway.db.schema.columns import Moment, metadata
from gateway.db.storable import StoredId, StoredText

# Mark of a prepared installation, at most one row: when it was given what every new one is given.
installation = Table(
    "installation",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("prepared_at", Moment, nullable=False),
    CheckConstraint("id = 1", name="one"),
)

# Oldest revision whose programs can use the database, one row. Each migration states it anew.
compatibility = Table(
    "compatibility",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("oldest_program", String(16), nullable=False),
    CheckConstraint("id = 1", name="one"),
)

# Log of changes: what a process that keeps it in memory must drop. Numbers never return, also where all rows are gone.
changes = Table(
    "changes",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("concern", String(16), nullable=False),
    Column("key", StoredText, nullable=False),
    sqlite_autoincrement=True,
)
