"""Verify: reads all cached content, and quarantines files that do not match their digest."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cache.index.maintenance import CacheMaintenance
from cache.index.usage import UsageFile
from cache.oci.digest import Digest
from cache.retention.scrub import Finding, Inspector, ReadLimiter
from cache.retention.sweep import prefixes
from cache.store.filesystem import FilesystemStore
from cache.store.paths import blob_digest
from cache.store.quarantine import Quarantine
from cache.values import Damage
from gateway.data_folder import CacheFolder
from gateway.maintenance.heal import Healer

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Verification:
    """Blobs and manifests that were checked, their bytes, files without a row in the index, and the damage found."""

    checked: int
    bytes: int
    orphaned: int
    findings: tuple[Finding, ...]

    @property
    def missing(self) -> int:
        """Damaged content whose file is missing."""
        return sum(finding.damage is Damage.MISSING for finding in self.findings)


def verify_cache(
    folder: CacheFolder, limiter: ReadLimiter, progress: Callable[[int], None] = lambda size: None
) -> Verification:
    """Check every blob and manifest of the cache. Blocks.

    `progress` is called with the bytes of each one that was checked. Raises DatabaseUnusable.
    """
    maintenance, quarantine = CacheMaintenance(folder.index, UsageFile(folder.usage)), Quarantine(folder.quarantine)
    store = FilesystemStore(folder.blobs, quarantine)
    inspector = Inspector(maintenance, store, quarantine)
    checked = size_sum = 0
    findings: list[Finding] = []
    try:
        for digest, size in _everything(maintenance):
            finding = inspector.check(digest, limiter)
            checked, size_sum = checked + 1, size_sum + size
            findings += [finding] if finding else []
            progress(size)
        orphaned = sum(_count_orphans(maintenance, store, prefix) for prefix in prefixes())
    finally:
        maintenance.close()
    return Verification(checked, size_sum, orphaned, tuple(findings))


async def heal_findings(healer: Healer, findings: tuple[Finding, ...]) -> int:
    """Fetch damaged content again; returns how many were fetched. Raises DatabaseUnusable."""
    healed = [await healer.heal(f.digest, f.images, is_manifest=f.is_manifest) for f in findings]
    return sum(healed)


def _everything(maintenance: CacheMaintenance) -> Iterator[tuple[Digest, int]]:
    """Yield every blob and manifest, with its bytes."""
    last = ""
    while page := maintenance.blobs_after(last, _PAGE):
        yield from ((item.digest, item.size) for item in page)
        last = str(page[-1].digest)
    last = ""
    while manifests := maintenance.manifests_after(last, _PAGE):
        yield from ((digest, len(maintenance.manifest_bytes(digest) or b"")) for digest in manifests)
        last = str(manifests[-1])


def _count_orphans(maintenance: CacheMaintenance, store: FilesystemStore, prefix: str) -> int:
    """Count files without a row in the index; the sweep of a server deletes them when they are an hour old."""
    digests = [blob_digest(path) for path in store.list_folder(prefix)]
    if not digests:
        return 0
    known = maintenance.blobs_in_folder(prefix)
    return sum(digest not in known for digest in digests if digest)
