"""Challenges: what a refused request is told about tokens (distribution's token specification); pure."""

from cache.oci.errors import Unauthorized
from gateway.auth.bearer_tokens import SERVICE
from gateway.auth.scopes import scope_text
from gateway.v2.endpoint import Endpoint, EndpointKind

CHALLENGE_HEADER = "WWW-Authenticate"
TOKEN_PATH = "/jwt/auth"
KEYS_PATH = "/jwt/jwks"
BASIC_CHALLENGE = f'Basic realm="{SERVICE}"'
"""Challenge of the token endpoint itself."""


class LoginOffered(Unauthorized):
    """A client that sent no credential asked whether it needs one: it is told where to log in, and nothing is
    refused."""


class MoreScopeNeeded(Unauthorized):
    """The principal may pull from a second repository of its request, and its Bearer token does not list that."""

    def __init__(self, detail: str, name: str) -> None:
        """`name`: that of the second repository."""
        super().__init__(detail)
        self.scope = scope_text(name, ["pull"])


def challenge(url: str, scope: str = "") -> str:
    """The challenge of an address: realm, service and scope in this order, which old clients expect, and nothing else.

    `url`: of the address, without a slash at its end. `scope`: empty for a path that belongs to no repository.
    """
    text = f'Bearer realm="{url}{TOKEN_PATH}",service="{SERVICE}"'
    return f'{text},scope="{scope}"' if scope else text


def needed_scope(endpoint: Endpoint, method: str, name: str) -> str:
    """The scope that a request needs, as distribution's registry asks for it. `name`: in the spelling of the scope."""
    if endpoint.kind in (EndpointKind.UPLOADS, EndpointKind.UPLOAD):  # to look after an upload belongs to a push
        return scope_text(name, ["pull", "push"])
    if method in ("GET", "HEAD"):
        return scope_text(name, ["pull"])
    return scope_text(name, ["delete"] if method == "DELETE" else ["pull", "push"])
