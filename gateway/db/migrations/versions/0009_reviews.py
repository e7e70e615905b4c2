"""Reviews of content that nothing may need any more, and the repository of each reference, by which they are decided.
Programs of earlier revisions neither make nor postpone reviews.

Content that nothing refers to when the database is upgraded is reviewed one delay after that.
"""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
oldest_program = "0009"

DIGEST = sa.String(135).with_variant(sa.String(135, collation="C"), "postgresql")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    place_references()
    create_reviews()
    create_collection()
    review_what_is_unused()
    op.execute(f"UPDATE compatibility SET oldest_program = '{oldest_program}'")


def place_references() -> None:
    op.add_column("manifest_references", sa.Column("repository_id", sa.Integer, nullable=False, server_default="0"))
    op.execute(
        "UPDATE manifest_references SET repository_id = (SELECT manifests.repository_id FROM manifests "
        "WHERE manifests.id = manifest_references.manifest_id)"
    )
    columns = ["repository_id", "digest"]
    op.create_index("ix_manifest_references_repository_id_digest", "manifest_references", columns)


def create_reviews() -> None:
    op.create_table(
        "blob_reviews",
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("repository_id", sa.Integer, nullable=False),
        sa.Column("event", sa.String(16), nullable=False),
        sa.Column("since", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("digest", "repository_id", name="pk_blob_reviews"),
    )
    op.create_index("ix_blob_reviews_since", "blob_reviews", ["since"])
    op.create_table(
        "manifest_reviews",
        sa.Column("manifest_id", sa.Integer, nullable=False),
        sa.Column("event", sa.String(16), nullable=False),
        sa.Column("since", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("manifest_id", name="pk_manifest_reviews"),
        sa.ForeignKeyConstraint(
            ["manifest_id"], ["manifests.id"], name="fk_manifest_reviews_manifest_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_manifest_reviews_since", "manifest_reviews", ["since"])


def create_collection() -> None:
    op.create_table(
        "blob_removals",
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("due_at", MOMENT, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_blob_removals"),
    )
    op.create_index("ix_blob_removals_due_at", "blob_removals", ["due_at"])
    op.create_table(
        "collection",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("seen_at", MOMENT),
        sa.Column("window_at", MOMENT),
        sa.Column("window_objects", sa.BigInteger, nullable=False),
        sa.Column("window_deleted", sa.BigInteger, nullable=False),
        sa.Column("deleted_manifests", sa.BigInteger, nullable=False),
        sa.Column("deleted_blobs", sa.BigInteger, nullable=False),
        sa.Column("freed_bytes", sa.BigInteger, nullable=False),
        sa.Column("stopped_at", MOMENT),
        sa.Column("stopped_reason", sa.String),
        sa.PrimaryKeyConstraint("id", name="pk_collection"),
        sa.CheckConstraint("id = 1", name="ck_collection_one"),
    )
    counts = "window_objects, window_deleted, deleted_manifests, deleted_blobs, freed_bytes"
    op.execute(f"INSERT INTO collection (id, {counts}) VALUES (1, 0, 0, 0, 0, 0)")


def review_what_is_unused() -> None:
    now = {"now": datetime.now(UTC)}
    since = sa.bindparam("now", type_=MOMENT)
    for statement in (
        "INSERT INTO manifest_reviews (manifest_id, event, since) SELECT m.id, 'upgrade', :now FROM manifests m "
        "WHERE NOT EXISTS (SELECT 1 FROM tags t WHERE t.manifest_id = m.id)",
        "INSERT INTO blob_reviews (digest, repository_id, event, since) "
        "SELECT l.digest, l.repository_id, 'upgrade', :now FROM blob_links l WHERE NOT EXISTS (SELECT 1 "
        "FROM manifest_references r WHERE r.digest = l.digest AND r.repository_id = l.repository_id)",
        "INSERT INTO blob_reviews (digest, repository_id, event, since) SELECT b.digest, 0, 'upgrade', :now "
        "FROM blobs b WHERE NOT EXISTS (SELECT 1 FROM blob_links l WHERE l.digest = b.digest)",
    ):
        op.get_bind().execute(sa.text(statement).bindparams(since), now)
