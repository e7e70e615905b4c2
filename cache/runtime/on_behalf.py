"""On behalf: for whom a task or a thread sends its requests, where many share what few can have at a time.

A request of a client names it once, for the tasks and threads that it begins; what no client requested is of NOBODY.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from cache.runtime.fair_queue import NOBODY, Requester

_requester: ContextVar[Requester] = ContextVar("requester", default=NOBODY)


@contextmanager
def on_behalf_of(requester: Requester) -> Iterator[None]:
    """Name a requester for all that is sent to upstreams because of the block."""
    token = _requester.set(requester)
    try:
        yield
    finally:
        _requester.reset(token)


def current_requester() -> Requester:
    """The requester on whose behalf the caller works."""
    return _requester.get()
