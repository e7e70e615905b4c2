"""Backup file: a tar whose first member lists all others with their sizes and digests.

Whoever reads it therefore knows each header before it comes, and refuses every other: no name leads out of the folder,
no link and no device is made, and a file that was cut off or altered is found before anything is replaced.
"""

import json
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from cache.runtime import files
from gateway.db.engine import DATABASE_FILE
from gateway.keys.sealing import KEYS_DIRECTORY

FORMAT = 1
MANIFEST = "manifest.json"
MANIFEST_LIMIT = 1024 * 1024
"""Bytes of a manifest, which is read whole; one member takes about 120."""

_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)
_CHUNK = 1024 * 1024
_KEY_NAME = re.compile(rf"{KEYS_DIRECTORY}/[A-Za-z0-9][A-Za-z0-9._-]{{0,79}}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class ArchiveUnusable(Exception):
    """The file is no backup, is damaged, or cannot be used by this version; the text says which."""


@dataclass(frozen=True, slots=True)
class BackupMember:
    """One file of a backup. `name`: its path in the data folder. Raises ArchiveUnusable where it can be no member."""

    name: str
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        if not (self.name == DATABASE_FILE or _KEY_NAME.fullmatch(self.name)):
            raise ArchiveUnusable(f"{self.name[:200]!r} is not the name of a file that a backup holds")
        if type(self.bytes) is not int or self.bytes < 0 or _DIGEST.fullmatch(self.sha256) is None:
            raise ArchiveUnusable(f"size or digest of {self.name} is none")


@dataclass(frozen=True, slots=True)
class BackupManifest:
    """Contents of a backup. `revision`: that of the database; None where the database lies elsewhere."""

    created_at: str
    revision: str | None
    members: tuple[BackupMember, ...]

    @property
    def bytes(self) -> int:
        return sum(member.bytes for member in self.members)

    @property
    def holds_database(self) -> bool:
        return any(member.name == DATABASE_FILE for member in self.members)


def list_members(folder: Path, names: Sequence[str]) -> tuple[BackupMember, ...]:
    """List files of a folder as members. Raises ArchiveUnusable for a name that no backup holds, OSError."""
    members = []
    for name in names:
        with (folder / name).open("rb") as file:
            digest, size = sha256(), 0
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
        members.append(BackupMember(name, size, digest.hexdigest()))
    return tuple(members)


def write_archive(file: BinaryIO, manifest: BackupManifest, folder: Path) -> None:
    """Write a backup of the files in a folder, which nobody changes meanwhile. Raises OSError."""
    text = json.dumps({"format": FORMAT, **asdict(manifest)}, indent=1).encode()
    file.write(_header(MANIFEST, len(text)) + text + bytes(_padding(len(text))))
    for member in manifest.members:
        file.write(_header(member.name, member.bytes))
        with (folder / member.name).open("rb") as content:
            while chunk := content.read(_CHUNK):
                file.write(chunk)
        file.write(bytes(_padding(member.bytes)))
    file.write(_END)


def read_manifest(file: BinaryIO) -> BackupManifest:
    """Read the manifest at the beginning of a backup, and check that the file has the size that it says.

    Raises ArchiveUnusable, OSError.
    """
    name, size = _read_header(file)
    if name != MANIFEST or size > MANIFEST_LIMIT:
        raise ArchiveUnusable("it is no backup of this program")
    manifest = _parse_manifest(_read(file, size))
    _read(file, _padding(size))
    expected = file.tell() + sum(_BLOCK + member.bytes + _padding(member.bytes) for member in manifest.members)
    found = os.fstat(file.fileno()).st_size
    if found != expected + len(_END):
        raise ArchiveUnusable(f"it has {found} bytes instead of {expected + len(_END)}: it is incomplete or damaged")
    return manifest


def extract(file: BinaryIO, manifest: BackupManifest, folder: Path) -> None:
    """Write the members that follow the manifest into an empty folder, verified and durable.

    Raises ArchiveUnusable, OSError; what was written before is left.
    """
    (folder / KEYS_DIRECTORY).mkdir(mode=0o700)
    for member in manifest.members:
        if _read_header(file) != (member.name, member.bytes):
            raise ArchiveUnusable(f"{member.name} is not where the manifest says: it is damaged")
        digest = sha256()
        with open(files.create(folder / member.name), "wb") as target:
            for chunk in _chunks(file, member.bytes):
                digest.update(chunk)
                target.write(chunk)
            target.flush()
            os.fsync(target.fileno())
        if digest.hexdigest() != member.sha256:
            raise ArchiveUnusable(f"{member.name} does not have its digest: it is damaged")
        _read(file, _padding(member.bytes))
    if file.read(len(_END) + 1) != _END:
        raise ArchiveUnusable("something else stands at its end: it is damaged")


def _parse_manifest(text: bytes) -> BackupManifest:
    try:
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise ArchiveUnusable(f"it has format {str(document['format'])[:20]!r}, and this version knows {FORMAT}")
        members = tuple(BackupMember(**member) for member in document["members"])
        created_at, revision = document["created_at"], document["revision"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ArchiveUnusable("its manifest cannot be read: it is damaged") from error
    if len({member.name for member in members}) < len(members):
        raise ArchiveUnusable("its manifest names a file twice: it is damaged")
    if not isinstance(created_at, str) or not isinstance(revision, str | None):
        raise ArchiveUnusable("its manifest cannot be read: it is damaged")
    return BackupManifest(created_at, revision, members)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info.tobuf(tarfile.GNU_FORMAT)


def _read_header(file: BinaryIO) -> tuple[str, int]:
    """Read the header of a regular file: name and size. Raises ArchiveUnusable for every other, OSError."""
    try:
        info = tarfile.TarInfo.frombuf(_read(file, _BLOCK), "utf-8", "strict")
    except (tarfile.HeaderError, ValueError) as error:
        raise ArchiveUnusable("it is no backup of this program, or damaged") from error
    if info.type != tarfile.REGTYPE:
        raise ArchiveUnusable(f"{info.name[:200]!r} is no regular file: it is no backup of this program")
    return info.name, info.size


def _read(file: BinaryIO, size: int) -> bytes:
    content = file.read(size)
    if len(content) < size:
        raise ArchiveUnusable("it ends too early: it is incomplete")
    return content


def _chunks(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size:
        chunk = _read(file, min(size, _CHUNK))
        size -= len(chunk)
        yield chunk


def _padding(size: int) -> int:
    return -size % _BLOCK
