"""Sidecar: the file beside a spool by which its filler reports to the other processes of the host.

It begins with 16 bytes that hold the count of readable bytes, which the filler rewrites as the spool grows. An edition
number follows, which grows with every change of the note; then the note, a JSON document. A reader recognises a write
that is under way: the count stands beside its complement, the note behind its checksum.
"""

import json
import os
import struct
import zlib
from dataclasses import dataclass, fields
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Self

from cache.runtime import files
from cache.runtime.failpoints import failpoint

_COUNT = struct.Struct("=qq")
_EDITION = struct.Struct("=q")
_HEAD = struct.Struct("=II")
_DOCUMENT_AT = 64
_LONGEST = 16 * 1024
_STATE_KEY = "stage"


class FillState(Enum):
    """State of the fill that a spool belongs to, as its filler reports it.

    The values stand in files: a version that writes others cannot continue the downloads of this one.
    """

    WAITING = "asking"
    """The upstream has not responded yet."""
    STREAMING = "streaming"
    """Bytes arrive, and the spool may be read."""
    LEAVING = "leaving"
    """The filler stops early. Waiting workers may take over at this point; no further worker follows it."""
    FAILED = "failed"
    """The fill failed in a way that concerns waiting workers too."""


@dataclass(frozen=True, slots=True)
class Note:
    """Report about the spool whose file is `inode`. `image`: the image whose right the upstream's response proved.

    `boot`: the run of the machine in which it was written. `size`: bytes of the whole blob, None while unknown.
    """

    source: str
    image: str
    inode: int
    boot: str
    state: FillState = FillState.WAITING
    size: int | None = None
    failure: dict[str, Any] | None = None
    """The failure of FillState.FAILED, as a document of the filler's making."""


_KEPT_AS_THEY_ARE = [field.name for field in fields(Note) if field.name != "state"]


class Sidecar:
    """The filler's end of a sidecar. Its methods block for no longer than a small write; they raise OSError."""

    def __init__(self, path: Path, descriptor: int, note: Note, edition: int) -> None:
        self.path = path
        self.note = note
        self._descriptor = descriptor
        self._edition = edition

    @classmethod
    def create(cls, path: Path, note: Note) -> Self:
        """Create a new file in place of any older one, whose readers keep it."""
        path.unlink(missing_ok=True)
        failpoint("sidecar.create")
        sidecar = cls(path, files.create(path), note, 0)
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
        """Open the file of an earlier process, whose readers see what is written from now on."""
        return cls(path, os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC), note, edition)

    def count(self, count: int) -> None:
        """Report the bytes of the spool that are hashed and may be read."""
        os.pwrite(self._descriptor, _COUNT.pack(count, ~count), 0)

    def write(self, note: Note) -> None:
        values = {name: getattr(note, name) for name in _KEPT_AS_THEY_ARE}
        document = json.dumps(values | {_STATE_KEY: note.state.value}).encode()
        os.pwrite(self._descriptor, _HEAD.pack(len(document), zlib.crc32(document)) + document, _DOCUMENT_AT)
        self._edition += 1
        os.pwrite(self._descriptor, _EDITION.pack(self._edition), _COUNT.size)
        self.note = note
        failpoint("sidecar.written")

    def close(self) -> None:
        os.close(self._descriptor)


class SidecarView:
    """A reader's end of a sidecar, which stays readable after the file was deleted. Its methods raise OSError."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.edition = 0
        self.count = 0
        self.note: Note | None = None
        """The last note that was written completely; None before the first."""

    @property
    def linked(self) -> bool:
        """Whether the file still has its name."""
        return os.fstat(self._descriptor).st_nlink > 0

    def look(self) -> None:
        """Read count and note again; a value that is being written keeps its last state."""
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
    """Read a sidecar once and close it; None where there is no sidecar with a valid note."""
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
def boot_id() -> str:
    """Identity of this run of the machine: bytes in memory alone did not survive from an earlier one."""
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
        values = json.loads(document)
        state = FillState(values.pop(_STATE_KEY))
        return Note(**values, state=state)
    except (ValueError, TypeError, KeyError):
        return None
