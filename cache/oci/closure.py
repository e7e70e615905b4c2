"""Closure: everything that manifests refer to, directly or through other manifests, for all platforms or for some.

The walk names the manifests that it needs; its caller loads them, from memory, a database or an upstream.
"""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.manifest import Manifest

ALL_PLATFORMS = "*"


class PlatformMissing(Exception):
    """An index has nothing for a platform that was requested; the text names the platform."""


class Closure:
    """A walk over manifests, breadth first; each digest is requested once.

    `digests`: the roots and everything found so far. `manifests`: those that were added, in the order of the walk.
    `blobs`: the descriptors of everything that is no manifest by its media type. `platforms`: `os/architecture`, with
    or without `/variant`, to which indexes are restricted; None follows every entry.
    """

    def __init__(self, roots: Iterable[Digest] = (), platforms: Sequence[str] | None = None) -> None:
        self.digests: set[Digest] = set()
        self.manifests: dict[Digest, Manifest] = {}
        self.blobs: dict[Digest, Descriptor] = {}
        self._platforms = platforms
        self._pending: deque[Digest] = deque()
        self._requested: set[Digest] = set()
        self._request(roots)

    def __iter__(self) -> Iterator[Digest]:
        """Yield each digest whose manifest is needed; `add` the manifest before the next one, if it can be had."""
        while self._pending:
            yield self._pending.popleft()

    def add(self, manifest: Manifest) -> None:
        """Take a manifest that was requested, or a further root. Raises PlatformMissing."""
        entries = references(manifest, self._platforms)
        self.digests.add(manifest.descriptor.digest)
        self._requested.add(manifest.descriptor.digest)
        self.manifests[manifest.descriptor.digest] = manifest
        blobs = {entry.digest: entry for entry in entries if not entry.is_manifest}
        self.blobs |= blobs
        self.digests.update(blobs)
        self._request(entry.digest for entry in entries if entry.is_manifest)

    def _request(self, digests: Iterable[Digest]) -> None:
        for digest in digests:
            if digest not in self._requested:  # it may have been listed as a blob before
                self._requested.add(digest)
                self.digests.add(digest)
                self._pending.append(digest)


def find_closure(roots: Iterable[Digest], find: Callable[[Digest], Manifest | None]) -> Closure:
    """The closure of the roots over manifests that `find` knows; it returns None for the others."""
    closure = Closure(roots)
    for digest in closure:
        if manifest := find(digest):
            closure.add(manifest)
    return closure


def references(manifest: Manifest, platforms: Sequence[str] | None = None) -> Sequence[Descriptor]:
    """The manifest's direct references; of an index with `platforms`, the entries for these.

    An entry that names no platform fits all. Raises PlatformMissing.
    """
    if platforms is None or not manifest.children:
        return manifest.references()
    entries = json.loads(manifest.raw)["manifests"]
    pairs = list(zip(manifest.children, [entry.get("platform") for entry in entries], strict=True))
    for wanted in platforms:
        if not any(fits(wanted, given) for _, given in pairs):
            raise PlatformMissing(f"it has nothing for {wanted}")
    return [child for child, given in pairs if any(fits(wanted, given) for wanted in platforms)]


def fits(wanted: str, given: object) -> bool:
    """Whether an index entry's `platform` object is for `os/architecture[/variant]`; without a variant any fits."""
    if wanted == ALL_PLATFORMS or not isinstance(given, dict):
        return True
    parts = wanted.split("/")
    keys = ("os", "architecture", "variant")[: len(parts)]
    return [given.get(key) for key in keys] == parts
