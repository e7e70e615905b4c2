"""RegistryError and the error codes of the OCI distribution specification, one class each.

Nothing else crosses into HTTP. The codes are those of the distribution specification ("Error Codes") and of the
distribution project, which clients also know.
"""

from collections.abc import Mapping
from enum import Enum
from typing import ClassVar


class RefusalReason(Enum):
    """Why a request was refused, as refusals are counted: a bounded set, which tells apart what a person does."""

    LOGIN = "login"
    DENIED = "denied"
    OPEN_PROXY = "open_proxy"
    HOST = "host"
    LOOP = "loop"
    UPSTREAM_RULE = "upstream_rule"
    GATE = "gate"
    COOLDOWN = "cooldown"
    PIN = "pin"
    QUOTA = "quota"
    PROTECTED = "protected"
    NAME_UNKNOWN = "name_unknown"
    MANIFEST_UNKNOWN = "manifest_unknown"
    BLOB_UNKNOWN = "blob_unknown"
    UPLOAD_UNKNOWN = "upload_unknown"
    INVALID = "invalid"
    UNSUPPORTED = "unsupported"
    TOO_LARGE = "too_large"
    TOO_MANY = "too_many"
    UPSTREAM_INVALID = "upstream_invalid"
    UPSTREAM_UNAVAILABLE = "upstream_unavailable"
    STORAGE_FULL = "storage_full"
    UNAVAILABLE = "unavailable"
    BUSY = "busy"
    FAULT = "fault"


class RegistryError(Exception):
    """A refusal with a code that clients know.

    `detail` is a sentence or a JSON-able value for a person; `headers` are sent with the response. `reason` and
    `facts` are for the log alone, where they say more than the client may know; `facts` by names of fields.
    `is_absence`: whether the registry that was asked states itself that it has no such thing, or does not show it.
    """

    counted_as: RefusalReason = RefusalReason.FAULT

    code: ClassVar[str] = "UNKNOWN"
    status: ClassVar[int] = 500
    message: ClassVar[str] = "unknown error"

    def __init__(self, detail: object = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail if detail is not None else self.message)
        self.detail = detail
        self.headers = dict(headers or {})
        self.reason = ""
        self.facts: dict[str, str] = {}
        self.is_absence = False

    def __str__(self) -> str:
        return self.message if self.detail is None else f"{self.message}: {self.detail}"


class NameInvalid(RegistryError):
    """The name does not follow the grammar of repository names."""

    code, status, message = "NAME_INVALID", 400, "invalid repository name"
    counted_as = RefusalReason.INVALID


class NameUnknown(RegistryError):
    """This server has no repository of this name."""

    code, status, message = "NAME_UNKNOWN", 404, "repository name not known to registry"
    counted_as = RefusalReason.NAME_UNKNOWN


class TagInvalid(RegistryError):
    """The tag does not follow the grammar of tags."""

    code, status, message = "TAG_INVALID", 400, "manifest tag did not match the grammar of tags"
    counted_as = RefusalReason.INVALID


class DigestInvalid(RegistryError):
    """The digest has an unknown algorithm or a wrong form."""

    code, status, message = "DIGEST_INVALID", 400, "provided digest is not valid"
    counted_as = RefusalReason.INVALID


class ManifestInvalid(RegistryError):
    """The document is not a valid manifest or index."""

    code, status, message = "MANIFEST_INVALID", 400, "manifest invalid"
    counted_as = RefusalReason.INVALID


class ManifestUnknown(RegistryError):
    """The repository has no manifest of this tag or digest."""

    code, status, message = "MANIFEST_UNKNOWN", 404, "manifest unknown to registry"
    counted_as = RefusalReason.MANIFEST_UNKNOWN


class BlobUnknown(RegistryError):
    """The repository has no blob of this digest."""

    code, status, message = "BLOB_UNKNOWN", 404, "blob unknown to registry"
    counted_as = RefusalReason.BLOB_UNKNOWN


class ManifestBlobUnknown(RegistryError):
    """A manifest refers to content that the repository does not have."""

    code, status, message = "MANIFEST_BLOB_UNKNOWN", 404, "blob unknown to registry"
    counted_as = RefusalReason.BLOB_UNKNOWN


class UploadUnknown(RegistryError):
    """The repository has no unfinished upload of this id, or it is another client's."""

    code, status, message = "BLOB_UPLOAD_UNKNOWN", 404, "blob upload unknown to registry"
    counted_as = RefusalReason.UPLOAD_UNKNOWN


class UploadInvalid(RegistryError):
    """The request does not fit the upload."""

    code, status, message = "BLOB_UPLOAD_INVALID", 400, "blob upload invalid"
    counted_as = RefusalReason.INVALID


