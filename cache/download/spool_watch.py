"""SpoolWatch: progress of a fill that another process runs, as its spool and sidecar show it."""

import os
from dataclasses import dataclass
from pathlib import Path

from cache.download.leased_spool import note_of, part_of
from cache.store.sidecar import Note, SidecarView, boot_id
from cache.store.spool import marked


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    """State of another process's spool. `descriptor` is closed by the watch. `count`: bytes that may be read.

    `marked`: its digest is verified, and it still has the bytes that its filler counted. `gone`: it was unlinked, so it
    cannot be opened any more.
    """

    descriptor: int
    inode: int
    note: Note
    count: int
    marked: bool
    gone: bool


class SpoolWatch:
    """Watch of one name in the spool folder, for one thread. `boot`: this run of the machine."""

    def __init__(self, folder: Path, name: str, boot: str | None = None) -> None:
        self._part, self._note = part_of(folder, name), note_of(folder, name)
        self._boot = boot or boot_id()
        self._view: SidecarView | None = None
        self._spool: int | None = None

    def look(self) -> SpoolStatus | None:
        """Read the status; None while there is no spool. After a spool is gone, call `close` to look for the next
        one."""
        try:
            if self._view is None or self._spool is None:
                self._open()
            return self._status()
        except OSError:
            self.close()
            return None

    def close(self) -> None:
        view, self._view = self._view, None
        spool, self._spool = self._spool, None
        if view is not None:
            view.close()
        if spool is not None:
            os.close(spool)

    def _open(self) -> None:
        self.close()
        self._view = SidecarView(self._note)
        self._spool = os.open(self._part, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        if not self._view.linked:  # a note is deleted before its spool: this spool may be the next one
            self.close()
            raise FileNotFoundError(self._note)

    def _status(self) -> SpoolStatus | None:
        view, spool = self._view, self._spool
        assert view is not None and spool is not None
        status = os.fstat(spool)
        view.look()  # after the spool: the outcome is written to the note before the spool loses its name
        if view.note is None or view.note.boot != self._boot or view.note.inode != status.st_ino:
            self.close()
            return None
        done = marked(status)
        whole = status.st_size == view.count
        return SpoolStatus(spool, status.st_ino, view.note, view.count, done and whole, status.st_nlink == 0)
