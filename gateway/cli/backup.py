"""`backup`: copies the database, the keys and native content into one file, while a server runs."""

import asyncio
import os
import shlex
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import folder, readable
from gateway.cli.output import Document
from gateway.cli.plain_options import plain_app
from gateway.cli.refusals import Refused, complain
from gateway.cli.session import Session, with_session
from gateway.db.address import PostgresqlAddress
from gateway.db.stored_blobs import RecordedBlob, list_page
from gateway.maintenance.archive import ArchiveUnusable
from gateway.maintenance.backup import back_up
from gateway.maintenance.restore import DataFolderBusy
from gateway.settings.tables import Settings
from gateway.wiring.values import configured_database

app = plain_app()


@app.command()
@partial(with_session, as_owner=False)
def backup(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, which must not exist.")],
) -> None:
    """Write the database, the keys and all native blobs to a file, while a server runs; the cache is left out."""
    settings = session.settings
    asyncio.run(folder.require_as_it_is(settings))
    _check_target(file, settings.data)
    address = configured_database(settings)
    try:
        if isinstance(address, Path):
            made = back_up(settings.data, file, address, datetime.now(UTC))
        else:
            made = back_up(settings.data, file, None, datetime.now(UTC), read_blobs(settings))
    except FileExistsError as error:
        raise _taken(file) from error
    except ArchiveUnusable as error:
        raise Refused(f"{settings.data.absolute()} cannot be backed up, since {error}: move that file away") from error
    except DataFolderBusy as error:
        raise Refused(f"{error}: try again") from error
    except OSError as error:
        where = error.filename or file
        raise Refused(
            f"{where} cannot be read or written ({error.strerror}), and no backup was made: "
            "look at its owner and its disk, or name another file"
        ) from error
    document: dict[str, object] = {
        "bytes": file.stat().st_size,
        "files": made.manifest.files,
        "blobs": made.manifest.blobs.count,
        "left_out": [str(digest) for digest in made.left_out],
        "database": "sqlite" if made.manifest.holds_database else "postgresql",
    }
    if isinstance(address, PostgresqlAddress):
        document["pg_dump"] = _pg_dump(address, file)
    session.print(document, lambda: _print(file, document))
    _warn_of_readers(file)
    if made.left_out:
        complain(
            f"{len(made.left_out)} blobs that the database names are damaged or missing, and are not in {file}: "
            "`registry-gateway verify` shows them; push their images again"
        )
        raise typer.Exit(1)


def read_blobs(settings: Settings) -> Iterator[RecordedBlob]:
    """Read every native blob of a database that is no file, page by page. Raises Refused, DatabaseUnusable."""
    pages = folder.read_pages(settings, list_page, lambda blob: str(blob.digest))

    async def next_page() -> Sequence[RecordedBlob]:
        async for page in pages:
            return page
        return ()

    with asyncio.Runner() as runner:
        while page := runner.run(next_page()):
            yield from page


def _check_target(file: Path, data: Path) -> None:
    if os.path.lexists(file):
        raise _taken(file)
    if not os.path.isdir(file.parent):
        raise Refused(f"there is no folder {file.parent.absolute()}: make it, or name another file")
    if file.parent.resolve().is_relative_to(data.resolve()):
        raise Refused(f"{file} lies in the data folder, with which it would be lost: name a file elsewhere")


def _taken(file: Path) -> Refused:
    return Refused(f"{file} exists: name another file, or move it away")


def _pg_dump(address: PostgresqlAddress, file: Path) -> str:
    """The command that copies what is not in the file; it asks for the password where it needs one."""
    words = ["pg_dump", "--format=custom", f"--file={file}.pgdump", f"--host={address.host}", f"--port={address.port}"]
    return shlex.join([*words, f"--username={address.user}", f"--dbname={address.name}"])


def _print(file: Path, document: Document) -> None:
    size = readable.cell("bytes", document["bytes"], datetime.now(UTC))
    print(f"wrote {document['files']} files, {size}, to {file}; it holds keys: keep it secret")
    if "pg_dump" in document:
        print(f"the database is not in it; a copy that was made before this file goes with it:  {document['pg_dump']}")


def _warn_of_readers(file: Path) -> None:
    """Some file systems give every file one mode."""
    if (mode := file.stat().st_mode & 0o077) != 0:
        complain(f"warning: other users of this machine may read {file} (mode ..{mode:02o}): move it to another disk")
