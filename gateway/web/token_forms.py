"""Tokens on pages: what a form asks for, what was made, and the rows of a list."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from gateway.namespaces.credential_rules import Ending
from gateway.namespaces.credentials import DeployToken, PersonalToken, Scope
from gateway.namespaces.expiry import parse_expiry
from gateway.web.forms import Form

PAGE = 50
"""Tokens on a page."""

SCOPES: Mapping[Scope, str] = {
    Scope.READ_REGISTRY: "Pull images.",
    Scope.WRITE_REGISTRY: "Push images, and pull them.",
    Scope.READ_API: "Read by the REST API, and pull.",
    Scope.API: "Everything that is allowed: registry and REST API.",
}
"""What each scope allows, the narrowest first."""


@dataclass(frozen=True, slots=True)
class WantedToken:
    """A token as a form asks for it. `detail`: its role or its user name. `problem`: why it was not made; empty where
    nobody has tried."""

    name: str = ""
    expires: str = ""
    scopes: frozenset[str] = frozenset({Scope.READ_REGISTRY.value})
    detail: str = ""
    problem: str = ""

    @classmethod
    def read(cls, form: Form, detail: str = "") -> "WantedToken":
        """Read a form. `detail`: the field with the role or the user name."""
        scopes = frozenset(form.every("scope"))
        return cls(form.one("name").strip(), form.one("expires_at").strip(), scopes, form.one(detail).strip())

    @property
    def chosen(self) -> list[Scope]:
        """The scopes that are wanted; what is none means nothing."""
        return [scope for scope in Scope if scope.value in self.scopes]

    def ends(self, now: datetime) -> datetime | None:
        """When it is to end; None where nobody says. Raises ExpiryInvalid."""
        return parse_expiry(self.expires, now) if self.expires else None


@dataclass(frozen=True, slots=True)
class MadeToken:
    """A token that was made, with its secret, which is shown once. `username`: what is presented beside it."""

    name: str
    username: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ListedToken:
    """A token in a list. `ending`: None while it is in use; `detail`: its role or its user name."""

    token: PersonalToken | DeployToken
    ending: Ending | None
    detail: str = ""
