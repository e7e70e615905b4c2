"""Challenges: what a refused request is told about tokens (distribution's token specification); pure."""

from gateway.auth.scopes import scope_text
from gateway.auth.tokens import SERVICE
from gateway.v2.endpoint import Endpoint, EndpointKind

CHALLENGE_HEADER = "WWW-Authenticate"
TOKEN_PATH = "/jwt/auth"
KEYS_PATH = "/jwt/jwks"
BASIC_CHALLENGE = f'Basic realm="{SERVICE}"'
"""Challenge of the token endpoint itself."""


def challenge(url: str, scope: str = "") -> str:
    """The challenge of an address: realm, service and scope in this order, which old clients expect, and nothing else.

    `url`: of the address, without a slash at its end. `scope`: empty for a path that belongs to no repository.
    """
    text = f'Bearer realm="{url}{TOKEN_PATH}",service="{SERVICE}"'
    return f'{text},scope="{scope}"' if scope else text


def needed_scope(endpoint: Endpoint, method: str, name: str) -> str:
    """The scope that a request needs, as distribution's registry asks for it. `name`: in the spelling of the scope."""
    if method in ("GET", "HEAD"):
        return scope_text(name, ["pull"])
    if method == "DELETE" and endpoint.kind is not EndpointKind.UPLOAD:  # to end an upload belongs to a push
        return scope_text(name, ["delete"])
    return scope_text(name, ["pull", "push"])
