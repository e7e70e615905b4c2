"""Principal: the party that a request acts for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from gateway.namespaces.credentials import (
    Credential,
    CredentialRef,
    DeployToken,
    IdTokenLogin,
    Job,
    JobDeployToken,
    PersonalToken,
)
from gateway.namespaces.user import User


class PrincipalKind(Enum):
    """Kind of credential that stands behind a principal."""

    ANONYMOUS = "anonymous"
    USER = "user"
    PERSONAL_TOKEN = "personal token"
    DEPLOY_TOKEN = "deploy token"
    JOB_TOKEN = "job token"
    ID_TOKEN = "ID token"


@dataclass(frozen=True, slots=True)
class AccessList:
    """Upper bound that a Bearer token sets: names of repositories and what may be done to each.

    Every request is decided anew beside it, so it takes rights away and never gives any. `expires_at`: of the token.
    `projects`: the paths of projects that it states, by names of repositories.
    """

    actions: Mapping[str, frozenset[str]]
    expires_at: datetime
    projects: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Principal:
    """The party that a request acts for, built once per request.

    `name` is for logs and turns, and empty for an anonymous principal. `user`: the person behind a password, a personal
    token, a job or an ID token, or the bot of an access token or a role. `credential`: the stored token; None for a
    password and for nobody. `ref`: identity of the credential, None for nobody. `limits`: None where the credential was
    presented itself. `starter`: the user of the job that presents a deploy token, who gives it no rights and whose
    block ends it.
    """

    kind: PrincipalKind
    name: str = ""
    user: User | None = None
    credential: Credential | None = None
    ref: CredentialRef | None = None
    limits: AccessList | None = None
    starter: User | None = None

    @property
    def is_anonymous(self) -> bool:
        return self.kind is PrincipalKind.ANONYMOUS

    def within(self, limits: AccessList | None) -> "Principal":
        """This principal within the limits of a Bearer token, whatever others it had; each request with one asks."""
        return Principal(self.kind, self.name, self.user, self.credential, self.ref, limits, self.starter)


ANONYMOUS = Principal(PrincipalKind.ANONYMOUS)


def principal_of(ref: CredentialRef, credential: Credential, user: User | None) -> Principal:
    """The principal of a stored credential, whether or not it has ended: decisions look at that.

    `user`: the one that `user_id_of` names, as it is now; None where that is gone, and for a deploy token.
    """
    match credential:
        case PersonalToken():
            return Principal(PrincipalKind.PERSONAL_TOKEN, user.name if user else "", user, credential, ref)
        case Job():
            return Principal(PrincipalKind.JOB_TOKEN, user.name if user else "", user, credential, ref)
        case IdTokenLogin():
            return Principal(PrincipalKind.ID_TOKEN, user.name if user else "", user, credential, ref)
        case DeployToken(username=username):
            return Principal(PrincipalKind.DEPLOY_TOKEN, username, None, credential, ref)
        case JobDeployToken(token=DeployToken(username=username)):
            return Principal(PrincipalKind.DEPLOY_TOKEN, username, None, credential, ref, starter=user)


def user_id_of(credential: Credential) -> int | None:
    """The user without whom a stored credential is worth nothing; None for a deploy token, which belongs to nobody."""
    match credential:
        case PersonalToken(user_id=user_id) | Job(user_id=user_id) | JobDeployToken(job=Job(user_id=user_id)):
            return user_id
        case IdTokenLogin(user_id=user_id):
            return user_id
        case DeployToken():
            return None


def describe(principal: Principal) -> str:
    """Write a principal into a sentence or a log, by names and numbers that are no secrets."""
    user = f"user {principal.user.name!r}" if principal.user is not None else "nobody"
    match principal.credential:
        case PersonalToken(id=number, name=name):
            return f"personal token {number} ({name}) of {user}"
        case DeployToken(id=number, username=username):
            return f"deploy token {number} ({username})"
        case JobDeployToken(job=Job(id=number), token=DeployToken(id=token)):
            return f"deploy token {token} of job {number}"
        case Job(id=number):
            return f"job {number} of {user}"
        case IdTokenLogin(id=number, issuer=issuer, subject=subject):
            return f"ID token login {number} of {issuer} ({subject}) as {user}"
        case None:
            return user if principal.user is not None else "an anonymous client"
