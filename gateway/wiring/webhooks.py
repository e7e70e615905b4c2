"""The life of what tells webhooks of events."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime

from cache.runtime.locks import ProcessRole
from cache.runtime.tasks import Tasks
from cache.upstream.posting import Poster, PostingRules
from gateway.data_folder import NativeFolder, server_name
from gateway.db.engine import Database
from gateway.keys.sealing import Sealer
from gateway.notifications.administration import WebhookAdministration
from gateway.notifications.notices import PulledNotices
from gateway.notifications.notifier import Notifier
from gateway.notifications.notifying import NotifierThread
from gateway.notifications.sender import WebhookSender
from gateway.services import Services
from gateway.settings.tables import Settings
from gateway.webhooks.envelope import Envelopes
from gateway.wiring.native import run_from_threads
from gateway.wiring.roles import at_work

NOTICE_SECONDS = 2.0
"""Seconds for which pulls and cache fills wait in memory."""


@asynccontextmanager
async def open_webhooks(
    settings: Settings, database: Database, sealer: Sealer, clock: Callable[[], datetime]
) -> AsyncIterator[WebhookAdministration]:
    """Open the administration of webhooks, with what sends to them."""
    rules = settings.webhooks
    poster = Poster(PostingRules(frozenset(rules.private_hosts), rules.ca_file))
    sender = WebhookSender(poster, sealer)
    try:
        yield WebhookAdministration(database, sealer, sender, server_name(settings.data), clock, poster.allows_private)
    finally:
        await poster.close()


@asynccontextmanager
async def telling_webhooks(services: Services, url: str) -> AsyncIterator[None]:
    """Tell webhooks of events in the background. `url`: by which clients reach the registry."""
    database, data = services.native.uploads.native.database, services.folder.data
    notices, tasks = PulledNotices(database), Tasks()
    envelopes = Envelopes(url, server_name(data))
    notifier = Notifier(database, services.webhooks.sender, envelopes, services.clock)
    role = ProcessRole(NativeFolder(data).lock("webhooks"))
    thread = NotifierThread(notifier.step, notifier.trim, run_from_threads(), role)
    await notices.flush()
    services.audit.listen(notices.note)
    tasks.start(_flush_at_intervals(notices), "webhook events")
    try:
        async with at_work(thread, services.server_state.closed):
            yield
    finally:
        await notifier.close()
        await tasks.close()
        await notices.flush()


async def _flush_at_intervals(notices: PulledNotices) -> None:
    while True:
        await asyncio.sleep(NOTICE_SECONDS)
        await notices.flush()
