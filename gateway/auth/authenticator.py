"""Authenticator: from the credential of a request to its principal.

Secrets that are unknown or wrong get one response in equal time. Whoever presents the right secret of a credential that
has ended, or whose user is blocked, is told so with the way out. What stands behind a Bearer or refresh token is looked
up again for each request, so it ends with its credential.
"""

from base64 import b64decode
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Protocol

from cachetools import LRUCache

from cache.oci.errors import RegistryError, StoreUnavailable, TooManyRequests, Unauthorized
from gateway.auth.bearer_tokens import CLOCK_SKEW, Backing, Bearer, TokenRefused, TokenService
from gateway.auth.password_logins import PasswordLogins
from gateway.auth.principal import ANONYMOUS, Principal, PrincipalKind, describe, principal_of, user_id_of
from gateway.auth.refused_logins import LoginDelayed, LoginRefused
from gateway.keys.signing import TOKEN_LIFETIME, SigningKeysUnusable
from gateway.namespaces.credential_rules import find_ending
from gateway.namespaces.credentials import (
    SECRET_PREFIXES,
    Credential,
    CredentialKind,
    CredentialRef,
    DeployToken,
    IdTokenLogin,
    Job,
    JobDeployToken,
    PersonalToken,
    hash_secret,
)
from gateway.namespaces.user import User

KEPT_BEARERS = 20_000
"""Verified Bearer tokens that are remembered, and names in their lists, together."""

CLIENT_ADDRESS = "gateway.client_address"
"""Key of a scope under which the address of the client stands where it is known."""

WRONG = "access denied: the user name, the password or the token is wrong"
"""The one text for every secret that is unknown or wrong."""

NO_TOKEN = "a token does not sign in to pages: use the password of the user"
"""The text for a token where a password is needed."""

LOGIN_AGAIN = "the token of this request is not valid, or not any more: log in again"
MALFORMED = "the Authorization of this request is malformed: use Basic with a user name and a secret, or Bearer"


class Identities(Protocol):
    """Lookups of users and credentials, which are current with each call. All raise DatabaseUnusable."""

    async def find_user(self, name: str) -> User | None:
        """Find a user by name."""

    async def find_user_by_email(self, email: str) -> User | None:
        """Find a user by e-mail address, in lower case."""

    async def conceal_user(self, name: str) -> None:
        """Spend on a name or address that has a user as long as on one that has none."""

    async def user(self, user_id: int) -> User | None:
        """Find a user by id."""

    async def credential_of_hash(self, secret_hash: str) -> tuple[CredentialRef, Credential] | None:
        """Find a credential by the hash of its secret, also one that has ended."""

    async def credential(self, ref: CredentialRef) -> Credential | None:
        """Find a credential by its identity, also one that has ended."""


class IdTokens(Protocol):
    """Logins by ID tokens of issuers of the settings."""

    def recognises(self, secret: str) -> bool:
        """Whether a secret is to be examined here: it has the form of an ID token, and there are issuers."""

    async def log_in(self, secret: str) -> tuple[CredentialRef, Credential]:
        """The login of an ID token, begun where it is new, also one that has ended. Raises LoginRefused,
        DatabaseUnusable."""

    def allows(self, login: IdTokenLogin) -> bool:
        """Whether the settings still have the rule that let a login in."""


