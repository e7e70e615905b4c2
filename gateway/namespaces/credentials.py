"""Credentials as values: personal, deploy and job tokens, their scopes and lifetimes; secrets rest as hashes."""

import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256

from gateway.namespaces.node import NodeKey

SECRET_BYTES = 32
"""Random bytes in the secret of every token: 256 bits, so that a fast hash is enough to store it."""


class Scope(StrEnum):
    """Purpose of a token; a token never does more than its scopes, and never more than its owner may."""

    API = "api"
    READ_API = "read_api"
    READ_REGISTRY = "read_registry"
    WRITE_REGISTRY = "write_registry"
    READ_VIRTUAL_REGISTRY = "read_virtual_registry"


class CredentialKind(StrEnum):
    """Kind of a stored credential."""

    PASSWORD = "password"
    PERSONAL_TOKEN = "personal"
    DEPLOY_TOKEN = "deploy"
    JOB_TOKEN = "job"
    JOB_DEPLOY_TOKEN = "job-deploy"
    ID_TOKEN_LOGIN = "oidc"


PREFIXES = {
    CredentialKind.PERSONAL_TOKEN: "rgpat-",
    CredentialKind.DEPLOY_TOKEN: "rgdt-",
    CredentialKind.JOB_TOKEN: "rgjob-",
    CredentialKind.JOB_DEPLOY_TOKEN: "rgjdt-",
}
"""Beginning of each kind of secret, by which people and scanners of leaked secrets recognise it."""

SECRET_PREFIXES = tuple(PREFIXES.values())


@dataclass(frozen=True, slots=True)
class CredentialRef:
    """Identity of a stored credential: `id` of the token or job, or of the user whose password it is."""

    kind: CredentialKind
    id: int

    def __str__(self) -> str:
        """The text `KIND:ID`."""
        return f"{self.kind}:{self.id}"

    @classmethod
    def parse(cls, text: str) -> "CredentialRef":
        """Read the text `KIND:ID`. Raises ValueError."""
        kind, _, number = text.partition(":")
        return cls(CredentialKind(kind), int(number))


@dataclass(frozen=True, slots=True)
class PersonalToken:
    """Personal access token of a user.

    `description`: empty for none. `family_id`: the first of the tokens of which this one is a rotation; None for one
    that is none.
    """

    id: int
    user_id: int
    name: str
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    description: str = ""
    family_id: int | None = None

    @property
    def ref(self) -> CredentialRef:
        return CredentialRef(CredentialKind.PERSONAL_TOKEN, self.id)


@dataclass(frozen=True, slots=True)
class DeployToken:
    """Deploy token of a project or a group; `username` must be presented beside its secret."""

    id: int
    node: NodeKey
    name: str
    username: str
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None

    @property
    def ref(self) -> CredentialRef:
        return CredentialRef(CredentialKind.DEPLOY_TOKEN, self.id)


@dataclass(frozen=True, slots=True)
class Job:
    """CI job of a project, on behalf of a user; its token is valid until it is finished or expires.

    `deploy_token_id`: the deploy token for which a second secret of this job stands; None if it has none.
    """

    id: int
    project_id: int
    user_id: int
    ref: str | None
    created_at: datetime
    expires_at: datetime
    finished_at: datetime | None = None
    deploy_token_id: int | None = None
    last_used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class JobDeployToken:
    """Deploy token as a job presents it: by a secret made for the job, which ends with either of them."""

    job: Job
    token: DeployToken


@dataclass(frozen=True, slots=True)
class IdTokenLogin:
    """Login by an ID token of an issuer of the settings, which goes on for a while after the token has expired.

    `issuer`: its name in the settings; `subject`: as the token names it. `user_id`: the user, or the bot, that it acts
    for. `rule`: the fingerprint of the rule that let it in.
    """

    id: int
    issuer: str
    subject: str
    user_id: int
    rule: str
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None = None

    @property
    def ref(self) -> CredentialRef:
        return CredentialRef(CredentialKind.ID_TOKEN_LOGIN, self.id)


Credential = PersonalToken | DeployToken | Job | JobDeployToken | IdTokenLogin
"""A stored credential with a secret of its own."""

JOB_USERNAME = "gitlab-ci-token"
"""User name that clients present beside a job token, in GitLab and here."""


def new_secret(kind: CredentialKind) -> str:
    """Make the secret of a new token; it is shown once and stored as `hash_secret`."""
    return PREFIXES[kind] + secrets.token_urlsafe(SECRET_BYTES)


def hash_secret(secret: str) -> str:
    """Hash a secret as it is stored and looked up: SHA-256 in hex."""
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
