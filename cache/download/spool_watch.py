"""Watch: how a fill of another process is doing, as its spool and sidecar show."""

import os
from dataclasses import dataclass
from pathlib import Path

from cache.download.leased_spool import note_of, part_of
from cache.store.sidecar import Note, SidecarView, boot
from cache.store.spool import marked


@dataclass(frozen=True, slots=True)
class Sight:
    """`descriptor` is the watch's. `count`: bytes that may be read. `gone`: nobody can open that spool any more."""

    descriptor: int
    inode: int
    note: Note
    count: int
    marked: bool
    gone: bool


class Watch:
    """For one thread."""

    def __init__(self, folder: Path, name: str) -> None:
        self._part, self._note = part_of(folder, name), note_of(folder, name)
        self._view: SidecarView | None = None
        self._spool: int | None = None

    def look(self) -> Sight | None:
        """None while there is nothing to be seen. Once its spool is gone, `close` makes it look for the next one."""
        try:
            if self._view is None or self._spool is None:
                self._open()
            return self._sight()
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
        if not self._view.linked:  # a note goes before its spool does: this spool may be the next one
            self.close()
            raise FileNotFoundError(self._note)

    def _sight(self) -> Sight | None:
        view, spool = self._view, self._spool
        assert view is not None and spool is not None
        status = os.fstat(spool)
        view.look()  # after the spool was: what became of it is written before it goes
        if view.note is None or view.note.boot != boot() or view.note.inode != status.st_ino:
            self.close()
            return None
        done = marked(status)
        return Sight(
            spool, status.st_ino, view.note, status.st_size if done else view.count, done, status.st_nlink == 0
        )
