"""Refusals: whether a response with an error status is the registry's own statement; pure.

Middleboxes, load balancers and login pages send the same status codes, but neither a registry's header nor its error
document (distribution-spec, "Error Codes").
"""

import json
from collections.abc import Mapping

API_VERSION_HEADER = "docker-distribution-api-version"
ERROR_LIMIT = 64 * 1024
"""Bytes of an error document that are read."""

_OF_ANY_HOST = (404, 410)
_OF_OWN_HOST = (401, 403)


def may_speak_for_registry(status: int, *, own: bool) -> bool:
    """Whether a response with this status can be the registry's statement about content. `own`: whether the upstream's
    own host sent it, and not the target of a redirect."""
    return status in _OF_ANY_HOST or (own and status in _OF_OWN_HOST)


def speaks_for_registry(status: int, headers: Mapping[str, str], body: bytes = b"", *, own: bool) -> bool:
    """Whether the response is the registry's statement: by its header, or by an error document in its body."""
    if not may_speak_for_registry(status, own=own):
        return False
    return API_VERSION_HEADER in headers or _is_error_document(body)


def _is_error_document(body: bytes) -> bool:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and isinstance(document.get("errors"), list)
