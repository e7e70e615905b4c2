"""The life of the cleaner, and what it tells the logs."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog

from cache.runtime.locks import ProcessRole
from gateway.audit.deletion import log_deletion
from gateway.audit.event import AuditEvent, EventKind, Subject, Surface
from gateway.audit.log import AuditLog
from gateway.data_folder import NativeFolder
from gateway.db.engine import DatabaseUnusable
from gateway.registry.cleaner import CleanedTags, Cleaner
from gateway.registry.cleaning import CleanupThread
from gateway.services import Services
from gateway.wiring.native import run_from_threads
from gateway.wiring.roles import at_work

log = structlog.get_logger()


@asynccontextmanager
async def cleaning(services: Services) -> AsyncIterator[None]:
    """Run the cleanup policies of projects in the background."""

    def note(cleaned: CleanedTags) -> None:
        note_cleaned(services.audit, cleaned)

    def completed(project: str, deleted: int) -> None:
        log.info("cleanup_completed", project=project, deleted=deleted)

    cleaner = Cleaner(services.native.uploads.native.database, services.clock, note, completed)
    role = ProcessRole(NativeFolder(services.folder.data).lock("cleanup"))
    thread = CleanupThread(cleaner.step, run_from_threads(), role)
    try:
        async with at_work(thread, services.server_state.closed):
            yield
    finally:
        with suppress(DatabaseUnusable):  # the lease of its run ends by itself
            await cleaner.close()


def note_cleaned(audit: AuditLog, cleaned: CleanedTags) -> None:
    """Note deletions of a policy in the audit log, and log each like those of other surfaces."""
    for event in events_of(cleaned, f"cleanup policy of project {cleaned.project!r}"):
        audit.note(event)
        log_deletion(event)


def events_of(cleaned: CleanedTags, who: str) -> list[AuditEvent]:
    """The events of deletions by a policy."""
    now, kinds = time.time(), (EventKind.DELETE, Subject.TAG, Surface.CLEANUP)
    return [AuditEvent(now, *kinds, cleaned.repository, name, digest, who=who) for name, digest in cleaned.tags]
