"""Rate limits: how many requests a minute the REST API takes from each user, each token of nobody, and each address.

Each process counts what it is sent. The headers are those of GitLab, by which its clients wait of their own accord.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from cachetools import LRUCache
from starlette.requests import Request
from starlette.types import Scope

from gateway.api.errors import RATE_LIMITS, RateExceeded
from gateway.auth.principal import Principal
from gateway.auth.requester import requester_of
from gateway.client_name import client_name, is_loopback

WINDOW = 60.0
"""Seconds over which requests are counted; they begin with the first one."""

KEPT = 20_000
"""Users, tokens and addresses whose requests are counted, those of the latest requests."""


@dataclass(frozen=True, slots=True)
class RateOptions:
    """Requests a minute; 0 for any number. `user`: of a user by all tokens, or of a token that belongs to nobody;
    `anonymous`: of an address without a token that is accepted."""

    user: int = 0
    anonymous: int = 0


UNLIMITED = RateOptions()


@dataclass(slots=True)
class _Window:
    began: float
    count: int = 0


class RateLimits:
    """Counts requests. For one event loop. `clock`: seconds since 1970."""

    def __init__(self, options: RateOptions, clock: Callable[[], float] = time.time, kept: int = KEPT) -> None:
        self._options = options
        self._clock = clock
        self._windows: LRUCache[object, _Window] = LRUCache(kept)

    def admit(self, request: Request, principal: Principal) -> None:
        """Count a request, and note the headers that its response has. Raises RateExceeded.

        An address of IPv6 is its network of 64 bits, of which a client may use any address. At a loopback address there
        may be any number of clients, behind a proxy that says nothing of them: they are not limited.
        """
        if principal.is_anonymous:
            address = request.client.host if request.client else ""
            if address and not is_loopback(address):
                name = "throttle_unauthenticated_api"
                self._count(request.scope, name, ("address", client_name(address)), self._options.anonymous)
            return
        key = "principal", requester_of(principal).group
        self._count(request.scope, "throttle_authenticated_api", key, self._options.user)

    def _count(self, scope: Scope, name: str, key: object, limit: int) -> None:
        if not limit:
            return
        now, window = self._clock(), self._windows.get(key)
        if window is None or not window.began <= now < window.began + WINDOW:
            window = _Window(now)
        window.count += 1
        self._windows[key] = window
        ends = window.began + WINDOW
        scope[RATE_LIMITS] = {
            "RateLimit-Limit": str(limit),
            "RateLimit-Name": name,
            "RateLimit-Observed": str(window.count),
            "RateLimit-Remaining": str(max(0, limit - window.count)),
            "RateLimit-Reset": str(ceil(ends)),
        }
        if window.count > limit:
            raise RateExceeded(limit, max(1, ceil(ends - now)))
