"""Deletions by requests: events of the audit log, and lines of the log, by whichever surface they were done."""

import structlog

from gateway.audit.event import AuditEvent
from gateway.audit.log import AuditLog

log = structlog.get_logger()


def note_deletion(audit: AuditLog, event: AuditEvent, status: int) -> None:
    """Note that something was deleted, and log it in one line. `status`: of the response. Nothing fails for it."""
    audit.note(event)
    log.info(
        "deleted",
        repository=event.path,
        tag=event.tag,
        digest=event.digest,
        who=event.who,
        surface=event.surface.value,
        status=status,
        request_id=event.request_id,
    )
