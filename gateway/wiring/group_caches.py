"""The life of the purges of the caches of groups, and what they tell the logs."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import structlog

from cache.runtime.locks import ProcessRole
from cache.runtime.tasks import Tasks
from gateway.audit.event import AuditEvent, EventKind, Subject, Surface
from gateway.audit.log import AuditLog
from gateway.db.engine import DatabaseUnusable
from gateway.maintenance.group_cache import EvictedImage, ExpiredImage, GroupCache
from gateway.maintenance.group_purges import Expired, GroupPurger
from gateway.namespaces.group import Group
from gateway.namespaces.paths import proxied_name
from gateway.services import Services

log = structlog.get_logger()

LOOK_SECONDS = 2.0
"""Seconds between two looks for purges that were requested."""

POLICY_LOOK_SECONDS = 60.0
TIDY_SECONDS = 3600.0


@asynccontextmanager
async def purging(services: Services) -> AsyncIterator[None]:
    """Purge the caches of groups as requests and policies say, in one process of the host."""
    expired = noting_expired(services.audit, services.upstreams.name_of)
    database = services.native.uploads.native.database
    purger = GroupPurger(database, GroupCache.of(services), services.clock, expired)
    role, tasks = ProcessRole(services.folder.lock("group-caches")), Tasks()
    tasks.start(_purge_as_due(purger, role, services.server_state.closed), "purges of groups")
    try:
        yield
    finally:
        await tasks.close()
        role.leave()


async def _purge_as_due(purger: GroupPurger, role: ProcessRole, closed: asyncio.Event) -> None:
    """Do what is due until this process accepts no connections any more: the role is then free for another one."""
    looks = [(0.0, LOOK_SECONDS, purger.purge), (0.0, POLICY_LOOK_SECONDS, purger.apply_policies)]
    looks.append((time.monotonic() + TIDY_SECONDS, TIDY_SECONDS, purger.tidy))
    while not closed.is_set():
        try:
            if role.take():
                for number, (due, interval, work) in enumerate(looks):
                    if time.monotonic() >= due:
                        await work()
                        looks[number] = (time.monotonic() + interval, interval, work)
        except (DatabaseUnusable, OSError) as error:  # what is left is gone on with the next time
            log.warning("purge_interrupted", reason=str(error))
        except Exception:  # the task's last resort: nothing would ever be purged again
            log.exception("purge_failed")
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await closed.wait()
    role.leave()


def noting_expired(audit: AuditLog, name_of: Callable[..., str]) -> Expired:
    """What notes in the audit log, and logs, that a policy has evicted content. `name_of`: the name of the upstream of
    a source."""

    def note(group: Group, expired: ExpiredImage, evicted: EvictedImage) -> None:
        name = f"{name_of(expired.image.source)}/{expired.image.name}"
        path, who = proxied_name(group.path, name), f"image TTL policy of group {group.path!r}"
        audit.note(AuditEvent(time.time(), EventKind.EVICT, Subject.REPOSITORY, Surface.CLEANUP, path, who=who))
        references = [str(reference) for reference in expired.expired]
        counts = {"freed_bytes": evicted.bytes, "shared": evicted.shared}
        log.info("expired_image_purged", group=group.path, image=name, references=references[:20], **counts)

    return note
