"""Facts of the index as rows: blobs, manifests, links and pointers. This module holds the statements only."""

from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, delete, exists, or_, select
from sqlalchemy.dialects.sqlite import insert as upsert

from cache.index.ancestors import note_references
from cache.index.base import Fact, SizeConflict
from cache.index.change_log import ChangeLog
from cache.index.documents import batches, closure
from cache.index.images import ensure_image
from cache.index.schema import blobs, gone, images, links, manifests, pointers
from cache.index.sightings import note_sighting
from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.prepared import execute, prepared
from cache.values import BlobInfo, Link, Registry, TagPointer

_AT_REGISTRY = (links.c.digest == bindparam("digest"), images.c.origin == bindparam("origin"))
_KNOWN = prepared(select(exists(links.join(images).select().where(*_AT_REGISTRY))))
_LINKED = prepared(
    select(
        exists(
            links.join(images)
            .select()
            .where(*_AT_REGISTRY, images.c.credential == bindparam("credential"), images.c.name == bindparam("name"))
        )
    )
)
_SIZE = prepared(select(blobs.c.size).where(blobs.c.digest == bindparam("digest")))
_GONE = select(gone.c.digest).where(gone.c.digest == bindparam("digest"))
_PUT_LINK, _PUT_BLOB = (prepared(upsert(table).on_conflict_do_nothing()) for table in (links, blobs))

_NEW_POINTER = upsert(pointers)
_PUT_POINTER = _NEW_POINTER.on_conflict_do_update(
    set_={name: _NEW_POINTER.excluded[name] for name in ("media_type", "digest", "size", "checked_at")},
    # a pointer of the future was dated by a clock that was wrong: it is newer than nothing
    where=or_(_NEW_POINTER.excluded.checked_at >= pointers.c.checked_at, pointers.c.checked_at > bindparam("now")),
)
_NEW_MANIFEST = upsert(manifests)
_PUT_MANIFEST = _NEW_MANIFEST.on_conflict_do_update(
    set_={name: _NEW_MANIFEST.excluded[name] for name in ("media_type", "raw")},
    where=or_(
        _NEW_MANIFEST.excluded.raw != manifests.c.raw, _NEW_MANIFEST.excluded.media_type != manifests.c.media_type
    ),
)


def is_known(connection: Connection, registry: Registry, digest: Digest) -> bool:
    """Whether any image of the registry has a link to the digest."""
    return bool(execute(connection, _KNOWN, {"digest": str(digest), "origin": str(registry)}).scalar())


def is_linked(connection: Connection, link: Link) -> bool:
    wanted = {
        "digest": str(link.digest),
        "origin": str(link.source.registry),
        "credential": str(link.source.credential),
        "name": link.image.text,
    }
    return bool(execute(connection, _LINKED, wanted).scalar())


def select_size(connection: Connection, digest: Digest) -> int | None:
    size: int | None = execute(connection, _SIZE, {"digest": str(digest)}).scalar()
    return size


def record_facts(connection: Connection, facts: Iterable[Fact], log: ChangeLog, now: float) -> None:
    for fact in facts:
        match fact:
            case TagPointer():
                _record_pointer(connection, fact, log, now)
            case Link(source, image, digest):
                row = {"image_id": ensure_image(connection, source, image), "digest": str(digest)}
                execute(connection, _PUT_LINK, row)
            case Manifest(descriptor, raw) as manifest:
                document = {"digest": str(descriptor.digest), "media_type": descriptor.media_type, "raw": raw}
                if connection.execute(_PUT_MANIFEST, document).rowcount:
                    note_references(connection, manifest)
            case BlobInfo(digest, size):
                execute(connection, _PUT_BLOB, {"digest": str(digest), "size": size})
                recorded = select_size(connection, digest)
                if recorded != size:
                    raise SizeConflict(f"{digest} was recorded with {recorded} bytes, and now with {size}")


def _record_pointer(connection: Connection, pointer: TagPointer, log: ChangeLog, now: float) -> None:
    source, image, tag, target = pointer.source, pointer.image, pointer.tag, pointer.target
    image_id = ensure_image(connection, source, image)
    row = {
        "image_id": image_id,
        "tag": tag.text,
        "media_type": target.media_type,
        "digest": str(target.digest),
        "size": target.size,
        "checked_at": pointer.checked_at.timestamp(),
        "now": now,
    }
    connection.execute(_PUT_POINTER, row)
    note_sighting(connection, image_id, pointer, now)
    _note_return(connection, target.digest)
    log.note(connection, source, image, tag)


def _note_return(connection: Connection, digest: Digest) -> None:
    """Remove the mark of what is gone upstream, because a tag points to the digest again."""
    if connection.scalar(_GONE, {"digest": str(digest)}):
        for batch in batches(closure(connection, [digest])):
            connection.execute(delete(gone).where(gone.c.digest.in_(batch)))
