"""NativeInspector: compares native blobs with their rows, and takes the name away from files that do not match.

No other copy may exist, so a file is set aside only when it was read twice and is not what was pushed; one that cannot
be read stays, since it may be whole. The row of a damaged blob stays, too: it says what is missing, and a push of the
same content puts a good file in its place. While a push stores the same digest, the file is left to the next check.
"""

from dataclasses import dataclass

import structlog

from cache.lease.base import Leases, held
from cache.oci.digest import Digest
from cache.retention.scrub import ReadLimiter, inspected
from cache.store.base import is_stored
from cache.store.filesystem import FilesystemStore
from cache.values import Damage
from gateway.db.stored_blobs import RecordedBlob
from gateway.maintenance.native_rows import NativeRows
from gateway.registry.intake import blob_lease

log = structlog.get_logger()

NAMED_REPOSITORIES = 10
"""Repositories that a finding names; a base layer may be in thousands."""


@dataclass(frozen=True, slots=True)
class NativeFinding:
    """A damaged blob, and the first repositories that have it."""

    digest: Digest
    damage: Damage
    repositories: list[str]


class NativeInspector:
    """Checks one blob at a time. It blocks."""

    def __init__(self, rows: NativeRows, store: FilesystemStore, leases: Leases) -> None:
        self._rows = rows
        self._store = store
        self._leases = leases

    def check(self, blob: RecordedBlob, limiter: ReadLimiter | None) -> NativeFinding | None:
        """Read the file of a blob; None where it matches, or the blob was deleted or pushed again meanwhile.

        A damaged file is set aside. Without a limiter its size alone is looked at, and nothing is changed. Raises
        DatabaseUnusable, OSError.
        """
        with inspected(self._store, blob.digest, blob.size, limiter) as file:
            damage = file.damage
            if damage is None or (damage is Damage.DIGEST and not self._differs_again(blob, limiter)):
                return None
            if limiter is not None and damage in (Damage.SIZE, Damage.DIGEST):
                lease = self._leases.take(blob_lease(blob.digest))
                if lease is None:
                    return None
                with held(lease):
                    file.set_aside()
        if self._rows.size(blob.digest) != blob.size or self._is_whole_again(blob, damage):
            return None
        log.error(
            "native_blob_damaged",
            digest=str(blob.digest),
            damage=damage.value,
            path=str(self._store.path(blob.digest)),
            remedy="push the same image again, or restore a backup; look at the disk if there are more",
        )
        return NativeFinding(blob.digest, damage, self._rows.repositories_with(blob.digest, NAMED_REPOSITORIES))

    def _differs_again(self, blob: RecordedBlob, limiter: ReadLimiter | None) -> bool:
        """Whether a second reading finds the same: memory and controllers err, too."""
        with inspected(self._store, blob.digest, blob.size, limiter) as file:
            if file.damage is not Damage.DIGEST:
                log.warning("native_blob_misread", digest=str(blob.digest))
                return False
        return True

    def _is_whole_again(self, blob: RecordedBlob, damage: Damage) -> bool:
        """Whether a push has put another file in the place of the one that was looked at."""
        return damage in (Damage.MISSING, Damage.SIZE) and is_stored(self._store, blob.digest, blob.size)
