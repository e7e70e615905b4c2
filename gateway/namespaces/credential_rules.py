"""Rules of tokens and jobs: which may be made, with which properties, and when each has ended."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from gateway.namespaces.credentials import (
    Credential,
    DeployToken,
    IdTokenLogin,
    Job,
    JobDeployToken,
    PersonalToken,
    Scope,
)
from gateway.namespaces.errors import CredentialInvalid, JobRefused
from gateway.namespaces.expiry import check_lifetime, format_moment
from gateway.namespaces.member import Member, strongest_role
from gateway.namespaces.node import NodeKey, NodeKind, PathEntry
from gateway.namespaces.project import Project
from gateway.namespaces.role import Role
from gateway.namespaces.user import User

PERSONAL_TOKEN_LIFETIME = timedelta(days=365)
"""Lifetime of a personal access token for which none is given, and the longest one: GitLab's defaults for both.

A deploy token belongs to no person who may leave, so it may last for ever.
"""

ROTATED_LIFETIME = timedelta(days=7)
"""Lifetime of the token that takes the place of another one, for which none is given: GitLab's default."""

JOB_LIFETIME = timedelta(hours=1)
"""Lifetime of a job for which none is given: GitLab's default timeout of a job."""

LONGEST_JOB = timedelta(days=30)
"""The longest lifetime of a job; GitLab allows a job one month."""

DEPLOY_TOKEN_SCOPES = frozenset({Scope.READ_REGISTRY, Scope.WRITE_REGISTRY, Scope.READ_VIRTUAL_REGISTRY})
"""Scopes of deploy tokens: GitLab's others concern what is no registry."""

TOKEN_OF_JOBS = "gitlab-deploy-token"
"""Name of the deploy token that jobs are given as CI_DEPLOY_USER and CI_DEPLOY_PASSWORD, in GitLab and here."""

AHEAD = timedelta(minutes=5)
"""Time by which the clock of the host that started a job may be ahead of another one's."""

NAME_LIMIT = 255
DESCRIPTION_LIMIT = 255
REF_LIMIT = 255
_USERNAME = re.compile(r"[a-zA-Z0-9.+_-]{1,255}")


class EndKind(StrEnum):
    """Way in which a credential ended."""

    EXPIRED = "expired"
    REVOKED = "revoked"
    FINISHED = "finished"
    MISDATED = "misdated"
    """Begun in the future, by a clock that was wrong: it would last as long as that was ahead."""


@dataclass(frozen=True, slots=True)
class Ending:
    """End of a credential: what happened, and when."""

    kind: EndKind
    at: datetime

    def __str__(self) -> str:
        """The words that follow the name of the credential: `expired at 2030-01-31 18:00:00 UTC`."""
        if self.kind is EndKind.MISDATED:
            return f"was begun by a clock that was wrong, at {format_moment(self.at)}"
        verb = "expired" if self.kind is EndKind.EXPIRED else f"was {self.kind}"
        return f"{verb} at {format_moment(self.at)}"


def find_ending(credential: Credential, now: datetime) -> Ending | None:
    """Find out how a credential ended; None while it is valid by its own row. Its user may be blocked all the same.

    What was revoked or finished has ended, whenever that was: where the clock was ahead then, it is later than now.
    """
    match credential:
        case JobDeployToken():
            return find_ending(credential.job, now) or find_ending(credential.token, now)
        case Job() | IdTokenLogin():
            finished_at = credential.finished_at if isinstance(credential, Job) else None
            ends = {EndKind.FINISHED: finished_at, EndKind.EXPIRED: credential.expires_at}
            if credential.created_at > now + AHEAD:
                ends[EndKind.MISDATED] = credential.created_at
        case PersonalToken() | DeployToken():
            ends = {EndKind.REVOKED: credential.revoked_at, EndKind.EXPIRED: credential.expires_at}
    passed = [Ending(kind, at) for kind, at in ends.items() if at and (at <= now or kind is not EndKind.EXPIRED)]
    return min(passed, key=lambda end: end.at, default=None)


def new_personal_token(
    user: User,
    name: str,
    scopes: Collection[Scope],
    expires_at: datetime | None,
    now: datetime,
    description: str = "",
) -> PersonalToken:
    """Make a personal access token; its id is 0 until it is stored. `expires_at`: None for the longest lifetime.

    Raises CredentialInvalid, ExpiryInvalid.
    """
    if user.blocked:
        raise CredentialInvalid(f"user {user.name!r} is blocked, and so are the user's tokens: unblock the user first")
    _check_name(name)
    if len(description) > DESCRIPTION_LIMIT:
        raise CredentialInvalid(f"the description has {len(description)} characters: use up to {DESCRIPTION_LIMIT}")
    checked = _check_scopes("a personal access token", scopes, frozenset(Scope))
    ends = expires_at or now + PERSONAL_TOKEN_LIFETIME
    check_lifetime(ends, PERSONAL_TOKEN_LIFETIME, now, "a personal access token")
    return PersonalToken(0, user.id, name, checked, now, ends, description=description)


