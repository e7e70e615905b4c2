"""Backup file: a tar whose first member lists the database and the keys, and says how many blobs follow them.

Whoever reads it knows the header of each listed member before it comes, and of the blobs that each is named by the
digest that its content has, in the order of these names. Every other header is refused: no name leads out of the
folder, no link and no device is made, and a file that was cut off or altered is found before anything is replaced.
"""

import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from cache.oci.digest import Digest, Hasher
from cache.runtime import files
from cache.runtime.disk import sync_folder
from cache.runtime.exhaustion import is_exhausted
from cache.store.paths import blob_digest, blob_path
from gateway.db.engine import DATABASE_FILE
from gateway.keys.sealing import KEYS_DIRECTORY

FORMAT = 2
READABLE_FORMATS = (1, FORMAT)
"""Formats that can be restored; the first one has no blobs."""

MANIFEST = "manifest.json"
MANIFEST_LIMIT = 1024 * 1024
"""Bytes of a manifest, which is read whole; one listed member takes about 120."""

BLOBS_DIRECTORY = "blobs"

_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)
_CHUNK = 1024 * 1024
_NAME_LIMIT = 256
"""Bytes of a name that does not fit into one block, as that of a blob by its sha512."""

_COUNT_ROOM = 3 * 20
"""Bytes by which the manifest may grow when the blobs have been counted."""

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
class BlobCounts:
    """Blobs of a backup. `archived`: bytes that they take in it. Raises ArchiveUnusable where these are no counts."""

    count: int = 0
    bytes: int = 0
    archived: int = 0

    def __post_init__(self) -> None:
        if any(type(number) is not int or number < 0 for number in (self.count, self.bytes, self.archived)):
            raise ArchiveUnusable("its manifest cannot be read: it is damaged")

    def plus(self, digest: Digest, size: int) -> "BlobCounts":
        """The counts with one more blob of `size` bytes."""
        return BlobCounts(self.count + 1, self.bytes + size, self.archived + _room(_blob_name(digest), size))


@dataclass(frozen=True, slots=True)
class BackupManifest:
    """Contents of a backup. `revision`: that of the database; None where the database lies elsewhere."""

    created_at: str
    revision: str | None
    members: tuple[BackupMember, ...]
    blobs: BlobCounts = BlobCounts()

    @property
    def bytes(self) -> int:
        return sum(member.bytes for member in self.members) + self.blobs.bytes

    @property
    def files(self) -> int:
        return len(self.members) + self.blobs.count

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


class ArchiveWriter:
    """Writes a backup to an empty file: first the listed members, then blobs one by one; `finish` completes it.

    All methods raise OSError where the file cannot be written.
    """

    def __init__(self, file: BinaryIO, manifest: BackupManifest, folder: Path) -> None:
        """Write the files of a folder, which nobody changes meanwhile. `manifest` lists them, and no blobs yet."""
        self._file = file
        self._manifest = manifest
        self._manifest_bytes = len(_manifest_text(manifest)) + _COUNT_ROOM
        file.write(bytes(_room(MANIFEST, self._manifest_bytes)))
        for member in manifest.members:
            with (folder / member.name).open("rb") as content:
                file.write(_header(member.name, member.bytes))
                while chunk := content.read(_CHUNK):
                    file.write(chunk)
                file.write(bytes(_padding(member.bytes)))

    def add_blob(self, path: Path, digest: Digest, size: int) -> bool:
        """Append a blob after those with smaller digests; False, and it is left out, where its file is damaged."""
        try:
            content = path.open("rb")
        except OSError as error:
            if is_exhausted(error):
                raise
            return False
        with content:
            if os.fstat(content.fileno()).st_size != size:
                return False
            begin = self._file.tell()
            self._file.write(_header(_blob_name(digest), size))
            if not self._copy(content, digest, size):
                self._file.seek(begin)
                self._file.truncate()
                return False
        self._file.write(bytes(_padding(size)))
        self._manifest = replace(self._manifest, blobs=self._manifest.blobs.plus(digest, size))
        return True

    def finish(self) -> BackupManifest:
        """Write the end, and the manifest with the blobs that were added, which is returned."""
        self._file.write(_END)
        self._file.seek(0)
        text = _manifest_text(self._manifest).ljust(self._manifest_bytes)
        self._file.write(_header(MANIFEST, len(text)) + text)
        return self._manifest

    def _copy(self, content: BinaryIO, digest: Digest, size: int) -> bool:
        """Copy a blob; whether all of it could be read and has its digest."""
        hasher = digest.hasher()
        while size and (chunk := _read_damaged(content, min(size, _CHUNK))):
            hasher.update(chunk)
            self._file.write(chunk)
            size -= len(chunk)
        return not size and hasher.hexdigest() == digest.hex


def read_manifest(file: BinaryIO) -> BackupManifest:
    """Read the manifest at the beginning of a backup, and check that the file has the size that it says.

    Raises ArchiveUnusable, OSError.
    """
    name, size = _read_header(file)
    if name != MANIFEST or size > MANIFEST_LIMIT:
        raise ArchiveUnusable("it is no backup of this program")
    manifest = _parse_manifest(_read(file, size))
    _read(file, _padding(size))
    expected = file.tell() + sum(_room(member.name, member.bytes) for member in manifest.members)
    expected += manifest.blobs.archived + len(_END)
    found = os.fstat(file.fileno()).st_size
    if found != expected:
        raise ArchiveUnusable(f"it has {found} bytes instead of {expected}: it is incomplete or damaged")
    return manifest


