"""GroupPulls: counts what groups pull through their dependency proxies, request by request."""

from collections.abc import Callable
from datetime import datetime

from cache.index.tenants import TenantUsage
from cache.index.usage import PullCount
from cache.oci.digest import Digest
from cache.oci.names import RepositoryName, Tag
from cache.values import Outcome, Source
from gateway.observability.access_line import AccessLine

_OUTCOMES = frozenset(outcome.value for outcome in Outcome)


class GroupPulls:
    """Counts pulls of groups, by their ids."""

    def __init__(self, usage: TenantUsage, clock: Callable[[], datetime]) -> None:
        self._usage = usage
        self._clock = clock

    def watch(
        self, group_id: int, source: Source, image: RepositoryName, manifest: Tag | Digest | None
    ) -> Callable[[AccessLine], None]:
        """What counts one request once it has ended. `manifest`: by which it was requested; None for a blob."""

        def count(line: AccessLine) -> None:
            if line.outcome not in _OUTCOMES or line.status >= 400 or not line.status:
                return
            now = self._clock()
            if manifest is not None:
                self._usage.note_pull(group_id, source, image, str(manifest), line.outcome, now)
            if line.method == "GET":
                kind, day = "blob" if manifest is None else "manifest", now.date().isoformat()
                self._usage.count(group_id, PullCount(day, line.upstream or "", kind, line.outcome, 1, line.bytes))

        return count
