"""Deletions: events of the audit log, and lines of the log, by whichever surface they were done."""

import structlog

from gateway.audit.event import AuditEvent
from gateway.audit.log import AuditLog

log = structlog.get_logger()


def note_deletion(audit: AuditLog, event: AuditEvent, status: int) -> None:
    """Note that a request deleted something, and log it in one line. `status`: of the response. Nothing fails for
    it."""
    audit.note(event)
    log_deletion(event, status=status, request_id=event.request_id)


def log_deletion(event: AuditEvent, **more: object) -> None:
    """Log in one line that something was deleted. `more`: fields of the surface."""
    log.info(
        "deleted",
        repository=event.path,
        tag=event.tag,
        digest=event.digest,
        who=event.who,
        surface=event.surface.value,
        **more,
    )
