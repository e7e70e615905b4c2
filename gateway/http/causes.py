"""Causes: the facts of a request that whoever is told of what it did learns."""

from starlette.requests import Request
from starlette.types import Scope

from gateway.http.access_log import identity_of
from gateway.webhooks.cause import Cause

_ACTOR = "actor"


def note_actor(scope: Scope, name: str) -> None:
    """Note the name of whoever sent a request, once that is known; empty for nobody."""
    scope[_ACTOR] = name


def cause_of(request: Request) -> Cause:
    """The facts of a request."""
    request_id, _ = identity_of(request.scope)
    client, actor = request.client, request.scope.get(_ACTOR, "")
    return Cause.of(request.method, request.headers, request_id, client.host if client else None, actor)
