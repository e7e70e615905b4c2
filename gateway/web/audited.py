"""What visitors change by pages, as events of the audit log, and deletions as lines of the log."""

from time import time

from gateway.audit.deletion import note_deletion
from gateway.audit.event import AuditEvent, EventKind, Subject, Surface
from gateway.audit.log import AuditLog
from gateway.auth.principal import describe
from gateway.http.access_log import identity_of
from gateway.web.visit import Visit

_DONE = 200


def audited(
    visit: Visit, kind: EventKind, subject: Subject, path: str, tag: str | None = None, digest: str | None = None
) -> AuditEvent:
    """The event of something that a visitor has done."""
    return AuditEvent(
        time(),
        kind,
        subject,
        Surface.PAGES,
        path,
        tag,
        digest,
        who=describe(visit.principal),
        user=visit.principal.name or None,
        client=visit.address,
        request_id=identity_of(visit.request.scope)[0],
    )


def note_tag_deletion(audit: AuditLog, visit: Visit, path: str, tag: str, digest: str) -> None:
    """Note that a visitor has removed a tag."""
    note_deletion(audit, audited(visit, EventKind.DELETE, Subject.TAG, path, tag, digest), _DONE)


def note_repository_deletion(audit: AuditLog, visit: Visit, path: str) -> None:
    """Note that a visitor has deleted a repository."""
    note_deletion(audit, audited(visit, EventKind.DELETE, Subject.REPOSITORY, path), _DONE)
