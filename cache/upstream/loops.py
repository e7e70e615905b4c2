"""Loops: the header by which gateways recognise requests that come back to them, directly or in a circle (RFC 8586).

A request to an upstream names this gateway, after the gateways that have sent on the request which caused it: those are
passed on through the context of that request, which its tasks and threads have too. Only names that gateways give
themselves are passed on: they cannot be guessed. Any other proxy's name is one that every client knows, and with which
it could have an upstream refuse a download that others wait for.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

LOOP_HEADER = "CDN-Loop"
GATEWAY_PREFIX = "registry-gateway-"
"""Beginning of the names of gateways; 16 hexadecimal digits follow, which are different for each."""
GATEWAYS_LIMIT = 16
"""Gateways in a row: more are a circle, whose members cannot see that."""
LOOPED = 508
"""Status of the response to a request that has come back (RFC 5842, section 7.2)."""

_GATEWAY = re.compile(rf"{GATEWAY_PREFIX}[0-9a-f]{{16}}")
_passed_on: ContextVar[tuple[str, ...]] = ContextVar("gateways", default=())


def gateways_in(values: Iterable[str]) -> list[str]:
    """Names of gateways, in their order, in the values of the header. Anything else in them is left out."""
    entries = (entry.partition(";")[0].strip(" \t") for value in values for entry in value.split(","))
    return [entry for entry in entries if _GATEWAY.fullmatch(entry)]


@contextmanager
def passing_on(gateways: Iterable[str]) -> Iterator[None]:
    """Name gateways in all requests to upstreams that the block causes."""
    token = _passed_on.set(tuple(gateways))
    try:
        yield
    finally:
        _passed_on.reset(token)


def is_sent_on() -> bool:
    """Whether the request that the caller works for came from another gateway."""
    return bool(_passed_on.get())


def loop_headers(sender: str) -> dict[str, str]:
    """The header of a request that `sender` sends on; none where that is empty."""
    return {LOOP_HEADER: ", ".join((*_passed_on.get(), sender))} if sender else {}
