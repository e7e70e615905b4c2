"""Verification of all native content: what the database names, against the files, and the other way round."""

from collections.abc import Callable
from dataclasses import dataclass

from cache.retention.scrub import ReadLimiter
from cache.retention.sweep import prefixes
from cache.store.filesystem import FilesystemStore
from cache.store.paths import blob_digest
from cache.values import Damage
from gateway.db.stored_blobs import IncompleteManifest, RecordedManifest
from gateway.maintenance.native_inspector import NativeFinding, NativeInspector
from gateway.maintenance.native_rows import NativeRows


@dataclass(frozen=True, slots=True)
class NativeVerification:
    """Blobs and manifests that were checked, their bytes, files that no row names, and the damage found.

    `manifests`: those whose bytes in the database are not what was pushed. `incomplete`: each reference of a manifest
    that its repository lacks.
    """

    checked: int
    bytes: int
    orphaned: int
    findings: tuple[NativeFinding, ...]
    manifests: tuple[RecordedManifest, ...]
    incomplete: tuple[IncompleteManifest, ...]

    @property
    def missing(self) -> int:
        """Blobs without a file, and references to what a repository does not have."""
        return self._without_file + len(self.incomplete)

    @property
    def _without_file(self) -> int:
        return sum(finding.damage is Damage.MISSING for finding in self.findings)

    @property
    def damaged(self) -> int:
        """Blobs whose files are not what was pushed, and such manifests."""
        return len(self.findings) - self._without_file + len(self.manifests)


def verify_native(
    rows: NativeRows,
    store: FilesystemStore,
    inspector: NativeInspector,
    limiter: ReadLimiter | None,
    progress: Callable[[int], None] = lambda size: None,
) -> NativeVerification:
    """Check the file of every blob, and with a limiter the content of each blob and manifest. Blocks.

    `progress` is called with the bytes of each blob that was checked. Raises DatabaseUnusable, OSError.
    """
    checked = size = 0
    findings: list[NativeFinding] = []
    manifests: list[RecordedManifest] = []
    for blob in rows.blobs():
        finding = inspector.check(blob, limiter)
        checked, size = checked + 1, size + blob.size
        findings += [finding] if finding else []
        progress(blob.size)
    if limiter is not None:
        for manifest in rows.manifests():
            checked, size = checked + 1, size + len(manifest.raw)
            if not manifest.digest.holds_for(manifest.raw):
                manifests.append(manifest)
    orphaned = sum(_count_orphans(rows, store, prefix) for prefix in prefixes())
    return NativeVerification(checked, size, orphaned, tuple(findings), tuple(manifests), tuple(rows.incomplete()))


def _count_orphans(rows: NativeRows, store: FilesystemStore, prefix: str) -> int:
    """Count files of one folder that no row names; none of them is served."""
    digests = {digest for path in store.list_folder(prefix) if (digest := blob_digest(path)) is not None}
    return len(digests - rows.stored(digests)) if digests else 0
