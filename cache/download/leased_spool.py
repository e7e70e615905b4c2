"""LeasedSpool: the lease of one download with its spool and sidecar, in a folder that the host's processes share."""

import contextlib
import hashlib
import os
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cache.download.errors import abandoned, failure_document
from cache.lease.base import Lease, Leases
from cache.lease.local import LocalLeases
from cache.oci.digest import Digest
from cache.runtime.failpoints import failpoint
from cache.store.base import BlobStore
from cache.store.quarantine import Quarantine
from cache.store.sidecar import FillState, Note, Sidecar, boot_id, read
from cache.store.spool import PART, CanKeep, MakeRoom, Spool, any_size, marked, no_room, with_room
from cache.upstream.errors import UpstreamError
from cache.values import Source

LEASES = "leases"
NOTE = ".note"


def leases_of(folder: Path) -> Leases:
    """Leases of a spool folder."""
    return LocalLeases(folder / LEASES)


def spool_name(source: Source, digest: Digest) -> str:
    """Name of a download's spool in the folder, and of its lease."""
    return f"{digest.algorithm}-{digest.hex}.{hashlib.sha256(str(source).encode()).hexdigest()[:16]}"


def part_of(folder: Path, name: str) -> Path:
    return folder / f"{name}{PART}"


def note_of(folder: Path, name: str) -> Path:
    return folder / f"{name}{PART}{NOTE}"


@dataclass(frozen=True, slots=True)
class DownloadStorage:
    """Folder where downloads grow, the store that takes them, and the quarantine for wrong ones.

    `make_room` frees disk space; see MakeRoom. `can_keep` knows what is too large; see CanKeep. `boot`: this run of the
    machine.
    """

    spools: Path
    store: BlobStore
    quarantine: Quarantine
    make_room: MakeRoom = no_room
    can_keep: CanKeep = any_size
    boot: str = ""

    def __post_init__(self) -> None:
        if not self.boot:
            object.__setattr__(self, "boot", boot_id())

    @property
    def leases(self) -> Leases:
        return leases_of(self.spools)


class LeasedSpool:
    """Lease of one download, with the spool and the sidecar that it protects.

    The thread that fills calls its methods; any thread calls `leave`, `release` and the properties.
    """

    def __init__(self, storage: DownloadStorage, name: str, lease: Lease) -> None:
        self._part, self._note = part_of(storage.spools, name), note_of(storage.spools, name)
        self._name, self._boot, self._make_room = name, storage.boot, storage.make_room
        self._leases, self._lease = storage.leases, lease
        self._lock = threading.Lock()
        self._sidecar: Sidecar | None = None
        self._opening = self._left_while_opening = self._released_early = False
        failpoint("lease.taken")

    def open(self, source: str, image: str, algorithm: str, *, from_start: bool) -> tuple[Spool, Note]:
        """Resume the spool that an earlier process left, or begin a new one; its note, an earlier one where resumed.

        `from_start`: always begin a new one. Raises OSError, or Unavailable after `leave`.
        """
        with self._lock:
            if self._released_early or self._left_while_opening:
                raise abandoned()
            self._close_sidecar()
            self._opening = True
        try:
            resumed = None if from_start else self._resume(source, algorithm)
            spool, sidecar = resumed or self._begin(Note(source, image, 0, self._boot), algorithm)
        except BaseException:
            with self._lock:
                self._opening = False
            raise
        with self._lock:
            self._opening, self._sidecar = False, sidecar
            return spool, sidecar.note

    def _begin(self, note: Note, algorithm: str) -> tuple[Spool, Sidecar]:
        self._note.unlink(missing_ok=True)  # first: no note ever stands beside a later spool
        spool = Spool.begin(self._part, algorithm, self._make_room)
        try:
            own = replace(note, inode=spool.inode)
            return spool, with_room(lambda: Sidecar.create(self._note, own), self._make_room)
        except OSError:
            with spool:
                raise

    def _resume(self, source: str, algorithm: str) -> tuple[Spool, Sidecar] | None:
        """Resume a spool of this run of the machine alone: after a stop, bytes that were in memory are not on disk."""
        view = read(self._note)
        if view is None or view.note is None or (view.note.source, view.note.boot) != (source, self._boot):
            return None
        if view.note.state not in (FillState.STREAMING, FillState.LEAVING):
            return None
        with contextlib.suppress(OSError):
            left = os.lstat(self._part)
            count = left.st_size if marked(left) else view.count
            if not count and not marked(left):
                return None
            spool = Spool.resume(self._part, algorithm, count, view.note.inode, self._make_room)
            if spool is not None:
                size = spool.size if marked(left) else view.note.size
                note = replace(view.note, state=FillState.STREAMING, size=size)
                sidecar = Sidecar.reopen(self._note, note, view.edition)
                sidecar.write(note)
                failpoint("lease.resumed")
                return spool, sidecar
        return None

    def count(self, count: int) -> None:
        """Report readable bytes to waiting workers. Raises nothing: a lost report is not worth the fill.

        Only the threads of the fill call it, which also close the sidecar, so it takes no lock: it runs for every few
        KiB that arrive.
        """
        sidecar = self._sidecar
        if sidecar is not None:
            try:
                sidecar.count(count)
            except OSError:
                return

    def report_streaming(self, image: str, size: int | None) -> None:
        """Report that the upstream responded to `image`. Raises OSError, or Unavailable after `leave`."""
        with self._lock:
            if self._released_early or self._left_while_opening:
                raise abandoned()
            if self._sidecar is not None:
                self._change(state=FillState.STREAMING, image=image, size=size)

    def fail(self, error: UpstreamError) -> None:
        """Report a failure to waiting workers, where it concerns them."""
        failure = failure_document(error)
        with self._lock, contextlib.suppress(OSError):
            if failure is not None and not self._released_early and self._sidecar is not None:
                self._change(state=FillState.FAILED, failure=failure)

    def leave(self, *, idle: bool) -> None:
        """Let no further worker follow. `idle`: no readers and no writer exist yet, so the lease is released now."""
        with self._lock, contextlib.suppress(OSError):
            if self._released_early:
                return
            if self._sidecar is not None:
                self._change(state=FillState.LEAVING)
            if idle and self._opening:
                self._left_while_opening = True
            elif idle:
                self._released_early = True
                if not self.has_waiters:
                    self._part.unlink(missing_ok=True)
                    self._note.unlink(missing_ok=True)
                self._close_sidecar()
                self._lease.release()

    @property
    def has_waiters(self) -> bool:
        """Whether another process waits for the result of this download."""
        try:
            return self._leases.has_waiters(self._name)
        except OSError:
            return False

    @property
    def released_early(self) -> bool:
        """Whether the lease was released by `leave`: the names in the folder may be another process's now."""
        return self._released_early

    def end(self, *, keep: bool) -> None:
        """Delete the note after the spool was closed. `keep`: others resume the spool, and need it."""
        with self._lock:
            if not self._released_early and not keep and self._sidecar is not None:
                self._note.unlink(missing_ok=True)
            self._close_sidecar()

    def release(self) -> None:
        """Release the lease: nothing more is done under it, and its result is recorded."""
        with self._lock:
            self._close_sidecar()
            self._lease.release()

    def _change(self, **changes: Any) -> None:
        assert self._sidecar is not None
        self._sidecar.write(replace(self._sidecar.note, **changes))

    def _close_sidecar(self) -> None:
        sidecar, self._sidecar = self._sidecar, None
        if sidecar is not None:
            sidecar.close()
