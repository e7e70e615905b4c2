"""`gc`: garbage collection of what was pushed to projects."""

import asyncio
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

import typer

from cache.lease.local import LocalLeases
from cache.oci.errors import StoreUnavailable
from cache.store.filesystem import FilesystemStore
from cache.store.quarantine import Quarantine
from gateway.cli.folder import open_existing
from gateway.cli.output import Document, print_line, print_values
from gateway.cli.plain_options import plain_app
from gateway.cli.refusals import Refused
from gateway.cli.session import Session, with_session
from gateway.data_folder import NativeFolder
from gateway.db import collection_state
from gateway.db.collection_state import CollectionState, Waiting
from gateway.db.engine import Database
from gateway.namespaces.expiry import format_moment
from gateway.observability import logs
from gateway.registry.collector import Collected, CollectionRule, CollectionStopped, Collector
from gateway.registry.intake import NativeBlobs
from gateway.registry.threads import UploadThreads
from gateway.settings.tables import Settings

app = plain_app()


@app.command()
@with_session
def status(session: Session) -> None:
    """Show what waits for its review, and what was freed."""
    settings = session.settings
    state, waiting = asyncio.run(_read(settings))
    document = _state_document(settings, state, waiting)
    session.print(document, lambda: print_values(document))


@app.command()
@with_session
def run(
    session: Session,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Delete nothing, and tell what would be.", show_default=False)
    ] = False,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes", help="Go on where it stopped because much was deleted, or the clock was set.", show_default=False
        ),
    ] = False,
) -> None:
    """Delete now what is due."""
    logs.configure(session.settings.log_format)
    if dry_run:
        document = asyncio.run(_examine(session.settings))
    else:
        document = asyncio.run(_collect(session.settings, confirmed=yes))
    session.print(document, lambda: print_line(document))


async def _read(settings: Settings) -> tuple[CollectionState, Waiting]:
    async with open_existing(settings) as database, database.read() as connection:
        return await collection_state.read(connection), await collection_state.waiting(connection)


async def _collect(settings: Settings, *, confirmed: bool) -> Document:
    """Collect until nothing more is due. Raises Refused where collection has stopped."""
    total = Collected()
    async with open_existing(settings) as database:
        threads = UploadThreads()
        try:
            collector = _collector(settings, database, threads)
            if confirmed:
                await collector.confirm()
            more = True
            while more:
                done = await collector.step()
                total.add(done)
                more = done.has_more
        except CollectionStopped as error:
            way_out = "; if it may, let it go on by `registry-gateway gc run --yes`" if error.asks else ""
            raise Refused(f"{error}{way_out}") from error
        except StoreUnavailable as error:
            raise Refused(str(error.detail)) from error
        finally:
            await asyncio.to_thread(threads.close)
        async with database.read() as connection:
            waiting = await collection_state.waiting(connection)
    return _document(total.reviewed, total.manifests + total.blobs, total.freed_bytes, waiting)


async def _examine(settings: Settings) -> Document:
    """Find what is due, and change nothing."""
    async with open_existing(settings) as database:
        threads = UploadThreads()
        try:
            due = await _collector(settings, database, threads).examine()
        finally:
            await asyncio.to_thread(threads.close)
        async with database.read() as connection:
            waiting = await collection_state.waiting(connection)
    return _document(due.reviewed, due.manifests + due.blobs, due.freed_bytes, waiting)


def _collector(settings: Settings, database: Database, threads: UploadThreads) -> Collector:
    folder = NativeFolder(settings.data)
    folder.make()
    store = FilesystemStore(folder.blobs, Quarantine(folder.damaged, bounded=False))
    native = NativeBlobs(database, store, LocalLeases(folder.leases), threads, partial(datetime.now, UTC))
    return Collector(native, CollectionRule(settings.gc.delay, folder.lock("backup")))


def _document(reviewed: int, deleted: int, freed_bytes: int, waiting: Waiting) -> Document:
    return {
        "reviewed": reviewed,
        "deleted": deleted,
        "freed_bytes": freed_bytes,
        "waiting": waiting.manifests + waiting.blobs + waiting.files,
    }


def _state_document(settings: Settings, state: CollectionState, waiting: Waiting) -> Document:
    next_at = None if waiting.first is None else format_moment(waiting.first + settings.gc.delay)
    return {
        "waiting": waiting.manifests + waiting.blobs + waiting.files,
        "waiting_manifests": waiting.manifests,
        "waiting_blobs": waiting.blobs,
        "waiting_files": waiting.files,
        "waiting_bytes": waiting.file_bytes,
        "next_review_at": next_at,
        "deleted": state.deleted_manifests + state.deleted_blobs,
        "freed_bytes": state.freed_bytes,
        "seen_at": None if state.seen_at is None else format_moment(state.seen_at),
        "stopped_reason": state.stopped_reason,
    }
