"""Statements: who speaks in a response of an upstream, and what the response means for the content; pure.

Middleboxes, load balancers, login pages and content delivery networks send the same status codes as a registry, but
neither a registry's header nor its error document (distribution-spec, "Error Codes"). What they say is no statement
about the content: nothing that is held is lost by it.
"""

import json
from collections.abc import Mapping
from enum import Enum

from cache.oci.media_types import essence

API_VERSION_HEADER = "docker-distribution-api-version"
ERROR_LIMIT = 64 * 1024
"""Bytes of an error document that are read."""

_OF_ANY_HOST = (404, 410)
_OF_OWN_HOST = (401, 403)
_WITHOUT_REFERRERS = (400, 405, 406, 415, 501)


class Meaning(Enum):
    """Meaning of a response for the content that was requested.

    CONTENT: here it is. UNCHANGED: it is what the request named as held. ABSENT and DENIED: the registry states that
    it does not have it, or refuses it. LIMITED: the upstream's own limit on requests is used up. OUTAGE: a failure that
    may be temporary. NOTHING: no statement about the content, since no registry wrote the response, or the target of a
    redirect refuses access.
    """

    CONTENT = "content"
    UNCHANGED = "unchanged"
    ABSENT = "absent"
    DENIED = "denied"
    LIMITED = "limited"
    OUTAGE = "outage"
    NOTHING = "nothing"


def meaning_of(
    status: int, headers: Mapping[str, str], body: bytes = b"", *, own: bool, of_blob: bool = False
) -> Meaning:
    """The meaning of a response.

    `own`: whether the upstream's own host sent it, and not the target of a redirect. `of_blob`: whether a blob was
    requested, which redirects lead to a storage service: what that refuses it may grant to the next signed URL.
    """
    match status:
        case 304:
            return Meaning.UNCHANGED
        case 429 if own:
            return Meaning.LIMITED
        case _ if 200 <= status < 300:
            return Meaning.CONTENT
        case _ if speaks_for_registry(status, headers, body, own=own):
            return Meaning.ABSENT if status in _OF_ANY_HOST else Meaning.DENIED
        case _ if status in _OF_ANY_HOST + _OF_OWN_HOST and (own or not of_blob):
            return Meaning.NOTHING
    return Meaning.OUTAGE


def may_speak_for_registry(status: int, *, own: bool) -> bool:
    """Whether a response with this status can be the registry's statement about content. `own`: whether the upstream's
    own host sent it, and not the target of a redirect."""
    return status in _OF_ANY_HOST or (own and status in _OF_OWN_HOST)


def speaks_for_registry(status: int, headers: Mapping[str, str], body: bytes = b"", *, own: bool) -> bool:
    """Whether the response is the registry's statement: by its header, or by an error document in its body."""
    if not may_speak_for_registry(status, own=own):
        return False
    return API_VERSION_HEADER in headers or _is_error_document(body)


def head_proves_nothing(status: int, meaning: Meaning, *, truthful: bool) -> bool:
    """Whether only a GET can tell what a HEAD with this outcome was meant to.

    Registries refuse HEAD requests for what they give to GET, or do not support them. `truthful`: the registry is known
    not to, so that its own statements count. What a GET would meet as well, a limit or an outage, is no reason for one.
    """
    if truthful and meaning in (Meaning.ABSENT, Meaning.DENIED):
        return False
    return (400 <= status < 500 and status != 429) or status == 501


def lacks_referrers(status: int, headers: Mapping[str, str], meaning: Meaning, *, own: bool) -> bool:
    """Whether a response to a request for referrers shows that the registry has no such API, so that the fallback tag
    counts (distribution-spec 1.1, "Referrers Tag Schema").

    Registries say so in many ways: by a redirect to a web page that limits requests, or by a page instead of a list.
    """
    if meaning is Meaning.CONTENT:
        return essence(headers.get("content-type", "")) == "text/html"
    if meaning in (Meaning.ABSENT, Meaning.NOTHING) or status in _WITHOUT_REFERRERS:
        return True
    return status == 429 and not own


def _is_error_document(body: bytes) -> bool:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and isinstance(document.get("errors"), list)
