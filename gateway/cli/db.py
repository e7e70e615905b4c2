"""`db`: the revision of the database, and its upgrade."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import folder
from gateway.cli.output import Document
from gateway.cli.owner import require_owner
from gateway.cli.plain_options import plain_app
from gateway.cli.refusals import Refused
from gateway.cli.session import Session, with_session
from gateway.db import setup
from gateway.db.address import DatabaseAddress
from gateway.db.revisions import check_usable, needed_revision
from gateway.settings.tables import Settings
from gateway.wiring.values import configured_database

app = plain_app()


@app.command()
@with_session
def check(session: Session) -> None:
    """Check that this version can use the database; exit code 1 if `serve` would refuse it."""
    address = _existing(session.settings)
    found = asyncio.run(setup.read_revision(address))
    session.print({"revision": found.number}, lambda: print(f"{address} has revision {found.number or 'none'}"))
    if found.number is None:
        raise Refused(f"{address} is empty: `registry-gateway serve` sets it up, or `registry-gateway db upgrade`")
    check_usable(address, found, needed_revision())


@app.command()
@with_session
def upgrade(
    session: Session,
    copy: Annotated[
        bool, typer.Option("--copy/--no-copy", help="Keep a copy of an SQLite file. [default: copy]")
    ] = True,
) -> None:
    """Bring the database to the revision of this version; an empty one is set up."""
    address = _existing(session.settings)
    done = asyncio.run(folder.upgrade(session.settings, copy))
    found = asyncio.run(setup.read_revision(address))
    kept = None if done is None or done.copy is None else str(done.copy.absolute())
    document: Document = {"revision": found.number, "before": done.before if done else found.number, "copy": kept}
    session.print(document, lambda: _print(address, document))


def _print(address: DatabaseAddress, document: Document) -> None:
    revision, before = document["revision"], document["before"]
    print(f"{address} has revision {revision}{f', after {before}' if before != revision else ''}")
    if document["copy"]:
        print(f"{document['copy']} is as it was before: delete it when nothing is missing")


def _existing(settings: Settings) -> DatabaseAddress:
    """The address of the database. Raises Refused if it is a file that does not exist, or another user's."""
    require_owner(settings.data)
    address = configured_database(settings)
    if isinstance(address, Path) and not address.exists():
        raise folder.absent(settings)
    return address
