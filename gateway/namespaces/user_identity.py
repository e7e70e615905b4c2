"""UserIdentity: what an issuer calls a user; and the name that an account is given, which identifies nobody there."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

NAME_CLAIMS = ("preferred_username", "nickname", "email", "name")
"""Claims of which the name of a new account is made, the first that is of use."""

MOST_NAMES = 50
LONGEST_NAME = 60

_UNFIT = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """A user at an issuer. `issuer`: its URL; `subject`: what it calls the user, and never calls another one (OpenID
    Connect Core 1.0, 2). Neither a name nor an address of electronic mail tells who somebody is."""

    id: int
    user_id: int
    issuer: str
    subject: str
    created_at: datetime


def names_for(claims: Mapping[str, Any]) -> Iterator[str]:
    """Names for a new account, the best first: one that is taken is another user's, and is left to that user."""
    base = next((name for claim in NAME_CLAIMS if (name := _name_of(claims.get(claim)))), "user")
    yield base
    for number in range(2, MOST_NAMES + 1):
        yield f"{base}-{number}"


def _name_of(value: object) -> str:
    """What of a claim can be the name of a user; empty where nothing is."""
    if not isinstance(value, str):
        return ""
    local = value.lower().partition("@")[0]
    return _UNFIT.sub("-", local).strip("-")[:LONGEST_NAME].rstrip("-")
