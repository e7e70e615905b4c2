"""On behalf: for whom a task or a thread sends its requests, where many share what few can have at a time.

A request of a client names it once, for the tasks and threads that it begins; what no client requested is of NOBODY.
"""

from contextvars import ContextVar

from cache.runtime.context import Within
from cache.runtime.fair_queue import NOBODY, Requester

_requester: ContextVar[Requester] = ContextVar("requester", default=NOBODY)


def on_behalf_of(requester: Requester) -> Within[Requester]:
    """Name a requester for all that is sent to upstreams because of the block."""
    return Within(_requester, requester)


def current_requester() -> Requester:
    """The requester on whose behalf the caller works."""
    return _requester.get()
