"""Which cached manifests refer to a digest, and sightings by digest: a gate decides about a digest by these alone."""

import sqlalchemy as sa
from alembic import op

from cache.oci.digest import Digest
from cache.oci.errors import DigestInvalid, ManifestInvalid
from cache.oci.manifest import Manifest

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    parents = op.create_table(
        "parents",
        sa.Column("digest", sa.String, primary_key=True),
        sa.Column("parent", sa.String, primary_key=True),
        sqlite_with_rowid=False,
    )
    connection = op.get_bind()
    for (digest,) in connection.execute(sa.text("SELECT digest FROM manifests")).all():
        media_type, raw = connection.execute(
            sa.text("SELECT media_type, raw FROM manifests WHERE digest = :digest"), {"digest": digest}
        ).one()
        try:
            manifest = Manifest.parse(media_type, raw, Digest.parse(digest).algorithm)
        except (DigestInvalid, ManifestInvalid):
            continue
        if listed := {str(entry.digest) for entry in manifest.references()}:
            connection.execute(sa.insert(parents), [{"digest": child, "parent": digest} for child in sorted(listed)])
    op.create_index("ix_parents_parent", "parents", ["parent"])
    op.execute(
        "CREATE TRIGGER parents_removed AFTER DELETE ON manifests "
        "BEGIN DELETE FROM parents WHERE parent = OLD.digest; END"
    )
    op.create_index("ix_sightings_digest", "sightings", ["image_id", "digest", "first_seen"])
