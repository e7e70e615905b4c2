"""Cause: the request because of which something is done, for whoever is told of it later.

A request names it once, for the tasks and transactions that it begins; what no request does has none.
"""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass

from cache.runtime.context import Within

TEXT_LIMIT = 255
"""Characters of what a client sends that are kept."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Facts of a request. None and an empty text mean that it is not known."""

    request_id: str | None = None
    address: str | None = None
    host: str = ""
    method: str = ""
    user_agent: str = ""
    actor: str = ""

    @classmethod
    def of(
        cls, method: str, headers: Mapping[str, str], request_id: str | None, address: str | None, actor: str
    ) -> "Cause":
        """The facts of a request with these headers. `actor`: the name of whoever sent it."""
        host, agent = (headers.get(name, "")[:TEXT_LIMIT] for name in ("host", "user-agent"))
        return cls(request_id, address, host, method, agent, actor[:TEXT_LIMIT])

    def document(self) -> dict[str, str | None]:
        """The facts as members of a JSON object."""
        return asdict(self)


NO_CAUSE = Cause()

_cause: ContextVar[Callable[[], Cause]] = ContextVar("cause", default=lambda: NO_CAUSE)


def caused_by(cause: Callable[[], Cause]) -> Within[Callable[[], Cause]]:
    """Name the request because of which all is done within the block. `cause` is called when somebody wants to know:
    most requests cause nothing that anybody is told of."""
    return Within(_cause, cause)


def current_cause() -> Cause:
    """The request because of which the caller works."""
    return _cause.get()()
