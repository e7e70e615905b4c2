"""Media types of manifests, and their meaning."""

import re

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCTET_STREAM = "application/octet-stream"

SCHEMA_1 = frozenset(f"application/vnd.docker.distribution.manifest.v1+{form}" for form in ("json", "prettyjws"))
"""Media types of Docker's first format of images, which is not served (distribution project, "Image Manifest Version 2,
Schema 1"). Old registries send it as `application/json`."""

INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
ACCEPTED = (OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST)
"""Media types that every manifest request to an upstream accepts: the response must not depend on the client."""


_RESTRICTED_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_MEDIA_TYPE = re.compile(f"{_RESTRICTED_NAME}/{_RESTRICTED_NAME}")


def is_media_type(text: str) -> bool:
    """True for `type/subtype` without parameters (RFC 6838, section 4.2)."""
    return _MEDIA_TYPE.fullmatch(text) is not None


def is_index(media_type: str) -> bool:
    return media_type in INDEXES


def is_manifest(media_type: str) -> bool:
    """True for every document that is served under `manifests/`: images and indexes."""
    return media_type in INDEXES or media_type in MANIFESTS


def essence(content_type: str) -> str:
    """`type/subtype` of a Content-Type without its parameters, lower case (RFC 9110, section 8.3.1)."""
    return single_value(content_type.partition(";")[0].lower())


def single_value(field: str) -> str:
    """The value of a header field that has one: proxies repeat fields, whose lines are joined by commas, and some
    registries quote values. Values that differ are returned as they are joined."""
    values = {value.strip().strip('"') for value in field.split(",")}
    return values.pop().strip() if len(values) == 1 else field.strip()
