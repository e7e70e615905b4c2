"""What may go wrong with an upstream; the only errors that leave cache.upstream."""

from typing import Self

from cache.values import Fault


class UpstreamError(Exception):
    """`reason` is for people: it names hosts, never URLs with queries and never credentials."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def again(self) -> Self:
        """A fresh exception with the same meaning, for one more of those who waited for the same thing."""
        return type(self)(self.reason)


class NotFound(UpstreamError):
    """The registry itself says that there is no such thing."""


class AccessDenied(UpstreamError):
    """The registry itself refuses, to a token that is fresh or to nobody."""


class UpstreamOutage(UpstreamError):
    """Everything that may be better later: what is cached may be served stale."""


class Unavailable(UpstreamOutage):
    """No usable answer: refused, timed out, TLS, DNS, 5xx, or a token service that does not give tokens.

    `retry_after`: seconds in which nothing will be asked; None where that is not known.
    """

    def __init__(self, reason: str, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after

    def again(self) -> Self:
        return type(self)(self.reason, self.retry_after)


class RateLimited(UpstreamOutage):
    def __init__(self, reason: str, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after

    def again(self) -> Self:
        return type(self)(self.reason, self.retry_after)


class Corrupt(UpstreamOutage):
    """An answer that must not be passed on; `evidence` is its body, where that is small and was read."""

    def __init__(self, reason: str, fault: Fault = Fault.DIGEST, evidence: bytes = b"") -> None:
        super().__init__(reason)
        self.fault = fault
        self.evidence = evidence

    def again(self) -> Self:
        return type(self)(self.reason, self.fault)
