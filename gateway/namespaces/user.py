"""User: a person with a login, and the rules that every change of one must keep."""

from dataclasses import dataclass, field
from datetime import datetime


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
    def state(self) -> str:
        """The word by which GitLab's API tells whether the user may use the server."""
        return "blocked" if self.blocked else "active"
