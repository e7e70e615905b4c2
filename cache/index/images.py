"""Rows of images: an image of a source, by which all else refers to it. This module holds the statements only."""

from typing import Any

from sqlalchemy import Connection, Row, insert, select

from cache.index.schema import images
from cache.oci.names import RepositoryName
from cache.values import CredentialId, Registry, Source


def to_source(row: Row[Any]) -> Source:
    """The source of a row with a registry and a credential."""
    return Source.at(Registry.parse(row.origin), CredentialId.parse(row.credential))


def find_image(connection: Connection, source: Source, image: RepositoryName) -> int | None:
    return connection.scalar(
        select(images.c.id).where(
            images.c.origin == str(source.registry),
            images.c.credential == str(source.credential),
            images.c.name == image.text,
        )
    )


def ensure_image(connection: Connection, source: Source, image: RepositoryName) -> int:
    found = find_image(connection, source, image)
    if found is not None:
        return found
    row = {"origin": str(source.registry), "credential": str(source.credential), "name": image.text}
    return int(connection.execute(insert(images).values(**row).returning(images.c.id)).scalar_one())
