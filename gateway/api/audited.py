"""AuditedChanges: what requests make, change, move, delete, grant and revoke, as events of the audit log; deletions are
lines of the log, too."""

from time import time
from typing import Any

from starlette.requests import Request

from cache.oci.digest import Digest
from cache.oci.names import Tag
from gateway.api.routing import Call
from gateway.audit.deletion import note_deletion
from gateway.audit.event import AuditEvent, EventKind, Subject, Surface
from gateway.audit.log import AuditLog
from gateway.audit.told import differences, name_token, tell_token
from gateway.audit.told_proxy import tell_new_secret, tell_policy, tell_proxy
from gateway.auth.principal import ANONYMOUS, Principal, describe
from gateway.db.moves import Moved
from gateway.http.access_log import identity_of
from gateway.namespaces.credentials import Job, PersonalToken
from gateway.namespaces.group import Group
from gateway.namespaces.image_ttl import ImageTtlPolicy


class AuditedChanges:
    """Notes changes with whoever made them. Nothing of it is a secret, and no request fails for it."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    def deleted(
        self, call: Call[Any], status: int, repository: str, tag: Tag | None = None, digest: Digest | None = None
    ) -> None:
        """Note that a repository, or a tag of it, was deleted. `status`: of the response; `digest`: of what the tag
        pointed to."""
        subject = Subject.REPOSITORY if tag is None else Subject.TAG
        text = None if digest is None else str(digest)
        event = _event(call, EventKind.DELETE, subject, repository)
        note_deletion(self._audit, event._replace(tag=None if tag is None else tag.text, digest=text), status)

    def evicted(self, call: Call[Any], subject: Subject, path: str, reference: Tag | Digest | None = None) -> None:
        """Note that cached content was evicted: of a group, or of an image by the path that the main address knows."""
        tag = reference.text if isinstance(reference, Tag) else None
        digest = str(reference) if isinstance(reference, Digest) else None
        self._audit.note(_event(call, EventKind.EVICT, subject, path)._replace(tag=tag, digest=digest))

    def proxy_changed(self, call: Call[Any], before: Group, after: Group) -> None:
        """Note that the dependency proxy of a group was changed."""
        former, present = differences(tell_proxy(before), tell_proxy(after))
        told = [fact for fact in (present, tell_new_secret(before, after)) if fact]
        self._changed(call, after.path, former, ", ".join(told) or None)

    def policy_changed(self, call: Call[Any], group: Group, before: ImageTtlPolicy, after: ImageTtlPolicy) -> None:
        """Note that the policy by which images of a group expire was changed."""
        self._changed(call, group.path, *differences(tell_policy(before), tell_policy(after)))

    def _changed(self, call: Call[Any], path: str, before: str | None, after: str | None) -> None:
        if before or after:
            event = _event(call, EventKind.UPDATE, Subject.GROUP, path)
            self._audit.note(event._replace(former=before, outcome=after))

    def moved(self, call: Call[Any], moved: Moved) -> None:
        """Note that something has moved."""
        event = _event(call, EventKind.MOVE, Subject(moved.kind.value), moved.new)
        self._audit.note(event._replace(former=moved.old))

    def granted(self, call: Call[Any], path: str, token: PersonalToken) -> None:
        """Note that an access token of a project or group was made."""
        self._audit.note(_of_token(call, EventKind.GRANT, path, token))

    def revoked(self, call: Call[Any], path: str, token: PersonalToken) -> None:
        """Note that an access token of a project or group was ended."""
        self._audit.note(_of_token(call, EventKind.REVOKE, path, token))

    def changed_jobs(self, call: Call[Any], kind: EventKind, path: str, what: str) -> None:
        """Note that a project allows jobs of others, or does not any more. `what`: in words."""
        self._audit.note(_event(call, kind, Subject.PROJECT, path)._replace(outcome=what))

    def started_job(self, call: Call[Any], path: str, job: Job) -> None:
        """Note that a job was started, with a token of its own."""
        self._audit.note(_event(call, EventKind.GRANT, Subject.TOKEN, path)._replace(outcome=f"job {job.id}"))

    def finished_job(self, call: Call[Any], path: str, job: Job) -> None:
        """Note that a job was ended, with its token."""
        self._audit.note(_event(call, EventKind.REVOKE, Subject.TOKEN, path)._replace(outcome=f"job {job.id}"))

    def changed(
        self,
        call: Call[Any],
        kind: EventKind,
        subject: Subject,
        path: str,
        target: str | None = None,
        *,
        before: str | None = None,
        after: str | None = None,
    ) -> None:
        """Note that something was made, changed or deleted that is no content. `path`: of the group, project or user
        that has it; `target`: which one it is there; `before`, `after`: the properties of it that are told, of which
        none is a secret."""
        event = _event(call, kind, subject, path)
        self._audit.note(event._replace(target=target, former=before, outcome=after))

    def updated(self, call: Call[Any], subject: Subject, path: str, before: str, after: str) -> None:
        """Note that something was changed, and which facts of it. `before`, `after`: facts, as `differences` compares
        them."""
        former, present = differences(before, after)
        self.changed(call, EventKind.UPDATE, subject, path, before=former, after=present)

    def reused(self, request: Request, revoked: PersonalToken, owner: str) -> None:
        """Note that a token was revoked because the one that it took the place of was sent once more."""
        event = _event_of(request, ANONYMOUS, EventKind.DELETE, Subject.PERSONAL_TOKEN, owner)
        self._audit.note(event._replace(target=name_token(revoked), former=tell_token(revoked)))


def _of_token(call: Call[Any], kind: EventKind, path: str, token: PersonalToken) -> AuditEvent:
    scopes = " ".join(sorted(token.scopes))
    return _event(call, kind, Subject.TOKEN, path)._replace(outcome=f"access token {token.id}: {scopes}")


def _event(call: Call[Any], kind: EventKind, subject: Subject, path: str) -> AuditEvent:
    return _event_of(call.request, call.principal, kind, subject, path)


def _event_of(request: Request, principal: Principal, kind: EventKind, subject: Subject, path: str) -> AuditEvent:
    request_id, _ = identity_of(request.scope)
    client = request.client
    return AuditEvent(
        time(),
        kind,
        subject,
        Surface.REST,
        path,
        who=describe(principal),
        user=principal.name or None,
        client=client.host if client else None,
        request_id=request_id,
    )
