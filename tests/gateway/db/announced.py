"""What a test sees of the announcements that its changes of a database make."""

from gateway.db.changes import Concern
from gateway.db.engine import Database


class Announced:
    """Collects announcements from now on; `take` returns those since the last time, without repetitions."""

    def __init__(self, database: Database) -> None:
        self._changes = database.changes
        self._seen: set[tuple[Concern, str | None]] = set()
        self._changes.catch_up()
        for concern in Concern:
            self._changes.subscribe(concern, lambda key, concern=concern: self._seen.add((concern, key)))

    def take(self) -> set[tuple[Concern, str | None]]:
        self._changes.catch_up()
        seen, self._seen = self._seen, set()
        return seen
