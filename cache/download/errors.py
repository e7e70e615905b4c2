"""Ends of a download that no upstream causes, and how the workers of a host report a failure to each other."""

from typing import Any

from cache.store.spool import DigestMismatch, LengthMismatch
from cache.upstream.errors import Corrupt, RateLimited, Unavailable, UpstreamError
from cache.values import Fault


class AlreadyStored(UpstreamError):
    """Another worker has stored the blob in the meantime: look it up again."""


class Unstorable(Unavailable):
    """The blob cannot be written to the disk of this host. The upstream may well serve it."""


def unstorable(error: OSError) -> Unstorable:
    return Unstorable(f"the blob cannot be written to disk ({error.strerror or error})")


def corrupt(mismatch: DigestMismatch, host: str = "") -> Corrupt:
    """Failure of a download whose bytes, or whose promised length, do not match."""
    fault = Fault.LENGTH if isinstance(mismatch, LengthMismatch) else Fault.DIGEST
    return Corrupt(f"{host}: {mismatch}" if host else str(mismatch), fault)


def abandoned() -> Unavailable:
    return Unavailable("every client has left")


def failure_document(error: UpstreamError) -> dict[str, Any] | None:
    """Document of a failure that concerns every waiting worker; None for one that concerns a single image."""
    match error:
        case Corrupt(reason=reason, fault=fault):
            return {"kind": "corrupt", "reason": reason, "fault": fault.value}
        case RateLimited(reason=reason, retry_after=seconds):
            return {"kind": "rate limited", "reason": reason, "retry_after": seconds}
        case Unstorable(reason=reason):
            return {"kind": "unstorable", "reason": reason}
        case Unavailable(reason=reason, retry_after=seconds):
            return {"kind": "unavailable", "reason": reason, "retry_after": seconds}
        case _:
            return None


def failure_from(document: dict[str, Any]) -> UpstreamError:
    """Failure that another worker reported with `failure_document`."""
    reason = str(document.get("reason", ""))
    match document.get("kind"):
        case "corrupt":
            return Corrupt(reason, Fault(document["fault"]))
        case "rate limited":
            return RateLimited(reason, document["retry_after"])
        case "unstorable":
            return Unstorable(reason)
        case _:
            return Unavailable(reason, document.get("retry_after"))
