"""OidcSignIn: people who sign in to pages by an issuer of the settings, where a rule of it says so.

The account is that of (issuer, subject). No name and no address of electronic mail leads to one that there is already:
an issuer may give either to somebody else tomorrow.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog

from gateway.auth.refused_logins import LoginRefused
from gateway.directory.identity_administration import IdentifiedUser, IdentityAdministration
from gateway.namespaces.errors import UserUnknown
from gateway.namespaces.user_identity import UserIdentity
from gateway.oidc.claims import IdToken, check_claims
from gateway.oidc.code_flow import SignInAttempt, authorization_url, check_nonce, check_response
from gateway.oidc.errors import IdTokenRefused, IssuerUnusable
from gateway.oidc.issuer import IssuerClient
from gateway.oidc.jws import read_token
from gateway.oidc.key_set import IssuerKeys
from gateway.oidc.rules import AccountRule

log = structlog.get_logger()

NOT_SIGNED_IN = "signing in did not work: begin again; the log of this server says why"
"""The one text for whatever an issuer or a browser presents that is not accepted."""

METADATA_SECONDS = 300.0
"""How long what an issuer says of itself is used without a look at it."""

PAUSE = 10.0
"""Seconds after a failure before an issuer is asked again: anybody may follow the link."""

FRESH = timedelta(minutes=10)
"""How long ago the token of a sign-in may have been issued: it is redeemed at once."""


@dataclass(frozen=True, slots=True)
class SignInIssuer:
    """An issuer by which people sign in. `url`: as its tokens name it; `client_id`: this server there; `read_secret`:
    what proves that, read at each use, empty for a public client. Raises OSError."""

    name: str
    url: str
    client_id: str
    rules: Sequence[AccountRule]
    client: IssuerClient = field(repr=False)
    keys: IssuerKeys = field(repr=False)
    read_secret: Callable[[], str] = field(repr=False)


class OidcSignIn:
    """Signs people in, for one event loop."""

    def __init__(
        self,
        issuers: Sequence[SignInIssuer],
        administration: IdentityAdministration,
        clock: Callable[[], datetime],
    ) -> None:
        self._issuers: Mapping[str, SignInIssuer] = {issuer.name: issuer for issuer in issuers}
        self._urls = frozenset(issuer.url for issuer in issuers)
        self._administration = administration
        self._clock = clock
        self._known: dict[str, tuple[float, Mapping[str, Any]]] = {}
        self._failed: dict[str, tuple[float, str]] = {}

    @property
    def names(self) -> Sequence[str]:
        """The names of the issuers by which people sign in."""
        return tuple(self._issuers)

    async def begin(self, attempt: SignInAttempt, redirect_uri: str) -> str:
        """Where the browser of an attempt begins. Raises LoginRefused."""
        issuer = self._issuers[attempt.issuer]
        try:
            metadata = await self._metadata(issuer)
            return authorization_url(metadata, issuer.client_id, redirect_uri, attempt)
        except IssuerUnusable as error:
            raise _refused(issuer, error) from error

    async def finish(self, attempt: SignInAttempt, response: Mapping[str, str], redirect_uri: str) -> IdentifiedUser:
        """The user whom an issuer vouches for, with what it has sent the browser of an attempt back. Raises
        LoginRefused, DatabaseUnusable."""
        issuer = self._issuers[attempt.issuer]
        try:
            code = check_response(attempt, issuer.url, response)
            secret = await asyncio.to_thread(issuer.read_secret)
            grant = {"code": code, "redirect_uri": redirect_uri, "code_verifier": attempt.verifier}
            text = await issuer.client.redeem(await self._metadata(issuer), grant, issuer.client_id, secret)
            token = await self._verified(issuer, attempt, text)
            if not any(rule.matches(token.claims) for rule in issuer.rules):
                raise IdTokenRefused(f"no rule gives an account for its claims; its subject is {token.subject}")
            found = await self._administration.find_or_create(issuer.url, token.subject, token.claims)
        except (IdTokenRefused, IssuerUnusable, UserUnknown, OSError) as error:
            raise _refused(issuer, error) from error
        if found.user.blocked:
            raise LoginRefused(
                f"user {found.user.name!r} is blocked: ask an administrator of this server", found.user.name
            )
        log.info("oidc_sign_in", issuer=issuer.name, subject=token.subject, user=found.user.name, is_new=found.is_new)
        return found

    async def is_valid(self, id: int) -> bool:
        """Whether an identity still signs in: it is stored, and its issuer is one of the settings. Raises
        DatabaseUnusable."""
        found: UserIdentity | None = await self._administration.find(id)
        return found is not None and found.issuer in self._urls

    async def _metadata(self, issuer: SignInIssuer) -> Mapping[str, Any]:
        """What an issuer says of itself, which is asked at intervals. Raises
        IssuerUnusable."""
        known = self._known.get(issuer.name)
        if known is not None and time.monotonic() - known[0] < METADATA_SECONDS:
            return known[1]
        failed = self._failed.get(issuer.name)
        if failed is not None and time.monotonic() - failed[0] < PAUSE:
            raise IssuerUnusable(failed[1])
        try:
            metadata = await issuer.client.metadata()
        except IssuerUnusable as error:
            self._failed[issuer.name] = time.monotonic(), str(error)
            raise
        self._known[issuer.name] = (time.monotonic(), metadata)
        return metadata

    async def _verified(self, issuer: SignInIssuer, attempt: SignInAttempt, text: str) -> IdToken:
        """Raises IdTokenRefused, IssuerUnusable."""
        signed = read_token(text)
        key = await issuer.keys.find(signed.key_id)
        signed.check_signature(key)
        token = check_claims(signed.claims, signed.signed, issuer.url, issuer.client_id, FRESH, self._clock())
        check_nonce(attempt, token.claims)
        return token


def _refused(issuer: SignInIssuer, error: Exception) -> LoginRefused:
    return LoginRefused(NOT_SIGNED_IN, None, f"sign-in by issuer {issuer.name}: {error}")
