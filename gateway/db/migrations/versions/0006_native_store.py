"""Native registry store: repositories, blobs, manifests, tags, and uploads that are not finished."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
oldest_program = "0005"

PATH = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
DIGEST = sa.String(135).with_variant(sa.String(135, collation="C"), "postgresql")
TAG = sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    create_repositories()
    create_blobs()
    create_manifests()
    create_tags()
    create_uploads()
    op.execute(f"UPDATE compatibility SET oldest_program = '{oldest_program}'")


def create_repositories() -> None:
    op.create_table(
        "repositories",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("project_id", sa.Integer, nullable=False),
        sa.Column("path", PATH, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_repositories"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_repositories_project_id", ondelete="CASCADE"),
        sa.UniqueConstraint("path", name="uq_repositories_path"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_repositories_project_id", "repositories", ["project_id"])


def create_blobs() -> None:
    op.create_table(
        "blobs",
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_blobs"),
    )
    op.create_table(
        "blob_links",
        sa.Column("repository_id", sa.Integer, nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("repository_id", "digest", name="pk_blob_links"),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name="fk_blob_links_repository_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["digest"], ["blobs.digest"], name="fk_blob_links_digest"),
    )
    op.create_index("ix_blob_links_digest", "blob_links", ["digest"])


def create_manifests() -> None:
    op.create_table(
        "manifests",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("repository_id", sa.Integer, nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("media_type", sa.String(255), nullable=False),
        sa.Column("raw", sa.LargeBinary, nullable=False),
        sa.Column("subject", DIGEST),
        sa.Column("artifact_type", sa.String(255)),
        sa.Column("pushed_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_manifests"),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name="fk_manifests_repository_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("repository_id", "digest", name="uq_manifests_repository_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_manifests_repository_id_subject", "manifests", ["repository_id", "subject"])
    op.create_table(
        "manifest_references",
        sa.Column("manifest_id", sa.Integer, nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("is_manifest", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("manifest_id", "digest", name="pk_manifest_references"),
        sa.ForeignKeyConstraint(
            ["manifest_id"], ["manifests.id"], name="fk_manifest_references_manifest_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_manifest_references_digest", "manifest_references", ["digest"])


def create_tags() -> None:
    op.create_table(
        "tags",
        sa.Column("repository_id", sa.Integer, nullable=False),
        sa.Column("name", TAG, nullable=False),
        sa.Column("manifest_id", sa.Integer, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("moved_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("repository_id", "name", name="pk_tags"),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name="fk_tags_repository_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["manifest_id"], ["manifests.id"], name="fk_tags_manifest_id", ondelete="CASCADE"),
    )
    op.create_index("ix_tags_manifest_id", "tags", ["manifest_id"])


def create_uploads() -> None:
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("repository_id", sa.Integer, nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("received", sa.BigInteger, nullable=False),
        sa.Column("hash_state", sa.LargeBinary),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_uploads"),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name="fk_uploads_repository_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_uploads_repository_id", "uploads", ["repository_id"])
    op.create_index("ix_uploads_owner", "uploads", ["owner"])
    op.create_index("ix_uploads_updated_at", "uploads", ["updated_at"])