class Authenticator:
    """Builds the principal of each request, once, before anything is decided."""

    def __init__(
        self,
        identities: Identities,
        tokens: TokenService,
        logins: PasswordLogins,
        clock: Callable[[], datetime],
        note_use: Callable[[CredentialRef, datetime], None] = lambda ref, at: None,
        id_tokens: IdTokens | None = None,
    ) -> None:
        """`note_use` is told when a stored credential is used. `id_tokens`: None where no issuer is configured."""
        self._identities = identities
        self._tokens = tokens
        self._logins = logins
        self._clock = clock
        self._note_use = note_use
        self._id_tokens = id_tokens
        self._bearers: LRUCache[bytes, Bearer] = LRUCache(KEPT_BEARERS, weight_of)

    async def authenticate(self, scope: Mapping[str, Any]) -> Principal:
        """The principal of an ASGI scope. Raises Unauthorized for a credential that is not accepted, TooManyRequests,
        StoreUnavailable, DatabaseUnusable."""
        found = [value for name, value in scope["headers"] if name == b"authorization"]
        if not found:
            return ANONYMOUS
        scheme, _, text = found[0].partition(b" ")
        if len(found) > 1:
            raise Unauthorized(MALFORMED)
        match scheme.lower():
            case b"bearer":
                return await self._bearer_principal(text.strip())
            case b"basic":
                username, secret = _parse_basic(text.strip())
                return await self.log_in(username, secret, scope.get(CLIENT_ADDRESS), peer_of(scope))
        raise Unauthorized(MALFORMED)

    async def log_in(self, username: str, secret: str, address: str | None, peer: str = "") -> Principal:
        """The principal of a user name and a secret: that of a token, or a user's password.

        `address`: of the client, None where it is not known. `peer`: see `peer_of`. Raises as `authenticate` does.
        """
        if not self._is_token(secret):
            return await self._password_principal(username, secret, address, peer)
        principal = await self.token_principal(secret)
        if isinstance(principal.credential, DeployToken | JobDeployToken) and username != principal.name:
            wrong_name = "this deploy token belongs to another user name: use the one that it was made with"
            raise LoginRefused(wrong_name, describe(principal))
        return principal

    async def password_principal(self, username: str, password: str, address: str | None, peer: str = "") -> Principal:
        """The principal of a user name and a password, where no token is accepted. Raises as `log_in` does."""
        if password.startswith(SECRET_PREFIXES):
            raise LoginRefused(NO_TOKEN, None, "a token was presented as a password")
        return await self._password_principal(username, password, address, peer)

    async def session_principal(self, user_id: int, password_changed_at: datetime) -> Principal:
        """The principal of a user who has presented the password that was set at a time, as it is now. Raises
        Unauthorized where the user is gone or blocked, or has another password since, DatabaseUnusable."""
        return await self._backed_principal(
            Backing(CredentialRef(CredentialKind.PASSWORD, user_id), password_changed_at)
        )

    async def identity_principal(self, user_id: int) -> Principal:
        """The principal of a user who has signed in by an issuer of the settings, as it is now. Raises Unauthorized
        where the user is gone or blocked, DatabaseUnusable."""
        user = await self._identities.user(user_id)
        if user is None:
            raise _login_again("the user of a session is gone")
        return _of_person(user)

    async def token_principal(self, secret: str) -> Principal:
        """The principal of the secret of a token, without a user name. Raises LoginRefused, DatabaseUnusable.

        A password is no token, and so none can be tried here.
        """
        found = None
        if secret.startswith(SECRET_PREFIXES):
            found = await self._identities.credential_of_hash(hash_secret(secret))
        elif self._id_tokens is not None and self._id_tokens.recognises(secret):
            found = await self._id_tokens.log_in(secret)
        if found is None:
            raise LoginRefused(WRONG, None, "there is no such token")
        principal = await self._stored_principal(*found)
        try:
            self._check_active(principal)
        except Unauthorized as error:
            raise LoginRefused(str(error.detail), describe(principal)) from error
        return principal

    def _is_token(self, secret: str) -> bool:
        """Whether a secret is that of a token, and no password."""
        if secret.startswith(SECRET_PREFIXES):
            return True
        return self._id_tokens is not None and self._id_tokens.recognises(secret)

    async def refreshed(self, refresh_token: str) -> Principal:
        """The principal of a refresh token. Raises as `authenticate` does."""
        try:
            backing = self._tokens.open_refresh(refresh_token)
        except TokenRefused as error:
            raise LoginRefused(LOGIN_AGAIN, None, str(error)) from error
        try:
            return await self._backed_principal(backing)
        except Unauthorized as error:
            raise LoginRefused(str(error.detail), str(backing.ref), error.reason) from error

    async def renewed(self, principal: Principal) -> Principal:
        """A principal that was let in some time ago, as it is now; what its Bearer token lists was asked then.

        Raises Unauthorized where its credential has ended meanwhile, DatabaseUnusable.
        """
        backing = backing_of(principal)
        return (principal if backing is None else await self._backed_principal(backing)).within(None)

    async def _bearer_principal(self, text: bytes) -> Principal:
        key, now = sha256(text).digest(), self._clock()
        bearer: Bearer | None = self._bearers.get(key)
        # A token of the future was verified by a clock that has been put back since: it is refused when looked at anew.
        if bearer is None or not timedelta(0) < bearer.access.expires_at - now <= TOKEN_LIFETIME + CLOCK_SKEW:
            try:
                bearer = self._tokens.verify(text.decode("latin-1"), now)
            except TokenRefused as error:
                raise _login_again(str(error)) from error
            except SigningKeysUnusable as error:
                raise StoreUnavailable(
                    "the signing keys of this server cannot be used; its log has the cause"
                ) from error
            self._bearers[key] = bearer
        if bearer.backing is None:
            return ANONYMOUS.within(bearer.access)
        return (await self._backed_principal(bearer.backing)).within(bearer.access)

    async def _backed_principal(self, backing: Backing) -> Principal:
        """The principal of the credential that a token stands for, as it is now."""
        ref = backing.ref
        if ref.kind is CredentialKind.PASSWORD:
            user = await self._identities.user(ref.id)
            if user is None:
                raise _login_again(f"the user of {ref} is gone")
            if user.password_changed_at != backing.made_at:
                raise Unauthorized(f"the password of user {user.name!r} has changed: log in again")
            return _of_person(user)
        credential = await self._identities.credential(ref)
        if credential is None or _made_at(credential) != backing.made_at:
            raise _login_again(f"the credential {ref} is gone")
        principal = await self._stored_principal(ref, credential)
        self._check_active(principal)
        return principal

    async def _password_principal(self, username: str, password: str, address: str | None, peer: str) -> Principal:
        name = username.lower()
        find = self._identities.find_user_by_email if "@" in name else self._identities.find_user  # no name has an @
        user = await find(name)
        account = None if user is None else user.name
        reason = "no user has this name" if user is None else "the password is wrong"
        refusal: RegistryError = LoginRefused(WRONG, account, reason)
        try:
            if await self._logins.log_in(user, account or name, password, address, peer) and user is not None:
                return _of_person(user)
        except TooManyRequests as error:
            refusal = LoginDelayed(error, account)
        except Unauthorized as error:
            raise LoginRefused(str(error.detail), account) from error
        if user is not None:
            await self._identities.conceal_user(name)
        raise refusal

    async def _stored_principal(self, ref: CredentialRef, credential: Credential) -> Principal:
        """The principal of a stored credential, also of one that has ended."""
        user_id = user_id_of(credential)
        return principal_of(ref, credential, None if user_id is None else await self._identities.user(user_id))

    def _check_active(self, principal: Principal) -> None:
        """Check that the stored credential of a principal has not ended, and note its use. Raises Unauthorized with
        the reason."""
        now, ref, credential = self._clock(), principal.ref, principal.credential
        if ref is None or credential is None:
            raise AssertionError("the principal has no stored credential")
        if (ending := find_ending(credential, now)) is not None:
            raise Unauthorized(f"{_describe(credential)} {ending}: {_way_out(credential)}")
        if isinstance(credential, IdTokenLogin) and not (self._id_tokens and self._id_tokens.allows(credential)):
            raise Unauthorized(f"{_describe(credential)} ended with its rule: {_way_out(credential)}")
        person = principal.user or principal.starter
        if person is not None:
            _check_not_blocked(person)
        elif user_id_of(credential) is not None:
            raise Unauthorized(WRONG)
        self._note_use(ref, now)


