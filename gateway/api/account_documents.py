"""AccountDocuments: what the REST API tells of users and tokens, and to whom."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from gateway.api.documents import DocumentWriter, moment
from gateway.api.options import ApiOptions
from gateway.auth.principal import Principal, PrincipalKind
from gateway.directory.access_tokens import AccessToken
from gateway.namespaces.credential_rules import EndKind, find_ending
from gateway.namespaces.credentials import DeployToken, Job, PersonalToken, Scope
from gateway.namespaces.project import Project
from gateway.namespaces.user import User


class AccountDocuments:
    """Writes documents of users and tokens as they are now. A secret is in none of them."""

    def __init__(self, options: ApiOptions, documents: DocumentWriter, clock: Callable[[], datetime]) -> None:
        self._options = options
        self._documents = documents
        self._clock = clock

    def user(self, user: User, reader: Principal) -> dict[str, object]:
        """A user, with the address and the rights for administrators and for the user alone: no job is one of those."""
        if reader.kind is PrincipalKind.JOB_TOKEN:
            return self._stranger(user)
        if is_administrator(reader):
            return {**self._documents.user(user), "locked": False, "is_admin": user.admin, "two_factor_enabled": False}
        if reader.user is not None and reader.user.id == user.id:
            return self._documents.user(user)
        return self._stranger(user)

    def _stranger(self, user: User) -> dict[str, object]:
        """A user, for everybody with a login."""
        return {
            "id": user.id,
            "username": user.name,
            "name": user.name,
            "state": user.state,
            "locked": False,
            "avatar_url": None,
            "web_url": f"{self._options.url}/{user.name}",
        }

    def personal_token(self, token: PersonalToken) -> dict[str, object]:
        ending = find_ending(token, self._clock())
        return {
            "id": token.id,
            "name": token.name,
            "description": token.description or None,
            "revoked": token.revoked_at is not None,
            "created_at": moment(token.created_at),
            "scopes": _in_order(token.scopes),
            "user_id": token.user_id,
            "last_used_at": token.last_used_at and moment(token.last_used_at),
            "active": ending is None,
            "expires_at": token.expires_at and f"{token.expires_at.astimezone(UTC):%Y-%m-%d}",
        }

    def access_token(self, found: AccessToken) -> dict[str, object]:
        return {**self.personal_token(found.token), "access_level": found.role and int(found.role)}

    def job(self, job: Job, project: Project, user: User | None, reader: Principal) -> dict[str, object]:
        """A job in its project, in GitLab's words for its state. `user`: on whose behalf it runs."""
        ending = find_ending(job, self._clock())
        status = "running" if ending is None else ("success" if ending.kind is EndKind.FINISHED else "failed")
        return {
            "id": job.id,
            "status": status,
            "ref": job.ref,
            "tag": False,
            "created_at": moment(job.created_at),
            "started_at": moment(job.created_at),
            "finished_at": job.finished_at and moment(job.finished_at),
            "expires_at": moment(job.expires_at),
            "last_used_at": job.last_used_at and moment(job.last_used_at),
            "user": {} if user is None else self.user(user, reader),
            "project": {
                "id": project.id,
                "path_with_namespace": project.path,
                "ci_job_token_scope_enabled": project.limits_jobs,
            },
        }

    def deploy_token(self, token: DeployToken) -> dict[str, object]:
        ends = token.expires_at
        return {
            "id": token.id,
            "name": token.name,
            "username": token.username,
            "expires_at": ends and moment(ends),
            "scopes": _in_order(token.scopes),
            "revoked": token.revoked_at is not None,
            "expired": ends is not None and ends <= self._clock(),
        }


def is_administrator(principal: Principal) -> bool:
    """Whether a principal, whose token the API has accepted, is an administrator of the server."""
    return principal.user is not None and principal.user.admin


def _in_order(scopes: Iterable[Scope]) -> list[str]:
    return [scope.value for scope in Scope if scope in scopes]
