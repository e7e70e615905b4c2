"""Closure: everything that manifests refer to, directly or through other manifests, for all platforms or for some.

The walk names the manifests that it needs; its caller loads them, from memory, a database or an upstream.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum

from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.manifest import Manifest

ALL_PLATFORMS = "*"


class PlatformMissing(Exception):
    """An index has nothing for a platform that was requested; the text names the platform."""


class Followed(Enum):
    """References whose digests a walk requests. An index may list an image under a media type that is no manifest's.

    MANIFESTS: those of a manifest's media type. ENTRIES: these, and every entry of an index. ALL: all, for a caller to
    whom a lookup costs little: a manifest is what is stored as one.
    """

    MANIFESTS = "manifests"
    ENTRIES = "entries"
    ALL = "all"


class Closure:
    """A walk over manifests, breadth first; each digest is requested once. Keeps no manifests, only digests.

    `digests`: the roots and everything found so far. `platforms`: `os/architecture`, with or without `/variant`, to
    which indexes are restricted; None follows every entry.
    """

    def __init__(
        self,
        roots: Iterable[Digest] = (),
        platforms: Sequence[str] | None = None,
        followed: Followed = Followed.MANIFESTS,
    ) -> None:
        self.digests: set[Digest] = set()
        self._platforms = platforms
        self._followed = followed
        self._pending: deque[Digest] = deque()
        self._requested: set[Digest] = set()
        self._request(roots)

    def __iter__(self) -> Iterator[Digest]:
        """Yield each digest whose manifest is needed; `add` the manifest before the next one, if it can be had."""
        while self._pending:
            yield self._pending.popleft()

    def add(self, manifest: Manifest) -> Sequence[Descriptor]:
        """Take a manifest that was requested, or a further root; return its references. Raises PlatformMissing."""
        entries = references(manifest, self._platforms)
        self.digests.add(manifest.descriptor.digest)
        self._requested.add(manifest.descriptor.digest)
        every = self._followed is Followed.ALL or (self._followed is Followed.ENTRIES and bool(manifest.children))
        self.digests.update(entry.digest for entry in entries)
        self._request(entry.digest for entry in entries if every or entry.is_manifest)
        return entries

    def _request(self, digests: Iterable[Digest]) -> None:
        for digest in digests:
            if digest not in self._requested:  # it may have been listed as a blob before
                self._requested.add(digest)
                self.digests.add(digest)
                self._pending.append(digest)


def find_closure(
    roots: Iterable[Digest], find: Callable[[Digest], Manifest | None], followed: Followed = Followed.ALL
) -> set[Digest]:
    """The closure of the roots over manifests that `find` knows; it returns None for the others."""
    closure = Closure(roots, followed=followed)
    for digest in closure:
        if manifest := find(digest):
            closure.add(manifest)
    return closure.digests


def references(manifest: Manifest, platforms: Sequence[str] | None = None) -> Sequence[Descriptor]:
    """The manifest's direct references; of an index with `platforms`, the entries for these.

    An entry that names no platform fits all. Raises PlatformMissing.
    """
    if platforms is None or not manifest.children:
        return manifest.references()
    pairs = manifest.platforms()
    for wanted in platforms:
        if not any(fits(wanted, given) for _, given in pairs):
            raise PlatformMissing(f"it has nothing for {wanted}")
    return [child for child, given in pairs if any(fits(wanted, given) for wanted in platforms)]


def fits(wanted: str, given: Mapping[str, object] | None) -> bool:
    """Whether an index entry's `platform` object is for `os/architecture[/variant]`; without a variant any fits."""
    if wanted == ALL_PLATFORMS or given is None:
        return True
    parts = wanted.split("/")
    keys = ("os", "architecture", "variant")[: len(parts)]
    return [given.get(key) for key in keys] == parts
