"""AuditedChanges: what requests make, change, move, delete, restore, grant and revoke, as events of the audit log;
deletions are lines of the log, too."""

from dataclasses import dataclass
from time import time
from typing import Protocol

from cache.oci.digest import Digest
from cache.oci.names import Tag
from gateway.audit.deletion import note_deletion
from gateway.audit.event import AuditEvent, EventKind, Subject, Surface
from gateway.audit.log import AuditLog
from gateway.audit.told import differences, name_token, tell_token
from gateway.audit.told_proxy import tell_new_secret, tell_policy, tell_proxy
from gateway.namespaces.credentials import Job, PersonalToken
from gateway.namespaces.group import Group
from gateway.namespaces.image_ttl import ImageTtlPolicy
from gateway.namespaces.old_path import MovedKind


@dataclass(frozen=True, slots=True)
class Author:
    """Whoever does something, as events name them: AuditEvent says what each field is."""

    surface: Surface
    who: str
    user: str | None
    client: str | None
    request_id: str | None


class Authored(Protocol):
    """A request that has an author."""

    @property
    def author(self) -> Author:
        """Who makes it."""


class AuditedChanges:
    """Notes changes with whoever made them. Nothing of it is a secret, and no request fails for it."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    def deleted(
        self, call: Authored, status: int, repository: str, tag: Tag | None = None, digest: Digest | None = None
    ) -> None:
        """Note that a repository, or a tag of it, was deleted. `status`: of the response; `digest`: of what the tag
        pointed to."""
        subject = Subject.REPOSITORY if tag is None else Subject.TAG
        text = None if digest is None else str(digest)
        event = _event(call, EventKind.DELETE, subject, repository)
        note_deletion(self._audit, event._replace(tag=None if tag is None else tag.text, digest=text), status)

    def evicted(self, call: Authored, subject: Subject, path: str, reference: Tag | Digest | None = None) -> None:
        """Note that cached content was evicted: of a group, or of an image by the path that the main address knows."""
        tag = reference.text if isinstance(reference, Tag) else None
        digest = str(reference) if isinstance(reference, Digest) else None
        self._audit.note(_event(call, EventKind.EVICT, subject, path)._replace(tag=tag, digest=digest))

    def proxy_changed(self, call: Authored, before: Group, after: Group) -> None:
        """Note that the dependency proxy of a group was changed."""
        former, present = differences(tell_proxy(before), tell_proxy(after))
        told = [fact for fact in (present, tell_new_secret(before, after)) if fact]
        self._changed(call, after.path, former, ", ".join(told) or None)

    def policy_changed(self, call: Authored, group: Group, before: ImageTtlPolicy, after: ImageTtlPolicy) -> None:
        """Note that the policy by which images of a group expire was changed."""
        self._changed(call, group.path, *differences(tell_policy(before), tell_policy(after)))

    def _changed(self, call: Authored, path: str, before: str | None, after: str | None) -> None:
        if before or after:
            event = _event(call, EventKind.UPDATE, Subject.GROUP, path)
            self._audit.note(event._replace(former=before, outcome=after))

    def restored(self, call: Authored, repository: str, tag: Tag | None = None, digest: Digest | None = None) -> None:
        """Note that a repository, or a tag of it, was restored. `digest`: what the tag points to since."""
        subject = Subject.REPOSITORY if tag is None else Subject.TAG
        event = _event(call, EventKind.RESTORE, subject, repository)
        text = None if digest is None else str(digest)
        self._audit.note(event._replace(tag=None if tag is None else tag.text, digest=text))

    def moved(self, call: Authored, kind: MovedKind, old: str, new: str) -> None:
        """Note that something has moved."""
        self._audit.note(_event(call, EventKind.MOVE, Subject(kind.value), new)._replace(former=old))

    def granted(self, call: Authored, path: str, token: PersonalToken) -> None:
        """Note that an access token of a project or group was made."""
        self._audit.note(_of_token(call, EventKind.GRANT, path, token))

    def revoked(self, call: Authored, path: str, token: PersonalToken) -> None:
        """Note that an access token of a project or group was ended."""
        self._audit.note(_of_token(call, EventKind.REVOKE, path, token))

    def changed_jobs(self, call: Authored, kind: EventKind, path: str, what: str) -> None:
        """Note that a project allows jobs of others, or does not any more. `what`: in words."""
        self._audit.note(_event(call, kind, Subject.PROJECT, path)._replace(outcome=what))

    def started_job(self, call: Authored, path: str, job: Job) -> None:
        """Note that a job was started, with a token of its own."""
        self._audit.note(_event(call, EventKind.GRANT, Subject.TOKEN, path)._replace(outcome=f"job {job.id}"))

    def finished_job(self, call: Authored, path: str, job: Job) -> None:
        """Note that a job was ended, with its token."""
        self._audit.note(_event(call, EventKind.REVOKE, Subject.TOKEN, path)._replace(outcome=f"job {job.id}"))

    def changed(
        self,
        call: Authored,
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

    def updated(self, call: Authored, subject: Subject, path: str, before: str, after: str) -> None:
        """Note that something was changed, and which facts of it. `before`, `after`: facts, as `differences` compares
        them."""
        former, present = differences(before, after)
        self.changed(call, EventKind.UPDATE, subject, path, before=former, after=present)

    def reused(self, call: Authored, revoked: PersonalToken, owner: str) -> None:
        """Note that a token was revoked because the one that it took the place of was sent once more."""
        event = _event(call, EventKind.DELETE, Subject.PERSONAL_TOKEN, owner)
        self._audit.note(event._replace(target=name_token(revoked), former=tell_token(revoked)))


def _of_token(call: Authored, kind: EventKind, path: str, token: PersonalToken) -> AuditEvent:
    scopes = " ".join(sorted(token.scopes))
    return _event(call, kind, Subject.TOKEN, path)._replace(outcome=f"access token {token.id}: {scopes}")


def _event(call: Authored, kind: EventKind, subject: Subject, path: str) -> AuditEvent:
    author = call.author
    return AuditEvent(
        time(),
        kind,
        subject,
        author.surface,
        path,
        who=author.who,
        user=author.user,
        client=author.client,
        request_id=author.request_id,
    )
