"""Changes of gateway.db as an SQLite file: `PRAGMA data_version` tells of commits, and then the log is read."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import QueuePool

from cache.sqlite import DatabaseUnusable, Watcher, listen, reading, url
from gateway.db.changes import STALE_SECONDS, ChangeSignal, last_number, news_after


class SqliteSignal(ChangeSignal):
    """Reads the log when a lookup finds that a commit has happened, so a lookup is as new as the last look."""

    def __init__(self, path: Path, engine: Engine, watcher: Watcher) -> None:
        self._path = path
        self._engine = engine
        self._watcher = watcher
        self._version = watcher.version()
        self._reached_at = watcher.looked_at
        self._failure = ""
        with reading(engine, path) as connection:
            super().__init__(connection.scalar(last_number()) or 0)

    @classmethod
    @contextmanager
    def open(cls, path: Path, look_every: float) -> Iterator["SqliteSignal"]:
        """Open a database that has been migrated. `look_every`: seconds for which no further commit is looked for.

        Raises DatabaseUnusable.
        """
        watcher = Watcher(path, look_every)
        engine = create_engine(url("sqlite", path), poolclass=QueuePool, hide_parameters=True)
        listen(engine)
        try:
            yield cls(path, engine, watcher)
        finally:
            watcher.close()
            engine.dispose()

    def catch_up(self) -> None:
        self._take_news(self._watcher.version)

    def _take_news(self, look: Callable[[], int]) -> None:
        """Read the log if the number of commits that `look` returns is another than before."""
        try:
            version = look()
            if version != self._version:
                with reading(self._engine, self._path) as connection:
                    news = connection.execute(news_after(self._seen)).all()
                self._take(news)
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
