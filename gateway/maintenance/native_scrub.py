"""NativeScrub: the thread that reads native blobs again and again, and finds what has been damaged since."""

import secrets
import time
from collections.abc import Callable

from cache.retention.role_thread import RoleThread
from cache.retention.scrub import IDLE_SECONDS, RECHECK_SECONDS, ReadLimiter
from cache.runtime.locks import ProcessRole
from cache.values import Damage
from gateway.db.stored_blobs import RecordedBlob
from gateway.maintenance.native_inspector import NativeInspector
from gateway.maintenance.native_rows import NativeRows


class NativeScrub(RoleThread):
    """Checks all blobs in the order of their digests, in one process of the host at a time, at most once a day.

    It begins anywhere in that order: where servers are often started anew, every blob has its turn all the same.
    """

    def __init__(
        self,
        rows: NativeRows,
        inspector: NativeInspector,
        role: ProcessRole,
        rate: int,
        damaged: Callable[[Damage], None],
        start: str | None = None,
    ) -> None:
        """`rate`: bytes per second. `damaged` is called with each finding, in the thread. `start`: text of the digest
        after which it begins, a random one by default."""
        super().__init__("native_scrub", role, IDLE_SECONDS)
        self._rows = rows
        self._inspector = inspector
        self._limiter = ReadLimiter(rate, self.stopped)
        self._damaged = damaged
        self._start = f"sha256:{secrets.token_hex(4)}" if start is None else start
        self._due = 0.0

    def step(self) -> float:
        """Check every blob once, when that is due; return the seconds until the next look."""
        now = time.monotonic()
        if now < self._due:
            return IDLE_SECONDS
        for blob in self._rows.blobs(self._start):
            if not self._check(blob):
                return 0.0
        for blob in self._rows.blobs():
            if str(blob.digest) > self._start:
                break
            if not self._check(blob):
                return 0.0
        self._due = now + RECHECK_SECONDS
        return IDLE_SECONDS

    def _check(self, blob: RecordedBlob) -> bool:
        """Check one blob; whether to go on."""
        if self.stopped.is_set():
            return False
        finding = self._inspector.check(blob, self._limiter)
        if finding is not None:
            self._damaged(finding.damage)
        return True
