"""Errors of upstreams; no other errors leave cache.upstream."""

from typing import Self

from cache.values import Fault, safe_reason


class UpstreamError(Exception):
    """Failure of an upstream. `reason` is a safe one, for people: it names hosts, never URLs with queries, never
    credentials, and of responses only what a token service states of its refusal."""

    def __init__(self, reason: str) -> None:
        self.reason = safe_reason(reason)
        super().__init__(self.reason)

    def again(self) -> Self:
        """A new exception with the same meaning, for another waiter of the same result."""
        return type(self)(self.reason)


class NotFound(UpstreamError):
    """The registry itself responds that the content does not exist."""


class AccessDenied(UpstreamError):
    """The registry itself refuses, either a fresh token or an anonymous request."""


class FormatUnsupported(UpstreamError):
    """The upstream has the content in a format only that this gateway does not serve; the upstream works."""


class UpstreamOutage(UpstreamError):
    """A failure that may be temporary: cached content may be served stale."""


class Unavailable(UpstreamOutage):
    """No usable response: refused, timed out, TLS, DNS, 5xx, or a token service that issues no tokens.

    `retry_after`: seconds in which no request will be sent, or in which the upstream wants none; None if that is not
    known.
    """

    def __init__(self, reason: str, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after

    def again(self) -> Self:
        return type(self)(self.reason, self.retry_after)


class CircuitOpen(Unavailable):
    """No request was sent, because earlier ones failed."""


class CameBack(Unavailable):
    """The upstream has received its own request: its upstreams lead back to it, or to this gateway."""


class NoRoom(Unavailable):
    """This process has no memory left for a large document now, which shows nothing of the upstream."""

    def __init__(self, reason: str, retry_after: int | None = 5) -> None:
        super().__init__(reason, retry_after)


class CredentialRefused(Unavailable):
    """The upstream, or its token service, refuses our credential for every use: it is wrong, or it has expired."""


class NoStatement(UpstreamOutage):
    """A refusal that no registry wrote, which says nothing about the content: what is held may be served stale. What is
    not held counts as absent, for this request alone."""


class RateLimited(UpstreamOutage):
    """The upstream's limit on requests is used up. `retry_after`: seconds until the next request; None if unknown."""

    def __init__(self, reason: str, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after

    def again(self) -> Self:
        return type(self)(self.reason, self.retry_after)


class Corrupt(UpstreamOutage):
    """A response that must not be passed on; `evidence` is its body, if it is small and was read."""

    def __init__(self, reason: str, fault: Fault = Fault.DIGEST, evidence: bytes = b"") -> None:
        super().__init__(reason)
        self.fault = fault
        self.evidence = evidence

    def again(self) -> Self:
        return type(self)(self.reason, self.fault)
