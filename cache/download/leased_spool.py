"""Claim: what a fill holds in the folder of spools, which it shares with the other processes of the host.

<source and digest>.part         the spool, which grows and is never rewritten; starting over makes a new file
<source and digest>.part.note    its sidecar
leases                           the locks; never deleted

The names are touched by whoever holds the lease, and by nobody else.
"""

import contextlib
import hashlib
import os
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cache.download.errors import told
from cache.lease.base import Lease, Leases
from cache.lease.local import LocalLeases
from cache.oci.digest import Digest
from cache.runtime.failpoints import failpoint
from cache.store.base import BlobStore
from cache.store.quarantine import Quarantine
from cache.store.sidecar import Note, Sidecar, Stage, boot, read
from cache.store.spool import PART, MakeRoom, Spool, marked, no_room
from cache.upstream.errors import Unavailable, UpstreamError
from cache.values import Source

LEASES = "leases"
NOTE = ".note"


def leases_of(folder: Path) -> Leases:
    return LocalLeases(folder / LEASES)


def spool_name(source: Source, digest: Digest) -> str:
    """Also the name of the lease."""
    return f"{digest.algorithm}-{digest.hex}.{hashlib.sha256(str(source).encode()).hexdigest()[:16]}"


def part_of(folder: Path, name: str) -> Path:
    return folder / f"{name}{PART}"


def note_of(folder: Path, name: str) -> Path:
    return folder / f"{name}{PART}{NOTE}"


class Claim:
    """One fill's lease, with the spool and the sidecar that come with it. For the thread that fills; `leave` and
    `release` for any."""

    def __init__(self, folder: Path, name: str, leases: Leases, lease: Lease) -> None:
        self._part, self._note = part_of(folder, name), note_of(folder, name)
        self._name = name
        self._leases, self._lease = leases, lease
        self._lock = threading.Lock()
        self._sidecar: Sidecar | None = None
        self._opening = self._leaving = self._left = False
        failpoint("lease.taken")

    def open(self, note: Note, digest: Digest, make_room: MakeRoom, *, anew: bool) -> tuple[Spool, Note]:
        """What an earlier process left of it, or a new spool. The note is the earlier one's if the spool is.

        Raises OSError, or Unavailable after the claim was left.
        """
        with self._lock:
            if self._left or self._leaving:
                raise Unavailable("every client has left")
            self._close_sidecar()
            self._opening = True
        try:
            spool, sidecar = (not anew and self._resume(note.source, digest, make_room)) or self._begin(
                note, digest, make_room
            )
        except BaseException:
            with self._lock:
                self._opening = False
            raise
        with self._lock:
            self._opening, self._sidecar = False, sidecar
            return spool, sidecar.note

    def _begin(self, note: Note, digest: Digest, make_room: MakeRoom) -> tuple[Spool, Sidecar]:
        self._note.unlink(missing_ok=True)  # first: no note ever stands beside a later spool
        spool = Spool.begin(self._part, digest, make_room)
        try:
            return spool, Sidecar.create(self._note, replace(note, inode=spool.inode))
        except OSError:
            with spool:
                raise

    def _resume(self, source: str, digest: Digest, make_room: MakeRoom) -> tuple[Spool, Sidecar] | None:
        """Only of this run of the machine: what was in memory when it stopped is not on the disk."""
        view = read(self._note)
        if view is None or view.note is None or (view.note.source, view.note.boot) != (source, boot()):
            return None
        if view.note.stage not in (Stage.STREAMING, Stage.LEAVING):
            return None
        with contextlib.suppress(OSError):
            left = os.lstat(self._part)
            count = left.st_size if marked(left) else view.count
            if not count and not marked(left):
                return None
            spool = Spool.resume(self._part, digest, count, view.note.inode, make_room)
            if spool is not None:
                size = spool.size if marked(left) else view.note.size
                note = replace(view.note, stage=Stage.STREAMING, size=size)
                sidecar = Sidecar.reopen(self._note, note, view.edition)
                sidecar.write(note)
                failpoint("lease.resumed")
                return spool, sidecar
        return None

    def count(self, count: int) -> None:
        """For those who read elsewhere; that they cannot be told is not worth the fill.

        From the threads of the fill alone, which close what is used here: it is done for every few KiB that come.
        """
        sidecar = self._sidecar
        if sidecar is not None:
            try:
                sidecar.count(count)
            except OSError:
                return

    def stream(self, image: str, size: int | None) -> None:
        """The upstream has answered. Raises OSError, or Unavailable after the claim was left."""
        with self._lock:
            if self._left or self._leaving:
                raise Unavailable("every client has left")
            if self._sidecar is not None:
                self._change(stage=Stage.STREAMING, image=image, size=size)

    def fail(self, error: UpstreamError) -> None:
        """Those who follow elsewhere meet the same, where it concerns them."""
        failure = told(error)
        with self._lock, contextlib.suppress(OSError):
            if failure is not None and not self._left and self._sidecar is not None:
                self._change(stage=Stage.FAILED, failure=failure)

    def leave(self, *, idle: bool) -> None:
        """No new reader is to follow. `idle`: nobody reads or writes yet, so that the claim ends here and now."""
        with self._lock, contextlib.suppress(OSError):
            if self._left:
                return
            if self._sidecar is not None:
                self._change(stage=Stage.LEAVING)
            if idle and self._opening:
                self._leaving = True
            elif idle:
                self._left = True
                if not self.attended:
                    self._part.unlink(missing_ok=True)
                    self._note.unlink(missing_ok=True)
                self._close_sidecar()
                self._lease.release()

    @property
    def attended(self) -> bool:
        """Whether another process waits for what this one does."""
        try:
            return self._leases.has_waiters(self._name)
        except OSError:
            return False

    @property
    def left(self) -> bool:
        return self._left

    def end(self, *, keep: bool) -> None:
        """The spool is closed. `keep`: others go on with what is there."""
        with self._lock:
            if not self._left and not keep and self._sidecar is not None:
                self._note.unlink(missing_ok=True)
            self._close_sidecar()

    def release(self) -> None:
        """Nothing more is done under this claim, and what was done is recorded."""
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


@dataclass(frozen=True, slots=True)
class Landing:
    """Where downloads grow, come to rest, and go when they are not what they should be.

    `make_room` is told the bytes that a full disk lacks, and tells how many it freed; it blocks.
    """

    spools: Path
    store: BlobStore
    quarantine: Quarantine
    make_room: MakeRoom = no_room

    @property
    def leases(self) -> Leases:
        return leases_of(self.spools)
