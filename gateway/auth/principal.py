"""Principal: the party that a request acts for."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from gateway.namespaces.credentials import Credential, CredentialRef
from gateway.namespaces.user import User


class PrincipalKind(Enum):
    """Kind of credential that stands behind a principal."""

    ANONYMOUS = "anonymous"
    USER = "user"
    PERSONAL_TOKEN = "personal token"
    DEPLOY_TOKEN = "deploy token"
    JOB_TOKEN = "job token"


@dataclass(frozen=True, slots=True)
class AccessList:
    """Upper bound that a Bearer token sets: names of repositories and what may be done to each.

    Every request is decided anew beside it, so it takes rights away and never gives any. `expires_at`: of the token.
    """

    actions: Mapping[str, frozenset[str]]
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Principal:
    """The party that a request acts for, built once per request.

    `name` is for logs and turns, and empty for an anonymous principal. `user`: the person behind a password, a personal
    token or a job. `credential`: the stored token; None for a password and for nobody. `ref`: identity of the
    credential, None for nobody. `limits`: None where the credential was presented itself.
    """

    kind: PrincipalKind
    name: str = ""
    user: User | None = None
    credential: Credential | None = None
    ref: CredentialRef | None = None
    limits: AccessList | None = None

    @property
    def is_anonymous(self) -> bool:
        return self.kind is PrincipalKind.ANONYMOUS


ANONYMOUS = Principal(PrincipalKind.ANONYMOUS)
