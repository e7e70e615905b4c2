"""Paths under /v2 as values: which endpoint, of which repository, for which reference or digest.

One wide pattern finds the endpoint; its values are parsed strictly, so that the error for a wrong name says what is
wrong with it instead of 404. A table of routes, tried one after the other, took a tenth of the time of a cached
manifest.
"""

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from cache.oci.digest import Digest
from cache.oci.errors import NameInvalid
from cache.oci.names import RepositoryName, Tag, parse_reference

PINGS = ("/v2", "/v2/")
"""Paths by which a client finds out that this is a registry; they name no endpoint of a repository."""

CATALOG = "/v2/_catalog"
"""Path of the list of all repositories."""


class EndpointKind(Enum):
    """The resource that a path under /v2 names; the values are the groups of the pattern."""

    MANIFEST = "reference"
    BLOB = "digest"
    UPLOADS = "uploads"
    UPLOAD = "upload"
    TAGS = "tags"
    TAG = "tag"
    REFERRERS = "subject"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A parsed path.

    `target`: a manifest's reference, the digest of a blob or a subject, a tag, the id of an upload, None for other
    kinds.
    """

    kind: EndpointKind
    name: RepositoryName
    target: Tag | Digest | str | None

    @property
    def reference(self) -> Tag | Digest:
        """The reference of a manifest. Raises TypeError for an endpoint without one."""
        if not isinstance(self.target, Tag | Digest):
            raise TypeError(f"{self.kind} has no reference")
        return self.target

    @property
    def digest(self) -> Digest:
        """The digest of a blob or a subject. Raises TypeError for an endpoint without one."""
        if not isinstance(self.target, Digest):
            raise TypeError(f"{self.kind} has no digest")
        return self.target

    @property
    def tag(self) -> Tag:
        """The tag itself. Raises TypeError for an endpoint without one."""
        if not isinstance(self.target, Tag):
            raise TypeError(f"{self.kind} has no tag")
        return self.target

    @property
    def upload(self) -> str:
        """The id of an upload. Raises TypeError for an endpoint without one."""
        if not isinstance(self.target, str):
            raise TypeError(f"{self.kind} has no id of an upload")
        return self.target


# The name extends to the last keyword that can end it, since it may contain words like `manifests` itself.
_ENDPOINT = re.compile(
    r"/v2/(?P<name>.+)/(?:manifests/(?P<reference>[^/]+)|blobs/(?P<uploads>uploads/?)|blobs/uploads/(?P<upload>[^/]+)"
    r"|blobs/(?P<digest>[^/]+)|tags/(?P<tags>list)|tags/reference/(?P<tag>[^/]+)|referrers/(?P<subject>[^/]+))",
    re.DOTALL,
)


def parse_endpoint(path: str) -> Endpoint | None:
    """The endpoint of a path; None for a path that the specification does not define.

    Paths that are pulled again and again are remembered, unless they are long, so that those that a client invents take
    little memory. Raises NameInvalid, TagInvalid, DigestInvalid.
    """
    return _remembered(path) if len(path) <= _REMEMBERED_LENGTH else _parse(path)


def _parse(path: str) -> Endpoint | None:
    match = _ENDPOINT.fullmatch(path)
    if match is None or match.lastgroup is None:
        return None
    kind, name = EndpointKind(match.lastgroup), RepositoryName.parse(match["name"])
    match kind:
        case EndpointKind.MANIFEST:
            return Endpoint(kind, name, parse_reference(match["reference"]))
        case EndpointKind.BLOB | EndpointKind.REFERRERS:
            return Endpoint(kind, name, Digest.parse(match[kind.value]))
        case EndpointKind.TAG:
            return Endpoint(kind, name, Tag.parse(match["tag"]))
        case EndpointKind.UPLOAD:
            return Endpoint(kind, name, match["upload"])
        case _:
            return Endpoint(kind, name, None)


_remembered = lru_cache(1024)(_parse)
_REMEMBERED_LENGTH = 512
"""Characters of a path that is remembered: 1,024 of them take 1.5 MB, with all that is made of them."""


def check_raw_path(raw_path: bytes) -> None:
    """Refuse (NameInvalid) a path under /v2 with an escape other than that of the colon.

    Paths are parsed after decoding, when `%2f` has become a slash. No character of a name, tag or digest needs an
    escape but the colon.
    """
    if b"%" in raw_path and b"%" in raw_path.lower().replace(b"%3a", b""):
        raise NameInvalid("the path has a percent escape that no name, tag or digest needs")
