"""Referrers: the entries of lists of manifests that refer to a subject (distribution-spec, "Listing Referrers")."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cache.oci.document import parse_document
from cache.oci.manifest import Manifest
from cache.oci.media_types import is_index, is_media_type
from cache.values import WrittenDescriptor
from gateway.db.manifests import Referrer, StoredManifest

PAGE_COUNT = 100
PAGE_BYTES = 512 * 1024
"""Bytes of the manifests whose entries are on one page, unless it has one entry alone: parsing 2 MiB took 280 ms."""

ANNOTATION_BYTES = 1024 * 1024
"""Size of the annotations of one entry from which on they are left out: clients refuse lists above 4 MiB."""


def artifact_type(manifest: Manifest) -> str | None:
    """The artifact type by which a manifest is listed: its own or, for an image, that of its config.

    None where it has none that a filter can name. Blocks for a large manifest.
    """
    found = _artifact_type(parse_document(manifest.raw), manifest.descriptor.media_type)
    return found if found is not None and is_media_type(found) else None


def cut_page(found: Sequence[Referrer]) -> list[Referrer]:
    """The first referrers, as many as fit on a page, and at least one if there is any."""
    page, size = list[Referrer](), 0
    for referrer in found[:PAGE_COUNT]:
        size += referrer.size
        if page and size > PAGE_BYTES:
            break
        page.append(referrer)
    return page


def describe(stored: Sequence[StoredManifest]) -> list[WrittenDescriptor]:
    """The entries of the list for these manifests. Blocks while the manifests are parsed."""
    return [_entry(manifest) for manifest in stored]


def _entry(stored: StoredManifest) -> WrittenDescriptor:
    descriptor, document = stored.descriptor, _document_of(stored)
    entry: dict[str, Any] = {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }
    if kind := _artifact_type(document, descriptor.media_type):
        entry["artifactType"] = kind
    annotations = _annotations(document)
    if annotations and len(json.dumps(annotations)) <= ANNOTATION_BYTES:
        entry["annotations"] = annotations
    return WrittenDescriptor(entry, json.dumps(entry, separators=(",", ":"), allow_nan=False).encode())


def _document_of(stored: StoredManifest) -> Mapping[str, Any]:
    """The document of a manifest; empty where it was stored under rules that have become stricter."""
    try:
        document = parse_document(stored.raw)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _annotations(document: Mapping[str, Any]) -> dict[str, str]:
    """The annotations whose values are texts, as all must be (image-spec, "Annotations")."""
    found = document.get("annotations")
    entries = found.items() if isinstance(found, dict) else ()
    return {key: value for key, value in entries if isinstance(value, str)}


def _artifact_type(document: Mapping[str, Any], media_type: str) -> str | None:
    own, config = document.get("artifactType"), document.get("config")
    if isinstance(own, str) and own:
        return own
    of_config = config.get("mediaType") if isinstance(config, dict) and not is_index(media_type) else None
    return of_config if isinstance(of_config, str) and of_config else None