def rotation_of(token: PersonalToken, user: User, expires_at: datetime | None, now: datetime) -> PersonalToken:
    """Make the token that takes the place of another one of the user; its id is 0 until it is stored.

    `expires_at`: None for `ROTATED_LIFETIME`. Raises CredentialInvalid, also where the token has ended; ExpiryInvalid.
    """
    if (ending := find_ending(token, now)) is not None:
        raise CredentialInvalid(f"personal access token {token.id} {ending}, and cannot be rotated: make a new one")
    ends = expires_at or now + ROTATED_LIFETIME
    made = new_personal_token(user, token.name, token.scopes, ends, now, token.description)
    return replace(made, family_id=token.id if token.family_id is None else token.family_id)


def new_deploy_token(
    node: NodeKey,
    name: str,
    username: str | None,
    scopes: Collection[Scope],
    expires_at: datetime | None,
    now: datetime,
) -> DeployToken:
    """Make a deploy token of a project or group; its id is 0 until it is stored.

    `username`: None for the one that GitLab gives, which holds the id, and is empty until the token is stored.
    `expires_at`: None for a token that does not expire. Raises CredentialInvalid, ExpiryInvalid.
    """
    if node.kind is NodeKind.USER:
        raise CredentialInvalid("a user's namespace has no deploy tokens: make one of a project in it")
    _check_name(name)
    if username is not None and not _USERNAME.fullmatch(username):
        allowed = "1 to 255 letters without accents, digits, and . + _ -"
        raise CredentialInvalid(f"{username!r} is not a user name for a deploy token: use {allowed}")
    checked = _check_scopes("a deploy token", scopes, DEPLOY_TOKEN_SCOPES)
    if expires_at is not None:
        check_lifetime(expires_at, None, now, "a deploy token")
    return DeployToken(0, node, name, username or "", checked, now, expires_at)


def default_username(token_id: int) -> str:
    """The user name of a deploy token for which none was given, as in GitLab."""
    return f"gitlab+deploy-token-{token_id}"


def new_job(
    project: Project,
    way: Sequence[PathEntry],
    user: User,
    members: Iterable[Member],
    ref: str | None,
    expires_at: datetime | None,
    now: datetime,
) -> Job:
    """Make a job of a project on behalf of a user; its id is 0 until it is stored.

    `way`: the nodes from the top of the tree to the project. `members`: the user's memberships on it. `ref`: name of
    the branch or tag. `expires_at`: None for the default. Raises JobRefused, CredentialInvalid, ExpiryInvalid.
    """
    _check_starter(project, way, user, members, now)
    if ref is not None and (not 0 < len(ref) <= REF_LIMIT or not ref.isprintable()):
        raise CredentialInvalid(
            f"{ref!r} is not the name of a branch or tag: use up to {REF_LIMIT} printable characters"
        )
    ends = expires_at or now + JOB_LIFETIME
    check_lifetime(ends, LONGEST_JOB, now, "a job")
    return Job(0, project.id, user.id, ref, now, ends)


def direct_group(way: Sequence[PathEntry]) -> PathEntry | None:
    """The group right above the last node; None for a user's namespace, and for a node at the top."""
    above = way[-2] if len(way) > 1 else None
    return above if above and above.key.kind is NodeKind.GROUP else None


def _check_starter(
    project: Project, way: Sequence[PathEntry], user: User, members: Iterable[Member], now: datetime
) -> None:
    """Check that a user may start a job in a project: developers and above, and administrators. Raises JobRefused."""
    if user.blocked:
        raise JobRefused(f"user {user.name!r} is blocked and cannot start jobs: unblock the user first")
    if user.admin or (way and way[0].key == NodeKey(NodeKind.USER, user.id)):
        return
    role = strongest_role(members, now)
    if role is None or role < Role.DEVELOPER:
        has = f"is {role.word}" if role else "has no role"
        raise JobRefused(f"user {user.name!r} {has} in project {project.path!r}: jobs need a developer at least")


def _check_name(name: str) -> None:
    """Check the name of a token. Raises CredentialInvalid."""
    if not name.strip() or len(name) > NAME_LIMIT or not name.isprintable():
        raise CredentialInvalid(f"{name!r} is not a name for a token: use up to {NAME_LIMIT} printable characters")


def _check_scopes(what: str, scopes: Collection[Scope], allowed: frozenset[Scope]) -> frozenset[Scope]:
    """Check the scopes of a token and return them. Raises CredentialInvalid."""
    choice = ", ".join(scope for scope in Scope if scope in allowed)
    if not scopes:
        raise CredentialInvalid(f"{what} needs a scope: use any of {choice}")
    if excess := frozenset(scopes) - allowed:
        raise CredentialInvalid(f"{what} cannot have the scope {min(excess)}: use any of {choice}")
    return frozenset(scopes)