class SizeInvalid(RegistryError):
    """The content has another length than was stated, or is larger than it may be."""

    code, status, message = "SIZE_INVALID", 400, "provided length did not match content length"
    counted_as = RefusalReason.INVALID


class TooLarge(SizeInvalid):
    """The content is larger than this server takes."""

    status, message = 413, "the content is too large"
    counted_as = RefusalReason.TOO_LARGE


class StorageFull(RegistryError):
    """There is no room left for what is pushed; what was there before is untouched."""

    code, status, message = "DENIED", 507, "this server has no room left"
    counted_as = RefusalReason.STORAGE_FULL


class RangeInvalid(RegistryError):
    """The requested range is not within the blob."""

    code, status, message = "RANGE_INVALID", 416, "requested range not satisfiable"
    counted_as = RefusalReason.INVALID


class PageInvalid(RegistryError):
    """The `n` of a list is not a number; the code comes from the distribution project."""

    code, status, message = "PAGINATION_NUMBER_INVALID", 400, "invalid number of results requested"
    counted_as = RefusalReason.INVALID


class ArtifactTypeInvalid(RegistryError):
    """The `artifactType` of a list of referrers is no media type; the specification has no code of its own for it."""

    code, status, message = "UNSUPPORTED", 400, "invalid artifact type"
    counted_as = RefusalReason.INVALID


class Denied(RegistryError):
    """The requested access is not permitted."""

    code, status, message = "DENIED", 403, "requested access to the resource is denied"

    def __init__(
        self,
        detail: object = None,
        headers: Mapping[str, str] | None = None,
        counted_as: RefusalReason = RefusalReason.DENIED,
    ) -> None:
        """`counted_as`: the rule that refuses, where it is none of roles and tokens."""
        super().__init__(detail, headers)
        self.counted_as = counted_as


class Unauthorized(RegistryError):
    """The request needs a credential."""

    code, status, message = "UNAUTHORIZED", 401, "authentication required"
    counted_as = RefusalReason.LOGIN


class TooManyRequests(RegistryError):
    """The client must wait before its next request; always sent with Retry-After."""

    code, status, message = "TOOMANYREQUESTS", 429, "too many requests"
    counted_as = RefusalReason.TOO_MANY

    def __init__(self, detail: object = None, retry_after: int = 1) -> None:
        super().__init__(detail, {"Retry-After": str(retry_after)})


class Unsupported(RegistryError):
    """The path or the repository does not support the operation."""

    code, status, message = "UNSUPPORTED", 405, "the operation is unsupported"
    counted_as = RefusalReason.UNSUPPORTED


class EncodingUnsupported(RegistryError):
    """The body of the request is encoded for its transfer in a way in which nothing is taken."""

    code, status, message = "UNSUPPORTED", 415, "the content encoding is unsupported"
    counted_as = RefusalReason.UNSUPPORTED


class EndpointUnknown(RegistryError):
    """The path is not in the specification; its code is that of Unsupported, because the specification has no other."""

    code, status, message = "UNSUPPORTED", 404, "no such endpoint"
    counted_as = RefusalReason.UNSUPPORTED


class UpstreamInvalid(RegistryError):
    """The upstream sent a response that must not be passed on: wrong bytes, HTML, a wrong length."""

    code, status, message = "UNKNOWN", 502, "the upstream registry sent an invalid response"
    counted_as = RefusalReason.UPSTREAM_INVALID


class UpstreamUnavailable(RegistryError):
    """The content is not cached and the upstream cannot provide it; always sent with Retry-After."""

    code, status, message = "UNAVAILABLE", 503, "the upstream registry is not available"
    counted_as = RefusalReason.UPSTREAM_UNAVAILABLE

    def __init__(self, detail: object = None, retry_after: int = 5) -> None:
        super().__init__(detail, {"Retry-After": str(retry_after)})


class InCircle(RegistryError):
    """A request of another gateway that this server, directly or through others, has caused itself (RFC 5842, 7.2)."""

    code, status, message = "UNAVAILABLE", 508, "this request came from this gateway itself"
    counted_as = RefusalReason.LOOP


class StoreUnavailable(RegistryError):
    """This server's own storage does not respond."""

    code, status, message = "UNAVAILABLE", 503, "the registry is not available"
    counted_as = RefusalReason.UNAVAILABLE

    def __init__(self, detail: object = None) -> None:
        super().__init__(detail, {"Retry-After": "5"})


class Busy(RegistryError):
    """This server has too much of the same work under way; always sent with Retry-After."""

    code, status, message = "UNAVAILABLE", 503, "the registry is busy"
    counted_as = RefusalReason.BUSY

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
