"""Documents of the API of GitLab's registry: repositories, tags and images, as its documentation shapes them."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from cache.oci.digest import Digest
from gateway.db.repositories import StoredRepository
from gateway.db.tags import StoredTag
from gateway.namespaces.expiry import format_precisely
from gateway.registry.image_details import ImageDetails

Document = dict[str, object]
Platform = Mapping[str, object]


def repository_document(path: str, created_at: datetime | None, size: int | None) -> Document:
    """A repository. `created_at`: None where it holds nothing itself; `size`: in bytes, None where nobody asked."""
    document: Document = {"name": path.rpartition("/")[2], "path": path}
    if size is not None:
        document |= {"size_bytes": size, "size_precision": "default"}
    if created_at is not None:
        document["created_at"] = format_precisely(created_at)
    return document


def repository_documents(found: Sequence[StoredRepository]) -> list[Document]:
    """The entries of a list of repositories."""
    return [repository_document(one.path, one.created_at, None) for one in found]


def tag_document(
    stored: StoredTag, image: ImageDetails | None, referrers: Sequence[tuple[str | None, Digest]] | None
) -> Document:
    """The entry of a tag. `referrers`: None where nobody asked for them."""
    document: Document = {"name": stored.tag.text, "digest": str(stored.digest)}
    if image is not None:
        if image.config is not None:
            document["config_digest"] = str(image.config.digest)
        document |= {"media_type": image.descriptor.media_type, "size_bytes": image.size}
    document |= _times(stored)
    if referrers is not None:
        document["referrers"] = [{"artifactType": kind or "", "digest": str(digest)} for kind, digest in referrers]
    return document


def tag_details_document(
    path: str, stored: StoredTag, image: ImageDetails, children: Sequence[ImageDetails], platform: Platform | None
) -> Document:
    """One tag with its image. `path`: of its repository; `children`: the images that an index lists; `platform`: that
    of the config of an image, None where it has none."""
    shown = _image(image, platform)
    if children:
        shown["manifest"] = {**_manifest(image), "references": [_image(child, None) for child in children]}
    return {"repository": path, "name": stored.tag.text, "image": shown, **_times(stored)}


def _image(image: ImageDetails, platform: Platform | None) -> Document:
    document: Document = {"size_bytes": image.size, "manifest": _manifest(image)}
    if image.config is not None:
        config: Document = {"digest": str(image.config.digest), "media_type": image.config.media_type}
        if platform is not None:
            config["platform"] = dict(platform)
        document["config"] = config
    return document


def _manifest(image: ImageDetails) -> Document:
    return {"digest": str(image.descriptor.digest), "media_type": image.descriptor.media_type}


def _times(stored: StoredTag) -> Document:
    """When a tag was made and, where that has happened, last moved to another image; the later one is its publication
    (GitLab registry API, "List repository tags")."""
    document: Document = {"created_at": format_precisely(stored.created_at)}
    if stored.moved_at != stored.created_at:
        document["updated_at"] = format_precisely(stored.moved_at)
    return {**document, "published_at": format_precisely(stored.moved_at)}
