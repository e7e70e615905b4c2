"""User: a person with a login, and the rules that every change of one must keep."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from gateway.namespaces.credentials import SECRET_PREFIXES
from gateway.namespaces.errors import EmailInvalid, LastAdministrator, NodeNotEmpty, PasswordRefused, UserUnknown
from gateway.namespaces.node import NodeKey, NodeKind, enumerate_paths
from gateway.namespaces.paths import parse_user_name

ROOT = "root"
"""Name of the first administrator."""

SHORTEST_PASSWORD = 8
LONGEST_PASSWORD = 1024
"""Characters that are hashed at most, so that nobody makes the server hash megabytes."""

LONGEST_EMAIL = 254
"""Octets of an address that a mail server accepts (RFC 5321, 4.5.3.1.3, without the angle brackets)."""


@dataclass(frozen=True, slots=True)
class User:
    """One stored user.

    `name` is the path of the user's own namespace too. `email`: lower case, None for none. `external`: sees of other
    people's projects only what is public. `blocked`: no credential of the user is accepted. `password_hash`: argon2id
    in its encoded form, None for a user who can only use tokens; `password_changed_at` goes with it.
    """

    id: int
    name: str
    email: str | None
    admin: bool
    external: bool
    blocked: bool
    password_hash: str | None = field(repr=False)
    password_changed_at: datetime | None
    created_at: datetime

    @property
    def key(self) -> NodeKey:
        """Identity of the user's own namespace."""
        return NodeKey(NodeKind.USER, self.id)

    @property
    def is_active_admin(self) -> bool:
        return self.admin and not self.blocked

    @property
    def state(self) -> str:
        """The word by which GitLab's API tells whether the user may use the server."""
        return "blocked" if self.blocked else "active"

    def with_password(self, password_hash: str, now: datetime) -> "User":
        """The user with another password."""
        return replace(self, password_hash=password_hash, password_changed_at=now)


@dataclass(frozen=True, slots=True)
class UserChanges:
    """Properties that a user is given; None leaves one as it is, and an empty `email` drops the address."""

    admin: bool | None = None
    external: bool | None = None
    email: str | None = None
    blocked: bool | None = None
    password_hash: str | None = field(default=None, repr=False)

    def applied_to(self, user: User, now: datetime) -> User:
        """The user with these properties."""
        changed = replace(
            user,
            admin=user.admin if self.admin is None else self.admin,
            external=user.external if self.external is None else self.external,
            email=(user.email if self.email is None else self.email) or None,
            blocked=user.blocked if self.blocked is None else self.blocked,
        )
        return changed if self.password_hash is None else changed.with_password(self.password_hash, now)


def new_user(name: str, now: datetime, email: str | None, admin: bool, external: bool) -> User:
    """A user as one is created, without a password; the id is 0 until it is stored.

    Raises PathInvalid, EmailInvalid.
    """
    checked = None if email is None else parse_email(email)
    return User(0, parse_user_name(name), checked, admin, external, False, None, None, now)


def parse_email(text: str) -> str:
    """Check an address of electronic mail and write it in lower case, in which no two users share one.

    Whether mail arrives there is not known. Raises EmailInvalid.
    """
    local, at, domain = text.rpartition("@")
    if not (local and at and domain) or not text.isprintable() or any(c.isspace() for c in text) or "@" in local:
        raise EmailInvalid(f"{text[:300]!r} is not an e-mail address: write it as NAME@HOST")
    if len(text.encode()) > LONGEST_EMAIL:
        raise EmailInvalid(f"an e-mail address has at most {LONGEST_EMAIL} bytes, this one has {len(text.encode())}")
    return text.lower()


def check_password(password: str) -> None:
    """Check that a password may be chosen. Raises PasswordRefused, whose text does not repeat it."""
    if len(password.splitlines()) > 1:
        raise PasswordRefused("the password has more than one line: use a single one, as login prompts do")
    if len(password) < SHORTEST_PASSWORD:
        raise PasswordRefused(f"the password has {len(password)} characters: use at least {SHORTEST_PASSWORD}")
    if password.startswith(SECRET_PREFIXES):
        raise PasswordRefused(
            "the password begins like the secret of a token, for which it would be taken: use another"
        )
    if len(password) > LONGEST_PASSWORD:
        raise PasswordRefused(f"the password has {len(password)} characters: use at most {LONGEST_PASSWORD}")


def check_change(old: User, new: User, other_admins: bool) -> None:
    """Check that a stored user may become another.

    `other_admins`: whether there are more active administrators, which matters for an active one alone.
    Raises EmailInvalid, LastAdministrator.
    """
    if new.email is not None and new.email != old.email:
        parse_email(new.email)
    if old.is_active_admin and not new.is_active_admin and not other_admins:
        raise _last_administrator(old)


def check_departure(user: User, inside: Sequence[str], other_admins: bool) -> None:
    """Check that a user may be deleted. `inside`: paths of projects in the user's namespace.

    Raises LastAdministrator, NodeNotEmpty.
    """
    if user.is_active_admin and not other_admins:
        raise _last_administrator(user)
    if inside:
        raise NodeNotEmpty(
            f"the namespace of user {user.name!r} holds {enumerate_paths(inside)}: delete what is inside it first"
        )


def _last_administrator(user: User) -> LastAdministrator:
    return LastAdministrator(
        f"user {user.name!r} is the last active administrator: make another user an administrator first"
    )


def unknown_user(name: str) -> UserUnknown:
    """The error for a name that no user has."""
    return UserUnknown(f"there is no user {name!r}")
