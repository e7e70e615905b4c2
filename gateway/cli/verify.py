"""`verify`: compares the content that was pushed with what the database says of it."""

import asyncio
import threading
from typing import Annotated

import typer

from cache.lease.local import LocalLeases
from cache.retention.scrub import ReadLimiter
from cache.store.filesystem import FilesystemStore
from cache.store.quarantine import Quarantine
from gateway.cli.folder import open_existing
from gateway.cli.output import Document, print_line, progress_bar
from gateway.cli.plain_options import plain_app
from gateway.cli.refusals import Refused, complain
from gateway.cli.session import Session, with_session
from gateway.data_folder import NativeFolder
from gateway.maintenance.native_inspector import NativeInspector
from gateway.maintenance.native_rows import NativeRows
from gateway.maintenance.native_verify import NativeVerification, verify_native
from gateway.observability import logs
from gateway.settings.units import parse_rate

app = plain_app()


@app.command()
@with_session
def verify(
    session: Session,
    hash: Annotated[
        bool,
        typer.Option(
            "--hash", help="Read all of it, and set damaged files aside; else only sizes count.", show_default=False
        ),
    ] = False,
    rate: Annotated[str, typer.Option(metavar="SIZE", help="Bytes read per second at most; 0: no limit.")] = "0",
) -> None:
    """Check that every blob that was pushed is there and whole; exit code 1 if one is not."""
    try:
        limiter = ReadLimiter(parse_rate(rate).number, threading.Event())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--rate") from error
    logs.configure(session.settings.log_format)
    try:
        result = _verify(session, limiter if hash else None)
    except OSError as error:
        where = error.filename or session.settings.data
        raise Refused(f"{where} cannot be read ({error.strerror}): look at its owner and its disk") from error
    session.print(_document(result), lambda: _print(result))
    if count := len(result.findings) + len(result.manifests) + len(result.incomplete):
        aside = NativeFolder(session.settings.data).damaged
        complain(
            f"damage was found in {count} of {result.checked}: push the images again, or restore a backup; "
            f"files that were set aside are in {aside}"
        )
        raise typer.Exit(1)


def _verify(session: Session, limiter: ReadLimiter | None) -> NativeVerification:
    folder = NativeFolder(session.settings.data)
    store = FilesystemStore(folder.blobs, Quarantine(folder.damaged, bounded=False))
    with asyncio.Runner() as runner:
        opened = open_existing(session.settings)
        database = runner.run(opened.__aenter__())
        try:
            rows = NativeRows(database, runner.run)
            total = sum(blob.size for blob in rows.blobs())
            inspector = NativeInspector(rows, store, LocalLeases(folder.leases))
            with progress_bar("verifying", total) as progress:
                return verify_native(rows, store, inspector, limiter, progress)
        finally:
            runner.run(opened.__aexit__(None, None, None))


def _document(result: NativeVerification) -> Document:
    blobs = [
        {"digest": str(found.digest), "damage": found.damage.value, "repositories": found.repositories}
        for found in result.findings
    ]
    manifests = [
        {"digest": str(found.digest), "damage": "digest", "repositories": [found.repository]}
        for found in result.manifests
    ]
    incomplete = [
        {"digest": str(found.missing), "damage": "missing", "repositories": [found.repository]}
        for found in result.incomplete
    ]
    return {
        "checked": result.checked,
        "bytes": result.bytes,
        "damaged": result.damaged,
        "missing": result.missing,
        "orphaned": result.orphaned,
        "findings": [*blobs, *manifests, *incomplete],
    }


def _print(result: NativeVerification) -> None:
    document = _document(result)
    print_line({name: document[name] for name in ("checked", "bytes", "damaged", "missing", "orphaned")})
    for found in result.findings:
        print(f"{found.damage.value}\t{found.digest}\t{', '.join(found.repositories) or '-'}")
    for manifest in result.manifests:
        print(f"manifest\t{manifest.digest}\t{manifest.repository}")
    for lacking in result.incomplete:
        print(f"missing\t{lacking.missing}\t{lacking.repository}, needed by {lacking.digest}")
