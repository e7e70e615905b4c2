"""Tables of webhooks and of the events that they are told of."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Table

from gateway.db.schema.columns import DigestText, Moment, metadata
from gateway.db.storable import StoredId, StoredText

# Where events are sent: those of a project, of a group with all below it, or, where neither is set, of the server.
# `uid` never returns, for secrets are sealed to it. `failures`: attempts in a row that failed.
webhooks = Table(
    "webhooks",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("uid", StoredText(32), nullable=False, unique=True),
    Column("project_id", StoredId, ForeignKey("projects.id", ondelete="CASCADE"), index=True),
    Column("group_id", StoredId, ForeignKey("groups.id", ondelete="CASCADE"), index=True),
    Column("url", StoredText(2048), nullable=False),
    Column("name", StoredText(255), nullable=False),
    Column("description", StoredText(2048), nullable=False),
    Column("verify_tls", Boolean, nullable=False),
    Column("push_events", Boolean, nullable=False),
    Column("pull_events", Boolean, nullable=False),
    Column("delete_events", Boolean, nullable=False),
    Column("fill_events", Boolean, nullable=False),
    Column("token_sealed", StoredText),
    Column("signing_sealed", StoredText),
    Column("created_at", Moment, nullable=False),
    Column("failures", StoredId, nullable=False),
    Column("disabled_until", Moment),
    sqlite_autoincrement=True,
)

# Outbox: events of which webhooks are still to be told, each written by the transaction that it tells of. `cause`:
# facts of the request, a JSON object. Numbers never return: ids of what is sent are made from them.
webhook_events = Table(
    "webhook_events",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("trigger", StoredText(32), nullable=False),
    Column("path", StoredText(512), nullable=False),
    Column("project_id", StoredId),
    Column("tag", StoredText(128)),
    Column("digest", DigestText),
    Column("media_type", StoredText),
    Column("size", BigInteger),
    Column("cause", StoredText, nullable=False),
    sqlite_autoincrement=True,
)

# What is sent to a webhook, or was. `next_at`: when it is due, NULL once it has ended; `uid`: by which a receiver knows
# that it was sent before.
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("webhook_id", StoredId, ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("uid", StoredText(40), nullable=False),
    Column("trigger", StoredText(32), nullable=False),
    Column("payload", StoredText, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("attempts", StoredId, nullable=False),
    Column("next_at", Moment),
    Column("ended_at", Moment, index=True),
    Column("delivered", Boolean, nullable=False),
    Column("response_status", StoredId),
    Column("problem", StoredText(255)),
    Index("ix_webhook_deliveries_webhook_id_id", "webhook_id", "id"),
    Index("ix_webhook_deliveries_next_at", "next_at"),
    sqlite_autoincrement=True,
)
