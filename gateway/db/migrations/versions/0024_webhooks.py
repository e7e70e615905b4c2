"""Webhooks, the events of which they are still to be told, and what is sent to them.
Programs of earlier revisions tell no webhook of what they do, and harm none.
"""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
oldest_program = "0016"

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("uid", sa.String(32), nullable=False),
        sa.Column("project_id", sa.Integer),
        sa.Column("group_id", sa.Integer),
        sa.Column("url", sa.String(2048), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("description", sa.String(2048), nullable=False),
        sa.Column("verify_tls", sa.Boolean, nullable=False),
        *(sa.Column(f"{name}_events", sa.Boolean, nullable=False) for name in ("push", "pull", "delete", "fill")),
        sa.Column("token_sealed", sa.String),
        sa.Column("signing_sealed", sa.String),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("disabled_until", MOMENT),
        sa.PrimaryKeyConstraint("id", name="pk_webhooks"),
        sa.UniqueConstraint("uid", name="uq_webhooks_uid"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_webhooks_project_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name="fk_webhooks_group_id", ondelete="CASCADE"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_webhooks_project_id", "webhooks", ["project_id"])
    op.create_index("ix_webhooks_group_id", "webhooks", ["group_id"])
    op.create_table(
        "webhook_events",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("trigger", sa.String(32), nullable=False),
        sa.Column("path", sa.String(512), nullable=False),
        sa.Column("project_id", sa.Integer),
        sa.Column("tag", sa.String(128)),
        sa.Column("digest", sa.String(135).with_variant(sa.String(135, collation="C"), "postgresql")),
        sa.Column("media_type", sa.String),
        sa.Column("size", sa.BigInteger),
        sa.Column("cause", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_events"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("webhook_id", sa.Integer, nullable=False),
        sa.Column("uid", sa.String(40), nullable=False),
        sa.Column("trigger", sa.String(32), nullable=False),
        sa.Column("payload", sa.String, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_at", MOMENT),
        sa.Column("ended_at", MOMENT),
        sa.Column("delivered", sa.Boolean, nullable=False),
        sa.Column("response_status", sa.Integer),
        sa.Column("problem", sa.String(255)),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_deliveries"),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["webhooks.id"], name="fk_webhook_deliveries_webhook_id", ondelete="CASCADE"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_webhook_deliveries_webhook_id_id", "webhook_deliveries", ["webhook_id", "id"])
    op.create_index("ix_webhook_deliveries_next_at", "webhook_deliveries", ["next_at"])
    op.create_index("ix_webhook_deliveries_ended_at", "webhook_deliveries", ["ended_at"])
    op.execute(f"UPDATE compatibility SET oldest_program = '{oldest_program}'")
