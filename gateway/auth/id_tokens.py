"""IdTokenLogins: ID tokens of CI systems as passwords (OpenID Connect), each mapped by a rule of the settings.

A token logs in once, while it is valid, and its login lasts `lifetime`: clients send the same password again for each
token of the registry that they need, after the ID token has expired, too. That is answered by the stored login, without
a look at the issuer. What never logged in while it was valid never does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from gateway.auth.refused_logins import LoginRefused
from gateway.directory.id_token_logins import IdTokenLoginAdministration
from gateway.namespaces.credentials import Credential, CredentialRef, IdTokenLogin, hash_secret
from gateway.namespaces.errors import TreeError
from gateway.oidc.claims import IdToken, check_claims
from gateway.oidc.errors import IdTokenRefused, IssuerUnusable
from gateway.oidc.jws import SignedToken, read_token, resembles_token
from gateway.oidc.key_set import IssuerKeys
from gateway.oidc.rules import AsUser, ClaimRule, find_rule

log = structlog.get_logger()

NOT_ACCEPTED = "access denied: the ID token is not accepted; the log of this server says why"
"""The one text for every ID token that is refused, whoever made it."""


class StoredLogins(Protocol):
    """Lookup of what is stored."""

    async def credential_of_hash(self, secret_hash: str) -> tuple[CredentialRef, Credential] | None:
        """Find a credential by the hash of its secret, also one that has ended. Raises DatabaseUnusable."""


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """An issuer of the settings. `url`: as its tokens name it; `lifetime`: of a login; `max_age`: how long ago a token
    that logs in may have been issued."""

    name: str
    url: str
    audience: str
    rules: Sequence[ClaimRule]
    keys: IssuerKeys = field(repr=False)
    lifetime: timedelta = timedelta(hours=1)
    max_age: timedelta = timedelta(days=1)


class IdTokenLogins:
    """Verifies ID tokens, and begins logins, for one event loop."""

    def __init__(
        self,
        issuers: Sequence[TrustedIssuer],
        stored: StoredLogins,
        administration: IdTokenLoginAdministration,
        clock: Callable[[], datetime],
        note: Callable[[IdTokenLogin, ClaimRule], None] = lambda login, rule: None,
    ) -> None:
        """`note` is told of each login that begins."""
        self._by_url: Mapping[str, TrustedIssuer] = {issuer.url: issuer for issuer in issuers}
        self._rules = frozenset((issuer.name, rule.fingerprint) for issuer in issuers for rule in issuer.rules)
        self._stored = stored
        self._administration = administration
        self._clock = clock
        self._note = note

    def recognises(self, secret: str) -> bool:
        """Whether a secret is to be examined here: it has the form of an ID token, and there are issuers."""
        return bool(self._by_url) and resembles_token(secret)

    def allows(self, login: IdTokenLogin) -> bool:
        """Whether the settings still have the rule that let a login in."""
        return (login.issuer, login.rule) in self._rules

    async def log_in(self, secret: str) -> tuple[CredentialRef, Credential]:
        """The login of an ID token, begun where it is new, also one that has ended. Raises LoginRefused,
        DatabaseUnusable."""
        issuer: TrustedIssuer | None = None
        try:
            token = read_token(secret)
            issuer = self._issuer_of(token)
            if (key := issuer.keys.known(token.key_id)) is not None:
                token.check_signature(key)  # which costs a forger's requests less than the lookup
            if (known := await self._stored.credential_of_hash(hash_secret(secret))) is not None:
                return known
            login = await self._begin(issuer, await self._verify(issuer, token), secret)
        except (IdTokenRefused, IssuerUnusable, TreeError) as error:
            whose = "an ID token" if issuer is None else f"an ID token of issuer {issuer.name}"
            raise LoginRefused(NOT_ACCEPTED, None, f"{whose}: {error}") from error
        return login.ref, login

    def _issuer_of(self, token: SignedToken) -> TrustedIssuer:
        """The issuer that a token names, which nobody has verified. Raises IdTokenRefused."""
        url = token.claims.get("iss")
        issuer = self._by_url.get(url) if isinstance(url, str) else None
        if issuer is None:
            raise IdTokenRefused("it is of no issuer that is configured")
        return issuer

    async def _verify(self, issuer: TrustedIssuer, token: SignedToken) -> IdToken:
        """Raises IdTokenRefused, IssuerUnusable."""
        key = await issuer.keys.find(token.key_id)
        token.check_signature(key)
        now = self._clock()
        return check_claims(token.claims, token.signed, issuer.url, issuer.audience, issuer.max_age, now)

    async def _begin(self, issuer: TrustedIssuer, token: IdToken, secret: str) -> IdTokenLogin:
        """Begin the login of a verified token. Raises IdTokenRefused, TreeError, DatabaseUnusable."""
        rule, now = find_rule(issuer.rules, token.claims), self._clock()
        if rule is None:
            raise IdTokenRefused(f"no rule is for its claims; its subject is {token.subject}")
        wanted = IdTokenLogin(0, issuer.name, token.subject, 0, rule.fingerprint, now, now + issuer.lifetime)
        if isinstance(target := rule.target, AsUser):
            began = self._administration.begin_as_user(wanted, secret, token.replay_key, target.name)
        else:
            began = self._administration.begin_with_role(
                wanted, secret, token.replay_key, target.path, target.kind, target.role
            )
        login, is_new = await began
        if is_new:
            log.info("id_token_login", issuer=issuer.name, subject=token.subject, login=login.id, maps_to=str(target))
            self._note(login, rule)
        return login
