"""`restore`: puts a backup in place of the database and the keys of the data folder, and its blobs into the store."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISREG
from typing import Annotated, BinaryIO

import typer

from gateway.cli.input_file import InputFile, patient_file
from gateway.cli.plain_options import plain_app
from gateway.cli.refusals import Refused
from gateway.cli.session import Session, with_session
from gateway.db.revisions import needed_revision
from gateway.maintenance import restore as restoring
from gateway.maintenance.archive import ArchiveUnusable, BackupManifest, read_manifest
from gateway.maintenance.restore import DataFolderBusy
from gateway.settings.tables import Settings
from gateway.settings.units import format_bytes

app = plain_app()


@app.command()
@with_session
def restore(
    session: Session,
    file: Annotated[InputFile, typer.Argument(parser=patient_file, metavar="FILE", help="A file that `backup` wrote.")],
) -> None:
    """Replace database and keys by a backup's, and add its blobs, while no server runs; what was there is kept."""
    settings = session.settings
    with _opened(file) as content:
        try:
            manifest = read_manifest(content)
            _check_engine(file, manifest, settings)
            aside = restoring.restore(content, manifest, settings.data, datetime.now(UTC))
        except ArchiveUnusable as error:
            raise Refused(f"{file} is of no use, since {error}; nothing was changed: use another backup") from error
        except DataFolderBusy as error:
            raise Refused(f"{error}: stop it, or give --data another folder") from error
        except OSError as error:
            raise Refused(_failure(error, settings.data)) from error
    document = {
        "bytes": manifest.bytes,
        "files": manifest.files,
        "created_at": manifest.created_at,
        "kept": str(aside.absolute()) if aside else None,
    }
    session.print(document, lambda: _print(settings.data, manifest, aside))


@contextmanager
def _opened(file: InputFile) -> Iterator[BinaryIO]:
    try:
        content = file.open()
    except OSError as error:
        raise Refused(f"{file} cannot be read ({error.strerror}): name a file that `backup` wrote") from error
    with content:
        if not S_ISREG(os.fstat(content.fileno()).st_mode):
            raise Refused(f"{file} is no regular file: name a file that `backup` wrote")
        yield content


def _check_engine(file: InputFile, manifest: BackupManifest, settings: Settings) -> None:
    if manifest.holds_database and settings.database.url:
        raise Refused(f"{file} holds an SQLite database, and database.url names another: remove that setting")
    if not manifest.holds_database and not settings.database.url:
        raise Refused(f"{file} holds no database, since that was in PostgreSQL: set database.url, and use pg_restore")


def _failure(error: OSError, data: Path) -> str:
    reason = f"data folder {data.absolute()} cannot be restored ({error.strerror})"
    if (data / restoring.PENDING).is_dir():
        return f"{reason} to its end: look at its owner and its disk, then run any command on it, which completes it"
    return f"{reason}, and nothing was changed: look at its owner and its disk"


def _print(data: Path, manifest: BackupManifest, aside: Path | None) -> None:
    made = f"the backup of {manifest.created_at}"
    print(f"restored {manifest.files} files, {format_bytes(manifest.bytes)}, to {data} from {made}")
    if manifest.holds_database and manifest.revision != needed_revision():
        print(f"its database had revision {manifest.revision}, and was upgraded to {needed_revision()}")
    if aside is not None:
        print(f"what was there before is in {aside}: delete it when nothing of it is missing")
    if not manifest.holds_database:
        print("the database was not in it: restore the file of pg_dump by pg_restore --clean")
