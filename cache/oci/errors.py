"""RegistryError and the error codes of the OCI distribution specification, one class each.

Nothing else crosses into HTTP. The codes are those of the distribution specification ("Error Codes") and of the
distribution project, which clients also know.
"""

from collections.abc import Mapping
from typing import ClassVar


class RegistryError(Exception):
    """A refusal with a code that clients know.

    `detail` is a sentence or a JSON-able value for a person; `headers` are sent with the response. `reason` and
    `facts` are for the log alone, where they say more than the client may know; `facts` by names of fields.
    """

    code: ClassVar[str] = "UNKNOWN"
    status: ClassVar[int] = 500
    message: ClassVar[str] = "unknown error"

    def __init__(self, detail: object = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail if detail is not None else self.message)
        self.detail = detail
        self.headers = dict(headers or {})
        self.reason = ""
        self.facts: dict[str, str] = {}

    def __str__(self) -> str:
        return self.message if self.detail is None else f"{self.message}: {self.detail}"


class NameInvalid(RegistryError):
    """The name does not follow the grammar of repository names."""

    code, status, message = "NAME_INVALID", 400, "invalid repository name"


class NameUnknown(RegistryError):
    """This server has no repository of this name."""

    code, status, message = "NAME_UNKNOWN", 404, "repository name not known to registry"


class TagInvalid(RegistryError):
    """The tag does not follow the grammar of tags."""

    code, status, message = "TAG_INVALID", 400, "manifest tag did not match the grammar of tags"


class DigestInvalid(RegistryError):
    """The digest has an unknown algorithm or a wrong form."""

    code, status, message = "DIGEST_INVALID", 400, "provided digest is not valid"


class ManifestInvalid(RegistryError):
    """The document is not a valid manifest or index."""

    code, status, message = "MANIFEST_INVALID", 400, "manifest invalid"


class ManifestUnknown(RegistryError):
    """The repository has no manifest of this tag or digest."""

    code, status, message = "MANIFEST_UNKNOWN", 404, "manifest unknown to registry"


class BlobUnknown(RegistryError):
    """The repository has no blob of this digest."""

    code, status, message = "BLOB_UNKNOWN", 404, "blob unknown to registry"


class ManifestBlobUnknown(RegistryError):
    """A manifest refers to content that the repository does not have."""

    code, status, message = "MANIFEST_BLOB_UNKNOWN", 404, "blob unknown to registry"


class UploadUnknown(RegistryError):
    """The repository has no unfinished upload of this id, or it is another client's."""

    code, status, message = "BLOB_UPLOAD_UNKNOWN", 404, "blob upload unknown to registry"


class UploadInvalid(RegistryError):
    """The request does not fit the upload."""

    code, status, message = "BLOB_UPLOAD_INVALID", 400, "blob upload invalid"


class SizeInvalid(RegistryError):
    """The content has another length than was stated, or is larger than it may be."""

    code, status, message = "SIZE_INVALID", 400, "provided length did not match content length"


class TooLarge(SizeInvalid):
    """The content is larger than this server takes."""

    status, message = 413, "the content is too large"


class StorageFull(RegistryError):
    """There is no room left for what is pushed; what was there before is untouched."""

    code, status, message = "DENIED", 507, "this server has no room left"


class RangeInvalid(RegistryError):
    """The requested range is not within the blob."""

    code, status, message = "RANGE_INVALID", 416, "requested range not satisfiable"


class PageInvalid(RegistryError):
    """The `n` of a list is not a number; the code comes from the distribution project."""

    code, status, message = "PAGINATION_NUMBER_INVALID", 400, "invalid number of results requested"


class ArtifactTypeInvalid(RegistryError):
    """The `artifactType` of a list of referrers is no media type; the specification has no code of its own for it."""

    code, status, message = "UNSUPPORTED", 400, "invalid artifact type"


class Denied(RegistryError):
    """The requested access is not permitted."""

    code, status, message = "DENIED", 403, "requested access to the resource is denied"


class Unauthorized(RegistryError):
    """The request needs a credential."""

    code, status, message = "UNAUTHORIZED", 401, "authentication required"


class TooManyRequests(RegistryError):
    """The client must wait before its next request; always sent with Retry-After."""

    code, status, message = "TOOMANYREQUESTS", 429, "too many requests"

    def __init__(self, detail: object = None, retry_after: int = 1) -> None:
        super().__init__(detail, {"Retry-After": str(retry_after)})


class Unsupported(RegistryError):
    """The path or the repository does not support the operation."""

    code, status, message = "UNSUPPORTED", 405, "the operation is unsupported"


class EncodingUnsupported(RegistryError):
    """The body of the request is encoded for its transfer in a way in which nothing is taken."""

    code, status, message = "UNSUPPORTED", 415, "the content encoding is unsupported"


class EndpointUnknown(RegistryError):
    """The path is not in the specification; its code is that of Unsupported, because the specification has no other."""

    code, status, message = "UNSUPPORTED", 404, "no such endpoint"


class UpstreamInvalid(RegistryError):
    """The upstream sent a response that must not be passed on: wrong bytes, HTML, a wrong length."""

    code, status, message = "UNKNOWN", 502, "the upstream registry sent an invalid response"


class UpstreamUnavailable(RegistryError):
    """The content is not cached and the upstream cannot provide it; always sent with Retry-After."""

    code, status, message = "UNAVAILABLE", 503, "the upstream registry is not available"

    def __init__(self, detail: object = None, retry_after: int = 5) -> None:
        super().__init__(detail, {"Retry-After": str(retry_after)})


class StoreUnavailable(RegistryError):
    """This server's own storage does not respond."""

    code, status, message = "UNAVAILABLE", 503, "the registry is not available"

    def __init__(self, detail: object = None) -> None:
        super().__init__(detail, {"Retry-After": "5"})


class Busy(RegistryError):
    """This server has too much of the same work under way; always sent with Retry-After."""

    code, status, message = "UNAVAILABLE", 503, "the registry is busy"

    def __init__(self, detail: object = None) -> None:
        super().__init__(detail, {"Retry-After": "5"})


def error_codes() -> dict[str, list[int]]:
    """Every code with its statuses; a test compares the documentation with it."""
    table: dict[str, set[int]] = {}
    pending: list[type[RegistryError]] = [RegistryError]
    while pending:
        error = pending.pop()
        table.setdefault(error.code, set()).add(error.status)
        pending += error.__subclasses__()
    return {code: sorted(statuses) for code, statuses in sorted(table.items())}
