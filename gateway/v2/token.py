"""Token endpoint: Bearer tokens for user names and secrets (distribution's token specification), by GET and by POST.

A request names a service and scopes; the token holds the intersection with what the principal may do. An empty one is a
token too, as the specification demands: the request that needs more is refused there, with its reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from cache.oci.errors import RefusalReason, RegistryError, StoreUnavailable, Unauthorized, Unsupported
from cache.oci.names import RepositoryName
from gateway.auth.authenticator import CLIENT_ADDRESS, backing_of, peer_of
from gateway.auth.bearer_tokens import SERVICE, SERVICES, TokenTooLong
from gateway.auth.matrix import Action
from gateway.auth.principal import ANONYMOUS, Principal, describe
from gateway.auth.scopes import (
    ACTIONS,
    ALL_ACTIONS,
    BELOW,
    CATALOG,
    RequestedScope,
    TooManyScopes,
    asks_for_catalog,
    parse_scopes,
    scope_text,
)
from gateway.http.access_log import note_principal
from gateway.http.errors import unknown_path
from gateway.keys.sealing import SealBroken
from gateway.keys.signing import SigningKeysUnusable
from gateway.namespaces.expiry import format_moment
from gateway.services import Services
from gateway.v2.challenges import BASIC_CHALLENGE, CHALLENGE_HEADER, KEYS_PATH, TOKEN_PATH
from gateway.v2.opener import RepositoryOpener
from gateway.v2.root_selection import AddressRoots, RootTable, address_roots

FORM_LIMIT = 32 * 1024
"""Bytes of a POST; several times what any client sends."""

FIELD_LIMIT = 500
_FORM = "application/x-www-form-urlencoded"


class TokenRequestInvalid(RegistryError):
    """The request for a token cannot be understood; the specification of errors has no code of its own for it."""

    code, status, message = "UNSUPPORTED", 400, "invalid request for a token"
    counted_as = RefusalReason.INVALID


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A request for a token. `offline`: a refresh token is wanted too."""

    scopes: tuple[str, ...]
    offline: bool

    @classmethod
    def parse(cls, fields: Mapping[str, list[str]]) -> "TokenRequest":
        """Read the fields of a query or a form. Raises TokenRequestInvalid for another service."""
        service = _field(fields, "service")
        if service and service not in SERVICES:
            raise TokenRequestInvalid(f"service {service[:100]!r} is not one of this server: use {SERVICE}")
        offline = _field(fields, "offline_token").lower() in ("true", "1") or _field(fields, "access_type") == "offline"
        return cls(tuple(fields.get("scope", ())), offline)