def peer_of(scope: Mapping[str, Any]) -> str:
    """The address that a request came from, or that of the client where trusted proxies name it; empty for none."""
    client = scope.get("client")
    return client[0] if client else ""


def weight_of(bearer: Bearer) -> int:
    """The room of a Bearer token in memory: its list may be long, and everybody is given a token who asks for one."""
    return 1 + len(bearer.access.actions)


def backing_of(principal: Principal) -> Backing | None:
    """Find the credential that a token for a principal stands for; None for nobody."""
    made_at = principal.user.password_changed_at if principal.user else None
    if principal.credential is not None:
        made_at = _made_at(principal.credential)
    return None if principal.ref is None or made_at is None else Backing(principal.ref, made_at)


def _made_at(credential: Credential) -> datetime:
    """When a stored credential was made; of a job's deploy token, as its principal has it, that token."""
    return credential.token.created_at if isinstance(credential, JobDeployToken) else credential.created_at


def _parse_basic(text: bytes) -> tuple[str, str]:
    """The user name and the secret of Basic credentials (RFC 7617). Raises Unauthorized."""
    try:
        username, colon, secret = b64decode(text, validate=True).decode().partition(":")
    except ValueError as error:
        raise Unauthorized(MALFORMED) from error
    if not colon:
        raise Unauthorized(MALFORMED)
    return username, secret


def _of_person(user: User) -> Principal:
    _check_not_blocked(user)
    return Principal(PrincipalKind.USER, user.name, user, None, CredentialRef(CredentialKind.PASSWORD, user.id))


def _check_not_blocked(user: User) -> None:
    if user.blocked:
        raise Unauthorized(f"user {user.name!r} is blocked: ask an administrator of this server")


def _login_again(reason: str) -> Unauthorized:
    """The refusal of a token that is not valid, or not any more; `reason` is for the log."""
    refusal = Unauthorized(LOGIN_AGAIN)
    refusal.reason = reason
    return refusal


def _describe(credential: Credential) -> str:
    match credential:
        case PersonalToken():
            return f"the personal access token {credential.name!r}"
        case DeployToken():
            return f"the deploy token {credential.username!r}"
        case Job():
            return f"the token of job {credential.id}"
        case JobDeployToken():
            return f"the deploy token {credential.token.username!r} of job {credential.job.id}"
        case IdTokenLogin():
            return f"the login by an ID token of {credential.issuer}"


def _way_out(credential: Credential) -> str:
    match credential:
        case PersonalToken():
            return "make a new one"
        case DeployToken():
            return f"ask a maintainer of its {credential.node.kind} for a new one"
        case Job() | JobDeployToken():
            return "start a new job"
        case IdTokenLogin():
            return "log in with a new ID token"
