"""AccessLine: the facts of one request that are logged and counted."""

from typing import NamedTuple


class AccessLine(NamedTuple):
    """One request and its response, in the order of the log: what a person looks for first comes first.

    `path` has no query, in which signatures and tokens may stand. `refusal`: the value of the RefusalReason of a
    request that was refused, and `reason` a sentence about it, which may say more than the response, or about why a
    response that had begun ended short. `kind`, `group`
    and `upstream` are set after a lookup: the endpoint's kind, the group's path and the upstream's configured name.
    `project`: path of the project whose content was requested or changed, instead of a group and an upstream.
    `received`: bytes of the request's body. `first_byte_ms` counts from the request to the first byte of the response's
    body, or its end. `principal`: whose credential was accepted, by names and numbers; None for an anonymous client.
    `client` is the address of the connection's other end, which behind a reverse proxy is that proxy.
    """

    status: int
    outcome: str | None
    method: str
    path: str
    refusal: str | None
    reason: str | None
    group: str | None
    upstream: str | None
    project: str | None
    kind: str | None
    bytes: int
    complete: bool
    received: int
    first_byte_ms: float | None
    duration_ms: float
    principal: str | None
    client: str | None
    user_agent: str | None
    request_id: str

    @property
    def failed(self) -> bool:
        """Whether this server could not do what it should: a person may want to know at once. A response that had begun
        and ends short for a reason of ours, or of an upstream, has a status of success."""
        return self.status >= 500 or (self.status < 300 and self.reason is not None)
