"""ChangeLog: the table of changes by which processes tell each other what to drop from memory."""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert

from cache.index.schema import changes
from cache.oci.digest import Digest
from cache.oci.names import RepositoryName, Tag
from cache.values import Source

CHANGES_KEPT = 10_000

_INSERT = insert(changes).returning(changes.c.seq)


@dataclass(frozen=True, slots=True)
class ChangeLog:
    """The table `changes` as one writer fills it. `writer` is a random name, by which a process ignores its own rows;
    `kept` is the number of rows that are not pruned."""

    writer: str
    kept: int = CHANGES_KEPT

    def note(
        self, connection: Connection, source: Source, image: RepositoryName, reference: Tag | Digest | None
    ) -> None:
        """Add a change, so that other processes drop a tag, a digest, or a whole image for None, from memory."""
        row = {
            "writer": self.writer,
            "origin": str(source.registry),
            "credential": str(source.credential),
            "name": image.text,
            "tag": str(reference) if reference is not None else None,
        }
        seq = connection.execute(_INSERT, row).scalar_one()
        if seq % 1000 == 0:
            connection.execute(delete(changes).where(changes.c.seq <= seq - self.kept))