def extract(
    file: BinaryIO, manifest: BackupManifest, folder: Path, is_here: Callable[[Digest, int], bool] = lambda *_: False
) -> None:
    """Write what follows the manifest into an empty folder, verified and durable.

    `is_here`: whether a blob with this digest and size need not be written, since it is in place already. Raises
    ArchiveUnusable, OSError; what was written before is left.
    """
    (folder / KEYS_DIRECTORY).mkdir(mode=0o700)
    for member in manifest.members:
        if _read_header(file) != (member.name, member.bytes):
            raise ArchiveUnusable(f"{member.name} is not where the manifest says: it is damaged")
        _extract_file(file, member.name, member.bytes, folder / member.name, sha256(), member.sha256)
    _extract_blobs(file, manifest.blobs, folder / BLOBS_DIRECTORY, is_here)
    if file.read(len(_END) + 1) != _END:
        raise ArchiveUnusable("something else stands at its end: it is damaged")


def _extract_blobs(file: BinaryIO, counts: BlobCounts, folder: Path, is_here: Callable[[Digest, int], bool]) -> None:
    found, last, made = BlobCounts(), "", set[Path]()
    for _ in range(counts.count):
        name, size = _read_header(file)
        digest = _parse_blob_name(name)
        if digest is None or str(digest) <= last:
            raise ArchiveUnusable(f"{name[:200]!r} is not the name of a blob that comes next: it is damaged")
        last, found = str(digest), found.plus(digest, size)
        if is_here(digest, size):
            file.seek(size + _padding(size), os.SEEK_CUR)
            continue
        target = blob_path(folder, digest)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made.add(target.parent)
        _extract_file(file, name, size, target, digest.hasher(), digest.hex)
    if found != counts:
        raise ArchiveUnusable("it holds other blobs than its manifest counts: it is damaged")
    for parent in made:
        sync_folder(parent)


def _extract_file(file: BinaryIO, name: str, size: int, target: Path, hasher: Hasher, expected: str) -> None:
    """Write the content of a member and its padding. `expected`: its hash in hex. Raises ArchiveUnusable, OSError."""
    with open(files.create(target), "wb") as written:
        for chunk in _chunks(file, size):
            hasher.update(chunk)
            written.write(chunk)
        written.flush()
        os.fsync(written.fileno())
    if hasher.hexdigest() != expected:
        raise ArchiveUnusable(f"{name} does not have its digest: it is damaged")
    _read(file, _padding(size))


def _read_damaged(content: BinaryIO, size: int) -> bytes:
    """Read from a file on a disk that may be damaged; nothing where it cannot be read."""
    try:
        return content.read(size)
    except OSError:
        return b""


def _blob_name(digest: Digest) -> str:
    return f"{BLOBS_DIRECTORY}/{blob_path(Path(), digest)}"


def _parse_blob_name(name: str) -> Digest | None:
    """The digest in the name of a member; None where no blob has that name."""
    digest = blob_digest(Path(name))
    return digest if digest is not None and name == _blob_name(digest) else None


def _manifest_text(manifest: BackupManifest) -> bytes:
    return json.dumps({"format": FORMAT, **asdict(manifest)}, indent=1).encode()


def _parse_manifest(text: bytes) -> BackupManifest:
    try:
        document = json.loads(text)
        if document["format"] not in READABLE_FORMATS:
            raise ArchiveUnusable(f"it has format {str(document['format'])[:20]!r}, and this version knows {FORMAT}")
        members = tuple(BackupMember(**member) for member in document["members"])
        created_at, revision = document["created_at"], document["revision"]
        blobs = BlobCounts(**document.get("blobs", {}))
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ArchiveUnusable("its manifest cannot be read: it is damaged") from error
    if len({member.name for member in members}) < len(members):
        raise ArchiveUnusable("its manifest names a file twice: it is damaged")
    if not isinstance(created_at, str) or not isinstance(revision, str | None):
        raise ArchiveUnusable("its manifest cannot be read: it is damaged")
    return BackupManifest(created_at, revision, members, blobs)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info.tobuf(tarfile.GNU_FORMAT)


def _read_header(file: BinaryIO) -> tuple[str, int]:
    """Read the header of a regular file: name and size. Raises ArchiveUnusable for every other, OSError."""
    info = _read_block(file)
    if info.type != tarfile.GNUTYPE_LONGNAME:
        return _regular(info).name, info.size
    if info.size > _NAME_LIMIT:
        raise ArchiveUnusable("it has a name that is too long: it is no backup of this program")
    name = _read(file, info.size + _padding(info.size))[: info.size].rstrip(b"\0")
    return name.decode("ascii", "replace"), _regular(_read_block(file)).size


def _read_block(file: BinaryIO) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(_read(file, _BLOCK), "utf-8", "strict")
    except (tarfile.HeaderError, ValueError) as error:
        raise ArchiveUnusable("it is no backup of this program, or damaged") from error


def _regular(info: tarfile.TarInfo) -> tarfile.TarInfo:
    if info.type != tarfile.REGTYPE:
        raise ArchiveUnusable(f"{info.name[:200]!r} is no regular file: it is no backup of this program")
    return info


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


def _room(name: str, size: int) -> int:
    """Bytes that a member takes with its header."""
    return len(_header(name, size)) + size + _padding(size)


def _padding(size: int) -> int:
    return -size % _BLOCK