class TokenApi:
    """App for the paths under /jwt. Raises RegistryError for a refused request."""

    def __init__(self, services: Services, opener: RepositoryOpener, roots: RootTable) -> None:
        self._services = services
        self._opener = opener
        self._roots = roots

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
        except Unauthorized as error:
            error.headers[CHALLENGE_HEADER] = BASIC_CHALLENGE
            raise
        except (SigningKeysUnusable, SealBroken) as error:
            raise StoreUnavailable("the keys of this server cannot be used; its log has the cause") from error
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> ASGIApp:
        match request.scope["path"], request.method:
            case _path, "GET" if _path == TOKEN_PATH:
                asked = _parse_query(request.scope["query_string"])
                principal = await self._services.authenticator.authenticate(request.scope)
                if principal.limits is not None:
                    raise Unauthorized("a Bearer token gives no other tokens: log in with a user name and a secret")
                return await self._token(request, asked, principal)
            case _path, "POST" if _path == TOKEN_PATH:
                fields = await _read_form(request)
                asked = TokenRequest.parse(fields)
                return await self._token(request, asked, await self._of_form(request, fields))
            case _path, "GET" | "HEAD" if _path == KEYS_PATH:
                keys = self._services.tokens.published(self._services.clock())
                return JSONResponse({"keys": keys}, headers={"Cache-Control": "max-age=60"})
            case _path, method if _path in (TOKEN_PATH, KEYS_PATH):
                allowed = "GET, POST" if _path == TOKEN_PATH else "GET, HEAD"
                raise Unsupported(f"{method[:30]} is not a method of this path", {"Allow": allowed})
        raise unknown_path(request.scope["path"])

    async def _of_form(self, request: Request, fields: Mapping[str, list[str]]) -> Principal:
        """The principal of a form (distribution's specification, "OAuth2"). Raises as the authenticator does."""
        authenticator = self._services.authenticator
        match _field(fields, "grant_type"):
            case "refresh_token":
                return await authenticator.refreshed(_field(fields, "refresh_token"))
            case "password" if not _field(fields, "username") and not _field(fields, "password"):
                return ANONYMOUS
            case "password":
                address = request.scope.get(CLIENT_ADDRESS)
                username, password = _field(fields, "username"), _field(fields, "password")
                return await authenticator.log_in(username, password, address, peer_of(request.scope))
        raise TokenRequestInvalid("grant_type must be password or refresh_token")

    async def _token(self, request: Request, asked: TokenRequest, principal: Principal) -> ASGIApp:
        services, address = self._services, address_roots(request.scope, self._roots)
        if not principal.is_anonymous:
            note_principal(request.scope, describe(principal))
        granted, projects = await self._granted(_parse_scopes(asked.scopes, address.own_hosts), principal, address)
        if address.own.root is None and asks_for_catalog(asked.scopes):
            granted[CATALOG] = frozenset({ALL_ACTIONS})
        backing = backing_of(principal)
        try:
            issued = services.tokens.issue(backing, principal.name, granted, services.clock(), projects)
        except TokenTooLong as error:
            raise TokenRequestInvalid(str(error)) from error
        document: dict[str, object] = {
            "token": issued.text,
            "access_token": issued.text,
            "expires_in": int(issued.lifetime.total_seconds()),
            "issued_at": format_moment(issued.issued_at),
            "scope": " ".join(scope_text(name, actions) for name, actions in granted.items()),
        }
        if asked.offline and backing is not None:
            document["refresh_token"] = services.tokens.issue_refresh(backing)
        return JSONResponse(document, headers={"Cache-Control": "no-store"})

    async def _granted(
        self, scopes: Sequence[RequestedScope], principal: Principal, address: AddressRoots
    ) -> tuple[dict[str, frozenset[str]], dict[str, str]]:
        """Decide which requested actions are granted, by canonical name, and find the projects of these; names that
        lead nowhere are left out."""
        granted, projects = dict[str, frozenset[str]](), dict[str, str]()
        wanted: dict[RepositoryName, list[Action]] = {}
        for scope in scopes:
            requested = [Action(action) for action in ACTIONS if action in scope.actions]
            wanted[scope.name] = list(dict.fromkeys([*wanted.get(scope.name, ()), *requested]))
        permitted = await self._opener.permitted(wanted, principal, address.own.root)
        for scope in scopes:
            found = permitted.get(scope.name)
            actions = scope.actions.intersection(action.value for action in found.actions) if found else frozenset()
            if found is not None and actions:
                everything = {ALL_ACTIONS} if scope.everything and len(actions) == len(ACTIONS) else set()
                name = f"{found.name}{BELOW}" if scope.below else found.name
                granted[name] = granted.get(name, frozenset()) | actions | everything
                if found.project is not None:
                    projects[name] = found.project
        return granted, projects


@lru_cache(256)
def _parse_query(text: bytes) -> TokenRequest:
    """The request in a query, which a fleet sends many times. Raises TokenRequestInvalid."""
    return TokenRequest.parse(_parse_fields(text))


@lru_cache(256)
def _parse_scopes(texts: tuple[str, ...], own_hosts: frozenset[str]) -> tuple[RequestedScope, ...]:
    """The scopes of a request. Raises TokenRequestInvalid."""
    try:
        return tuple(parse_scopes(texts, own_hosts))
    except TooManyScopes as error:
        raise TokenRequestInvalid(str(error)) from error


def _parse_fields(text: bytes) -> dict[str, list[str]]:
    """The fields of a query or a form. Raises TokenRequestInvalid."""
    try:
        return parse_qs(text.decode("latin-1"), keep_blank_values=True, max_num_fields=FIELD_LIMIT)
    except ValueError as error:
        raise TokenRequestInvalid(f"the request has more than {FIELD_LIMIT} fields") from error


def _field(fields: Mapping[str, list[str]], name: str) -> str:
    """The value of a field; empty where there is none. Raises TokenRequestInvalid for several that differ."""
    values = fields.get(name) or [""]
    if any(value != values[0] for value in values):
        raise TokenRequestInvalid(f"{name} is given more than once, with different values")
    return values[0]


async def _read_form(request: Request) -> dict[str, list[str]]:
    """The fields of a form, whose size is bounded. Raises TokenRequestInvalid."""
    if request.headers.get("content-type", _FORM).partition(";")[0].strip().lower() != _FORM:
        raise TokenRequestInvalid(f"the body of a request for a token must be a form: {_FORM}")
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > FORM_LIMIT:
                raise TokenRequestInvalid(f"the form has more than {FORM_LIMIT} bytes")
    except ClientDisconnect as error:
        raise TokenRequestInvalid("the client left before its form was complete") from error
    return _parse_fields(bytes(body))
