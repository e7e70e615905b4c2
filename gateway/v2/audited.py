"""Audited: what requests pulled, pushed and deleted, as events of the audit log, and deletions as lines of the log."""

from collections.abc import Mapping
from time import time

from starlette.requests import Request

from cache.oci.digest import Digest
from cache.oci.names import Tag
from cache.repository import FoundManifest
from gateway.audit.deletion import note_deletion
from gateway.audit.event import AuditEvent, EventKind, Subject, Surface
from gateway.audit.log import AuditLog
from gateway.auth.principal import ANONYMOUS, Principal, describe
from gateway.db.moves import Moved
from gateway.http.access_log import identity_of
from gateway.repositories import Opened, OpenedNative

ACCEPTED = 202
"""Status of the response to a deletion."""


NOBODY = describe(ANONYMOUS)
"""Who a client without a login is."""


class Audited:
    """Notes events with whoever caused them. Nothing of it is a secret, and no request fails for it."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    def pulled(
        self, request: Request, principal: Principal, opened: Opened, reference: Tag | Digest, found: FoundManifest
    ) -> None:
        """Note that a manifest is sent."""
        if not self._audit.is_kept:
            return
        tag = reference.text if isinstance(reference, Tag) else None
        outcome = found.status.outcome
        digest, cached = str(found.manifest.descriptor.digest), None if outcome is None else outcome.value
        self._audit.note(_event(EventKind.PULL, Subject.MANIFEST, request, principal, opened.path, tag, digest, cached))

    def pushed(
        self,
        request: Request,
        principal: Principal,
        opened: OpenedNative,
        digest: Digest,
        tags: Mapping[Tag, Digest | None],
    ) -> None:
        """Note that a manifest was pushed, once for each of its tags. `tags`: with what they pointed to before."""
        event = _event(EventKind.PUSH, Subject.MANIFEST, request, principal, opened.path, None, str(digest))
        for tag, before in tags.items():
            self._audit.note(event._replace(tag=tag.text, former=None if before is None else str(before)))
        if not tags:
            self._audit.note(event)

    def deleted(
        self,
        request: Request,
        principal: Principal,
        opened: OpenedNative,
        subject: Subject,
        digest: Digest,
        tag: Tag | None = None,
    ) -> None:
        """Note that something was deleted, and log it. `digest`: of a tag, what it pointed to."""
        text = None if tag is None else tag.text
        event = _event(EventKind.DELETE, subject, request, principal, opened.path, text, str(digest))
        note_deletion(self._audit, event, ACCEPTED)

    def moved(self, request: Request, principal: Principal, moved: Moved) -> None:
        """Note that something has moved."""
        event = _event(EventKind.MOVE, Subject(moved.kind.value), request, principal, moved.new, None, None)
        self._audit.note(event._replace(former=moved.old))


def _event(
    event: EventKind,
    subject: Subject,
    request: Request,
    principal: Principal,
    path: str,
    tag: str | None,
    digest: str | None,
    outcome: str | None = None,
) -> AuditEvent:
    """Describe what a request does now. This is a part of each pull, and so does without what takes long."""
    request_id, who = identity_of(request.scope)
    client = request.scope["client"]
    return AuditEvent(
        time(),
        event,
        subject,
        Surface.REGISTRY,
        path,
        tag,
        digest,
        None,
        who or NOBODY,
        principal.name or None,
        client[0] if client else None,
        outcome,
        request_id,
    )
