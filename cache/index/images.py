"""Rows of images: an image of a source, by which all else refers to it. This module holds the statements only."""

from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select

from cache.index.schema import images
from cache.oci.names import RepositoryName
from cache.prepared import execute, prepared
from cache.values import CredentialId, Registry, Source


def to_source(row: Row[Any]) -> Source:
    """The source of a row with a registry and a credential."""
    return source_of(row.origin, row.credential)


def source_of(origin: str, credential: str) -> Source:
    """The source of a registry and a credential, as they are stored."""
    return Source.at(Registry.parse(origin), CredentialId.parse(credential))


_FIND = prepared(
    select(images.c.id).where(
        images.c.origin == bindparam("origin"),
        images.c.credential == bindparam("credential"),
        images.c.name == bindparam("name"),
    )
)
_INSERT = prepared(insert(images).returning(images.c.id))


def find_image(connection: Connection, source: Source, image: RepositoryName) -> int | None:
    found: int | None = execute(connection, _FIND, _row(source, image)).scalar()
    return found


def ensure_image(connection: Connection, source: Source, image: RepositoryName) -> int:
    found = find_image(connection, source, image)
    return found if found is not None else int(execute(connection, _INSERT, _row(source, image)).scalar_one())


def _row(source: Source, image: RepositoryName) -> dict[str, str]:
    return {"origin": str(source.registry), "credential": str(source.credential), "name": image.text}
