"""The history of tags, and repositories that are deleted and can still be restored.
Programs of earlier revisions note no events, and delete repositories at once.

The history of a tag that exists begins with what it points to, since when it does.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
oldest_program = "0010"

BYTEWISE = {
    length: sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql") for length in (128, 135, 255)
}
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("repositories", sa.Column("deleted_at", MOMENT))
    op.add_column("repositories", sa.Column("deleted_name", BYTEWISE[255]))
    op.add_column("repositories", sa.Column("deleted_by", sa.String(255)))
    op.create_index("ix_repositories_deleted_at", "repositories", ["deleted_at"])
    create_events()
    op.execute(
        "INSERT INTO tag_events (repository_id, name, event, at, actor, to_digest) "
        "SELECT t.repository_id, t.name, 'create', t.moved_at, '', m.digest "
        "FROM tags t JOIN manifests m ON m.id = t.manifest_id ORDER BY t.repository_id, t.name"
    )
    op.execute(f"UPDATE compatibility SET oldest_program = '{oldest_program}'")


def create_events() -> None:
    op.create_table(
        "tag_events",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("repository_id", sa.Integer, nullable=False),
        sa.Column("name", BYTEWISE[128], nullable=False),
        sa.Column("event", sa.String(8), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("from_digest", BYTEWISE[135]),
        sa.Column("to_digest", BYTEWISE[135]),
        sa.PrimaryKeyConstraint("id", name="pk_tag_events"),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name="fk_tag_events_repository_id", ondelete="CASCADE"
        ),
        sa.CheckConstraint("event IN ('create', 'move', 'delete')", name="ck_tag_events_event"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_tag_events_repository_id_name_id", "tag_events", ["repository_id", "name", "id"])
