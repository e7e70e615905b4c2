"""CommandLines: the thread that logs what commands did, so that a server's log has it beside what requests did."""

from pathlib import Path

import structlog

from cache.retention.role_thread import RoleThread
from cache.runtime.locks import ProcessRole
from cache.sqlite import DatabaseUnusable
from gateway.audit.deletion import log_deletion
from gateway.audit.event import AuditEvent, EventKind, Surface
from gateway.audit.file import read_later

log = structlog.get_logger()

LOOK_SECONDS = 2.0
FAILED_SECONDS = 60.0
"""How long it waits after a failure: whoever writes the audit log says what is wrong with it."""


class CommandLines(RoleThread):
    """Logs each event of a command once, in one process of the host; what was done while no server ran is in the audit
    log alone."""

    def __init__(self, path: Path, role: ProcessRole) -> None:
        """`path`: the file of the audit log."""
        super().__init__("command_lines", role, LOOK_SECONDS)
        self._path = path
        self._last: int | None = None
        self._seen: object = None

    def step(self) -> float:
        """Log what commands did since the last step; return the seconds until the next one."""
        seen = _stamp(self._path)
        if seen == self._seen and self._last is not None:
            return LOOK_SECONDS
        try:
            self._last, events = read_later(self._path, Surface.COMMAND, self._last)
        except DatabaseUnusable:
            return FAILED_SECONDS
        self._seen = seen
        for event in events:
            _log(event)
        return LOOK_SECONDS


def _stamp(path: Path) -> object:
    """What differs once something was written to a database file."""
    stamps = []
    for file in (path, path.with_name(f"{path.name}-wal")):
        try:
            stat = file.stat()
            stamps.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
        except OSError:
            stamps.append((0, 0, 0))
    return stamps


def _log(event: AuditEvent) -> None:
    who = {"who": event.who, "surface": event.surface.value}
    match event.event:
        case EventKind.DELETE if event.subject.is_content:
            log_deletion(event)
        case EventKind.RESTORE:
            log.info("restored", repository=event.path, tag=event.tag, digest=event.digest, **who)
        case EventKind.MOVE:
            log.info("moved", kind=event.subject.value, old=event.former, new=event.path, **who)
        case EventKind.PIN:
            log.info("pinned", kind=event.subject.value, path=event.path, as_of=event.outcome, **who)
        case EventKind.CREATE | EventKind.UPDATE | EventKind.DELETE:
            done, kind = event.event.value, event.subject.value
            log.info("changed", change=done, kind=kind, path=event.path, target=event.target, **who)
