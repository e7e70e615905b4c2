"""Records of the requests to the servers of a test: one log that other threads may read."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Record:
    """One request as it arrived. `status` is 0 until a response began; `sent` counts body bytes written to the
    socket. `connection` counts the connections of a Liar from 1."""

    server: str
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    status: int = 0
    sent: int = 0
    aborted: bool = False
    connection: int = 0
    values: list[tuple[str, str]] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """Value of a header, case-insensitive; repeated lines are joined by a comma."""
        found = [value for key, value in self.values if key.lower() == name.lower()]
        return ", ".join(found) if found else None


class RequestLog:
    """Records in order of arrival. `path_contains` may be a whole digest: paths that hold only its hex match too."""

    def __init__(self) -> None:
        self._records: list[Record] = []
        self._changed = threading.Condition()

    def add(self, server: str, method: str, path: str, query: str, headers: list[tuple[str, str]]) -> Record:
        record = Record(server, method, path, query, {key.lower(): value for key, value in headers}, values=headers)
        with self._changed:
            self._records.append(record)
            self._changed.notify_all()
        return record

    def select(
        self, server: str | None = None, method: str | None = None, path_contains: str = "", status: int | None = None
    ) -> list[Record]:
        """Records that match every given criterion."""
        needles = (path_contains, path_contains.partition(":")[2] or path_contains)
        with self._changed:
            records = list(self._records)
        return [
            record
            for record in records
            if (server is None or record.server == server)
            and (method is None or record.method == method)
            and (status is None or record.status == status)
            and any(needle in record.path for needle in needles)
        ]

    def count(
        self, server: str | None = None, method: str | None = None, path_contains: str = "", status: int | None = None
    ) -> int:
        return len(self.select(server, method, path_contains, status))

    def wait_for(
        self,
        count: int = 1,
        server: str | None = None,
        method: str | None = None,
        path_contains: str = "",
        within: float = 30,
    ) -> list[Record]:
        """Blocks until at least `count` such requests have arrived; raises TimeoutError."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: self.count(server, method, path_contains) >= count, within)
        found = self.select(server, method, path_contains)
        if not arrived:
            wanted = f"{count} times {server or 'any'} {method or 'any'} …{path_contains}…"
            raise TimeoutError(f"waited {within} s for {wanted}, saw {len(found)}")
        return found

    def clear(self) -> None:
        with self._changed:
            self._records.clear()
