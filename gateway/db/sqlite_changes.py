"""Changes of gateway.db as an SQLite file: `PRAGMA data_version` tells of commits, and then the log is read."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.dialects import sqlite

from cache.sqlite import DatabaseUnusable, Watcher
from gateway.db.changes import STALE_SECONDS, ChangeSignal, News, last_number, news_after

_NEWS = str(news_after(0).compile(dialect=sqlite.dialect()))
"""`news_after` a number, for which it has its only placeholder."""
_LAST_NUMBER = str(last_number().compile(dialect=sqlite.dialect()))


class SqliteSignal(ChangeSignal):
    """Reads the log when a lookup finds that a commit has happened, so a lookup is as new as the last look.

    Every write is followed by such a read, so its statement is compiled once: by SQLAlchemy it took as long as the
    rest of a small transaction.
    """

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._version = watcher.version()
        self._reached_at = watcher.looked_at
        self._failure = ""
        [(last,)] = watcher.fetch(_LAST_NUMBER)
        super().__init__(last or 0)

    @classmethod
    @contextmanager
    def open(cls, path: Path, look_every: float) -> Iterator["SqliteSignal"]:
        """Open a database that has been migrated. `look_every`: seconds for which no further commit is looked for.

        Raises DatabaseUnusable.
        """
        watcher = Watcher(path, look_every)
        try:
            yield cls(watcher)
        finally:
            watcher.close()

    def catch_up(self) -> None:
        if self._failure or self._watcher.is_due:
            self._take_news(self._watcher.version)

    def _take_news(self, look: Callable[[], int]) -> None:
        """Read the log if the number of commits that `look` returns is another than before."""
        try:
            version = look()
            if version != self._version:
                self._take([News(*row) for row in self._watcher.fetch(_NEWS, self._seen)])
                self._version = version
        except DatabaseUnusable as error:
            self._failure = str(error)
        else:
            self._failure, self._reached_at = "", self._watcher.looked_at

    async def refresh(self) -> None:
        self._take_news(self._watcher.look)

    async def require_newest(self) -> None:
        await self.refresh()
        if self._failure:
            raise DatabaseUnusable(self._failure)

    async def require_current(self) -> None:
        self.catch_up()
        if self._failure and time.monotonic() - self._reached_at > STALE_SECONDS:
            raise DatabaseUnusable(self._failure)
