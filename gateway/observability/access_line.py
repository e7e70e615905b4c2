"""AccessLine: the facts of one request that are logged and counted."""

from typing import NamedTuple


class AccessLine(NamedTuple):
    """One request and its response.

    `path` has no query, in which signatures and tokens may stand. `kind`, `group` and `upstream` are set after a
    lookup: the endpoint's kind, the group's path and the upstream's configured name. `client` is the address of the
    connection's other end, which behind a reverse proxy is that proxy. `first_byte_ms` counts from the request to the
    first byte of the response's body, or its end. `refusal`: why it was not permitted, which may say more than the
    response. `project`: path of the project whose content was requested or changed, instead of a group and an
    upstream. `received`: bytes of the request's body. `principal`: whose credential was accepted, by names and numbers;
    None for an anonymous client.
    """

    method: str
    path: str
    status: int
    outcome: str | None
    kind: str | None
    group: str | None
    upstream: str | None
    bytes: int
    complete: bool
    first_byte_ms: float | None
    duration_ms: float
    client: str | None
    user_agent: str | None
    request_id: str
    refusal: str | None = None
    project: str | None = None
    received: int = 0
    principal: str | None = None
