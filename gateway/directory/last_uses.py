"""LastUses: when credentials were last used, kept in memory until they are written down together."""

from datetime import datetime

from cachetools import LRUCache

from gateway.db import credentials
from gateway.db.credentials import USE_RESOLUTION
from gateway.db.engine import Database
from gateway.namespaces.credentials import CredentialRef

KEPT = 10_000
"""Credentials whose last use is remembered, and uses that wait for an unusable database at most."""


class LastUses:
    """Last uses of credentials as one process sees them; for one event loop.

    A request costs no write: whoever owns this flushes it every few seconds. Of each credential one use a minute is
    written down, so a time in a list is up to a minute older than the last use.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._noted: LRUCache[CredentialRef, datetime] = LRUCache(KEPT)
        self._unwritten: dict[CredentialRef, datetime] = {}

    def note(self, ref: CredentialRef, now: datetime) -> None:
        """Note that a credential was used now; of a minute, the first use counts."""
        noted = self._noted.get(ref)
        if noted is not None and abs(now - noted) < USE_RESOLUTION:
            return
        if len(self._unwritten) < KEPT:
            self._noted[ref] = self._unwritten[ref] = now

    async def flush(self) -> None:
        """Write down what was noted; it is kept for the next time where that fails. Raises DatabaseUnusable."""
        if not self._unwritten:
            return
        uses, self._unwritten = self._unwritten, {}
        try:
            async with self._database.write() as connection:
                await credentials.note_uses(connection, uses)
        except BaseException:
            self._unwritten = {**uses, **self._unwritten}
            raise
