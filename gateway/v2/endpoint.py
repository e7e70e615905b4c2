"""Paths under /v2 as values: which endpoint, of which repository, for which reference or digest.

One pattern finds the endpoint and is wide; the values are strict, so that a wrong name is told what is wrong with it
instead of that there is no such path. A table of routes, tried one after the other, took a tenth of the time of a
cached manifest.
"""

import re
from dataclasses import dataclass
from enum import Enum

from cache.oci.digest import Digest
from cache.oci.errors import NameInvalid
from cache.oci.names import RepositoryName, Tag, parse_reference


class Kind(Enum):
    """What a path under /v2 is about; the values are the groups of the pattern."""

    MANIFEST = "reference"
    BLOB = "digest"
    UPLOAD = "upload"
    TAGS = "tags"
    REFERRERS = "subject"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`target` is the reference of a manifest, the digest of a blob or a subject, and None for the others."""

    kind: Kind
    name: RepositoryName
    target: Tag | Digest | None


# The name reaches up to the last word that can end it: it may hold words like `manifests` itself.
_ENDPOINT = re.compile(
    r"/v2/(?P<name>.+)/(?:manifests/(?P<reference>[^/]+)|blobs/(?P<upload>uploads(?:/.*)?)|blobs/(?P<digest>[^/]+)"
    r"|tags/(?P<tags>list)|referrers/(?P<subject>[^/]+))",
    re.DOTALL,
)


def parse_endpoint(path: str) -> Endpoint | None:
    """None for a path that is none of the specification's. Raises NameInvalid, TagInvalid, DigestInvalid."""
    match = _ENDPOINT.fullmatch(path)
    if match is None or match.lastgroup is None:
        return None
    kind, name = Kind(match.lastgroup), RepositoryName.parse(match["name"])
    match kind:
        case Kind.MANIFEST:
            return Endpoint(kind, name, parse_reference(match["reference"]))
        case Kind.BLOB | Kind.REFERRERS:
            return Endpoint(kind, name, Digest.parse(match[kind.value]))
        case _:
            return Endpoint(kind, name, None)


def check_raw_path(raw_path: bytes) -> None:
    """Raises NameInvalid for a path under /v2 with an escape other than that of the colon.

    A path is read decoded, where `%2f` has become a slash; none of the characters of names, tags and digests needs an
    escape.
    """
    if b"%" in raw_path and b"%" in raw_path.lower().replace(b"%3a", b""):
        raise NameInvalid("a path holds a percent escape that no name, tag or digest needs")
