"""Sidecar: what the processes of a host tell each other of a spool: how far it may be read, whose it is, how it ended.

16 bytes with the count, which the filler rewrites as the spool grows, then a number that grows with every change of
the rest, then a document. A write that is read in the midst shows by the complement and by the checksum.
"""

import json
import os
import struct
import zlib
from dataclasses import asdict, dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Self

from cache.runtime.failpoints import failpoint

_COUNT = struct.Struct("=qq")
_EDITION = struct.Struct("=q")
_HEAD = struct.Struct("=II")
_DOCUMENT_AT = 64
_LONGEST = 16 * 1024


class Stage(Enum):
    """What the filler of a spool is about."""

    ASKING = "asking"
    STREAMING = "streaming"
    LEAVING = "leaving"
    """It gives up; who follows already may go on where it stops."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Note:
    """`inode` is the spool's that it speaks of. `image` is that whose right the answer of the upstream has proved."""

    source: str
    image: str
    inode: int
    boot: str
    stage: Stage = Stage.ASKING
    size: int | None = None
    failure: dict[str, Any] | None = None
    """For Stage.FAILED, in the words of whoever wrote it."""


class Sidecar:
    """The filler's hand on it. Its methods block for no longer than a small write; they raise OSError."""

    def __init__(self, path: Path, descriptor: int, note: Note, edition: int) -> None:
        self.path = path
        self.note = note
        self._descriptor = descriptor
        self._edition = edition

    @classmethod
    def create(cls, path: Path, note: Note) -> Self:
        """A new file in the place of any older one, which its readers keep."""
        path.unlink(missing_ok=True)
        failpoint("sidecar.create")
        sidecar = cls(path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), note, 0)
        try:
            sidecar.count(0)
            sidecar.write(note)
        except OSError:
            sidecar.close()
            path.unlink(missing_ok=True)
            raise
        return sidecar

    @classmethod
    def reopen(cls, path: Path, note: Note, edition: int) -> Self:
        """That of an earlier process, whose readers hear of what happens from now on."""
        return cls(path, os.open(path, os.O_WRONLY | os.O_CLOEXEC), note, edition)

    def count(self, count: int) -> None:
        """So many bytes of the spool are hashed and may be read."""
        os.pwrite(self._descriptor, _COUNT.pack(count, ~count), 0)

    def write(self, note: Note) -> None:
        document = json.dumps(asdict(note) | {"stage": note.stage.value}).encode()
        os.pwrite(self._descriptor, _HEAD.pack(len(document), zlib.crc32(document)) + document, _DOCUMENT_AT)
        self._edition += 1
        os.pwrite(self._descriptor, _EDITION.pack(self._edition), _COUNT.size)
        self.note = note
        failpoint("sidecar.written")

    def close(self) -> None:
        os.close(self._descriptor)


class SidecarView:
    """A reader's hand on it; what it holds stays readable after the file was deleted. Its methods raise OSError."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.edition = 0
        self.count = 0
        self.note: Note | None = None
        """The last one that was written whole; None before the first."""

    @property
    def linked(self) -> bool:
        """Whether the file still has its name."""
        return os.fstat(self._descriptor).st_nlink > 0

    def look(self) -> None:
        """What is read in the midst of a write is left for the next time."""
        raw = os.pread(self._descriptor, _COUNT.size + _EDITION.size, 0)
        if len(raw) < _COUNT.size + _EDITION.size:
            return
        count, complement = _COUNT.unpack_from(raw)
        if count == ~complement:
            self.count = count
        (edition,) = _EDITION.unpack_from(raw, _COUNT.size)
        if edition != self.edition and (note := _parsed(os.pread(self._descriptor, _LONGEST, _DOCUMENT_AT))):
            self.note, self.edition = note, edition

    def close(self) -> None:
        os.close(self._descriptor)


def read(path: Path) -> SidecarView | None:
    """Looked at once, and closed; None where there is none, or none that can be understood."""
    try:
        view = SidecarView(path)
    except OSError:
        return None
    try:
        view.look()
    except OSError:
        return None
    finally:
        view.close()
    return view if view.note is not None else None


@cache
def boot() -> str:
    """Which run of the machine this is: what lay in memory alone did not outlive another one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"process {os.getpid()}"


def _parsed(raw: bytes) -> Note | None:
    if len(raw) < _HEAD.size:
        return None
    length, checksum = _HEAD.unpack_from(raw)
    document = raw[_HEAD.size : _HEAD.size + length]
    if len(document) != length or zlib.crc32(document) != checksum:
        return None
    try:
        fields = json.loads(document)
        return Note(**fields | {"stage": Stage(fields["stage"])})
    except (ValueError, TypeError, KeyError):
        return None
