"""The life of the bulk deletions of a process, and what they tell the logs."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog

from cache.runtime.tasks import Tasks
from gateway.audit.deletion import note_deletion
from gateway.audit.event import AuditEvent, EventKind, Subject, Surface
from gateway.audit.log import AuditLog
from gateway.db.bulk_deletions import BulkRun
from gateway.db.engine import DatabaseUnusable
from gateway.registry.bulk_deletion import BulkDeleter, Deleted
from gateway.services import Services

log = structlog.get_logger()

LOOK_SECONDS = 10.0
"""Seconds between two looks for deletions that another process was requested to do, and has left."""

ACCEPTED = 202
"""Status of the response to the request."""


@asynccontextmanager
async def deleting_in_bulk(services: Services) -> AsyncIterator[None]:
    """Do the bulk deletions that are requested, in the background."""
    tasks = Tasks()
    tasks.start(_delete_as_requested(services.native.bulk, services.audit), "bulk deletions")
    try:
        yield
    finally:
        await tasks.close()


async def _delete_as_requested(bulk: BulkDeleter, audit: AuditLog) -> None:
    def note(run: BulkRun, deleted: Deleted) -> None:
        note_bulk(audit, run, deleted)

    while True:
        bulk.requested.clear()
        try:
            while await bulk.step(note):
                pass
        except DatabaseUnusable as error:  # what is left is gone on with the next time
            log.warning("bulk_deletion_interrupted", reason=str(error))
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await bulk.requested.wait()


def note_bulk(audit: AuditLog, run: BulkRun, deleted: Deleted) -> None:
    """Note what a batch deleted, for whoever requested it."""
    wanted, now = run.requested, time.time()
    kinds = (EventKind.DELETE, Subject.TAG, Surface.REST)
    for name, digest in deleted:
        event = AuditEvent(now, *kinds, run.path, name, digest, None, wanted.who, wanted.user, wanted.client)
        note_deletion(audit, event._replace(request_id=wanted.request_id), ACCEPTED)
