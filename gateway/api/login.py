"""Logins of the REST API: the one token that a request carries, in one of three headers."""

from starlette.requests import Request

from gateway.api.errors import LoginNeeded
from gateway.auth.authenticator import Authenticator
from gateway.auth.principal import ANONYMOUS, Principal, PrincipalKind, describe
from gateway.auth.refused_logins import LoginRefused

PERSONAL_HEADER, JOB_HEADER, BEARER_HEADER = "private-token", "job-token", "authorization"
_DEPLOY_HEADER = "deploy-token"
_TAKEN = {
    PERSONAL_HEADER: (PrincipalKind.PERSONAL_TOKEN,),
    JOB_HEADER: (PrincipalKind.JOB_TOKEN,),
    BEARER_HEADER: (PrincipalKind.PERSONAL_TOKEN, PrincipalKind.JOB_TOKEN, PrincipalKind.ID_TOKEN),
}
"""Kinds of tokens that each header takes."""

_WAY_OUT = "send a personal access token as PRIVATE-TOKEN, or the token of a job as JOB-TOKEN"

SECRET_LIMIT = 8 * 1024
"""Characters of a token that are looked at; those of this server have some 50, ID tokens a few thousand."""


async def authenticate(request: Request, authenticator: Authenticator) -> Principal:
    """The principal of a request, anonymous without a token.

    Passwords are not taken, so none can be tried here; a secret that is no token of this server is refused like an
    unknown one. Raises LoginNeeded, LoginRefused, DatabaseUnusable.
    """
    found = _headers_of(request)
    if not found:
        return ANONYMOUS
    if len(found) > 1:
        raise LoginNeeded("more than one token", "send one token in one header")
    [(header, value)] = found
    principal = await authenticator.token_principal(_secret_of(header, value))
    if principal.kind not in _TAKEN.get(header, ()):
        raise LoginRefused(f"{_refusal(principal.kind)}: {_WAY_OUT}", describe(principal))
    return principal


def presented(request: Request) -> str:
    """The secret that a request carries, of which `authenticate` has said that it is not accepted."""
    [(header, value)] = _headers_of(request)
    return _secret_of(header, value)


def _headers_of(request: Request) -> list[tuple[str, str]]:
    return [(name, value) for name in _HEADERS for value in request.headers.getlist(name)]


def _secret_of(header: str, value: str) -> str:
    """The secret in a header. Raises LoginNeeded."""
    if header == BEARER_HEADER:
        scheme, _, value = value.partition(" ")
        if scheme.lower() != "bearer":
            raise LoginNeeded("the scheme is not Bearer", "send a token as Authorization: Bearer, not a password")
    return value.strip()[:SECRET_LIMIT]


def _refusal(kind: PrincipalKind) -> str:
    return f"a {kind.value} is not accepted in this header of the REST API"


_HEADERS = (*_TAKEN, _DEPLOY_HEADER)
