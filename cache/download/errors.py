"""How a flight may end beside what an upstream does, and how the workers of a host tell each other of a failure."""

from typing import Any

from cache.upstream.errors import Corrupt, RateLimited, Unavailable, UpstreamError
from cache.values import Fault


class Arrived(UpstreamError):
    """The blob has come to rest here in the meantime: who waits looks again."""


class Unstorable(Unavailable):
    """It cannot be written here. The upstream may well give it."""


def unstorable(error: OSError) -> Unstorable:
    return Unstorable(f"the blob cannot be written here ({error.strerror or error})")


def told(error: UpstreamError) -> dict[str, Any] | None:
    """As a document; None for what concerns one image alone, so that others must find out for themselves."""
    match error:
        case Corrupt(reason=reason, fault=fault):
            return {"kind": "corrupt", "reason": reason, "fault": fault.value}
        case RateLimited(reason=reason, retry_after=seconds):
            return {"kind": "rate limited", "reason": reason, "retry_after": seconds}
        case Unstorable(reason=reason):
            return {"kind": "unstorable", "reason": reason}
        case Unavailable(reason=reason):
            return {"kind": "unavailable", "reason": reason}
        case _:
            return None


def understood(document: dict[str, Any]) -> UpstreamError:
    reason = str(document.get("reason", ""))
    match document.get("kind"):
        case "corrupt":
            return Corrupt(reason, Fault(document["fault"]))
        case "rate limited":
            return RateLimited(reason, document["retry_after"])
        case "unstorable":
            return Unstorable(reason)
        case _:
            return Unavailable(reason)
