"""`gc`: garbage collection of what was pushed to projects."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import typer

from cache.oci.errors import StoreUnavailable
from cache.store.spool import no_room
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
from gateway.registry.collector import Collected, CollectionStopped, Collector
from gateway.settings.tables import Settings
from gateway.wiring.native import collector_of, open_native

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
    async with _open_collector(settings) as (collector, database):
        try:
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
        return await _document(total, database)


async def _examine(settings: Settings) -> Document:
    """Find what is due, and change nothing."""
    async with _open_collector(settings) as (collector, database):
        return await _document(await collector.examine(), database)


@asynccontextmanager
async def _open_collector(settings: Settings) -> AsyncIterator[tuple[Collector, Database]]:
    """Open the native store of an existing data folder, and a collector of it."""
    folder = NativeFolder(settings.data)
    async with open_existing(settings) as database, open_native(folder, database, no_room, settings.gc) as native:
        yield collector_of(folder, native, settings.gc), database


async def _document(done: Collected, database: Database) -> Document:
    async with database.read() as connection:
        waiting = await collection_state.waiting(connection)
    return {
        "reviewed": done.reviewed,
        "deleted": done.deleted,
        "freed_bytes": done.freed_bytes,
        "waiting": waiting.all,
    }


def _state_document(settings: Settings, state: CollectionState, waiting: Waiting) -> Document:
    next_at = None if waiting.first is None else format_moment(waiting.first + settings.gc.delay)
    return {
        "waiting": waiting.all,
        "waiting_repositories": waiting.repositories,
        "waiting_manifests": waiting.manifests,
        "waiting_blobs": waiting.blobs,
        "waiting_files": waiting.files,
        "waiting_bytes": waiting.bytes,
        "waiting_since": dict(waiting.events),
        "next_review_at": next_at,
        "deleted": state.deleted_manifests + state.deleted_blobs,
        "freed_bytes": state.freed_bytes,
        "seen_at": None if state.seen_at is None else format_moment(state.seen_at),
        "stopped_reason": state.stopped_reason,
    }
