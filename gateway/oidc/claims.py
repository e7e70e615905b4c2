"""Claims of an ID token (OpenID Connect Core 1.0, 2 and 3.1.3.7): whether they hold, by a clock that is given."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from gateway.oidc.errors import IdTokenRefused

CLOCK_SKEW = timedelta(seconds=60)
"""Time by which the clock of an issuer may differ from ours."""

LONGEST_LIFETIME = timedelta(days=1)
"""The longest time between `iat` and `exp` of a token that is accepted: what lasts longer is made for another use."""

SUBJECT_LIMIT = 255
"""Characters of a subject (OpenID Connect Core 1.0, 2)."""

TOKEN_ID_LIMIT = 255


@dataclass(frozen=True, slots=True)
class IdToken:
    """A token whose signature and claims hold. `replay_key`: equal for two that are the same to their issuer: by the
    `jti`, or else by all that was signed."""

    subject: str
    issued_at: datetime
    expires_at: datetime
    replay_key: str
    claims: Mapping[str, Any]


def check_claims(
    claims: Mapping[str, Any], signed: bytes, issuer: str, audience: str, max_age: timedelta, now: datetime
) -> IdToken:
    """Check the claims of a token whose signature holds. `signed`: the bytes that the signature is over; `max_age`: how
    long ago it may have been issued. Raises IdTokenRefused."""
    if claims.get("iss") != issuer:
        raise IdTokenRefused("it is of another issuer")
    _check_audience(claims, audience)
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= SUBJECT_LIMIT or not subject.isprintable():
        raise IdTokenRefused("its subject is missing, or no text that can be stored")
    issued_at, expires_at = _moment(claims, "iat"), _moment(claims, "exp")
    begins = max(issued_at, _moment(claims, "nbf") if "nbf" in claims else issued_at)
    if now - CLOCK_SKEW >= expires_at:
        raise IdTokenRefused("it has expired")
    if begins > now + CLOCK_SKEW:
        raise IdTokenRefused("it is of the future")
    if expires_at - issued_at > LONGEST_LIFETIME:
        raise IdTokenRefused("it lasts longer than a day")
    if now - issued_at > max_age + CLOCK_SKEW:
        raise IdTokenRefused("it was issued longer ago than max_age allows")
    return IdToken(subject, issued_at, expires_at, _replay_key(claims, signed, issuer), claims)


def _check_audience(claims: Mapping[str, Any], audience: str) -> None:
    """Raises IdTokenRefused unless a token is for an audience; one for several names the party that it was issued to
    (`azp`), if it says so, as this one."""
    stated = claims.get("aud")
    audiences = [stated] if isinstance(stated, str) else stated
    if not isinstance(audiences, list) or not all(isinstance(entry, str) for entry in audiences):
        raise IdTokenRefused("it names no audience")
    if audience not in audiences:
        raise IdTokenRefused("it is for another audience")
    if len(audiences) > 1 and claims.get("azp", audience) != audience:
        raise IdTokenRefused("it was issued to another party")


def _moment(claims: Mapping[str, Any], name: str) -> datetime:
    """The time of a claim, in seconds since 1970 (RFC 7519, 2). Raises IdTokenRefused."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise IdTokenRefused(f"its {name} is missing, or no time")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise IdTokenRefused(f"its {name} is no time") from error


def _replay_key(claims: Mapping[str, Any], signed: bytes, issuer: str) -> str:
    token_id = claims.get("jti")
    if token_id is None:
        return sha256(b"signed\0" + signed).hexdigest()
    if not isinstance(token_id, str) or not 0 < len(token_id) <= TOKEN_ID_LIMIT:
        raise IdTokenRefused("its jti is no text of a usual length")
    return sha256(f"jti\0{issuer}\0{token_id}".encode("utf-8", "surrogatepass")).hexdigest()
