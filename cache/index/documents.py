"""Documents of the index: one manifest, and what manifests lead to.

A manifest may list 27,000 others: which of them are cached is looked up for many at once.
"""

from collections.abc import Iterable, Iterator

from sqlalchemy import Connection, select

from cache.index.schema import manifests
from cache.oci.closure import find_closure
from cache.oci.digest import Digest
from cache.oci.errors import ManifestInvalid
from cache.oci.manifest import Manifest

_BATCH = 500


def select_manifest(connection: Connection, digest: Digest) -> Manifest | None:
    """A cached manifest; None if there is none, or what is stored is none any more."""
    row = connection.execute(select(manifests).where(manifests.c.digest == str(digest))).one_or_none()
    if row is None or not digest.holds_for(row.raw):
        return None
    try:
        return Manifest.parse(row.media_type, row.raw, digest.algorithm)
    except ManifestInvalid:
        return None


def closure(connection: Connection, roots: Iterable[Digest]) -> set[Digest]:
    """The roots and everything that they refer to, as far as their manifests are cached."""
    absent: set[Digest] = set()

    def find(digest: Digest) -> Manifest | None:
        manifest = None if digest in absent else select_manifest(connection, digest)
        if manifest is not None:
            listed = {entry.digest for entry in manifest.references()}
            absent.update(listed - _cached(connection, listed))
        return manifest

    return find_closure(roots, find)


def batches(digests: Iterable[Digest]) -> Iterator[list[str]]:
    """Split digests into texts of so many as one statement takes."""
    texts = sorted({str(digest) for digest in digests})
    for start in range(0, len(texts), _BATCH):
        yield texts[start : start + _BATCH]


def _cached(connection: Connection, digests: Iterable[Digest]) -> set[Digest]:
    """Select the digests that are cached manifests."""
    found: set[Digest] = set()
    for batch in batches(digests):
        wanted = select(manifests.c.digest).where(manifests.c.digest.in_(batch))
        found.update(map(Digest.parse, connection.scalars(wanted)))
    return found
