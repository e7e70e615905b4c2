"""Useless HEADs: whether HEAD requests to a registry are worth their round trip; the decision is pure.

Some registries refuse every HEAD of a blob or of a manifest, or say too little to it: public.ecr.aws responds 401
(https://github.com/aws/containers-roadmap/issues/2671). Then each proof and each check would cost two round trips.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from cache.oci.digest import Digest
from cache.oci.names import RepositoryName, Tag

USELESS_AFTER = 3
"""Useless HEADs in a row after which no more are sent. Some registries refuse a HEAD only of what they have not yet
imported (https://github.com/containerd/containerd/issues/4706)."""

REMEMBERED = 600.0
"""Seconds for which no HEAD is sent. The next one tells whether that goes on."""

DOUBTS_KEPT = 100
"""HEADs that said too little and whose GET is awaited; a client can name any number of images."""

REDIRECTED_KEPT = 1000
"""Images whose HEADs a redirect's target answered with too little, and which are remembered."""


class HeadKind(Enum):
    """Content that a HEAD is for."""

    BLOB = "blob"
    MANIFEST = "manifest"


@dataclass(frozen=True, slots=True)
class HeadRecord:
    """HEADs of one kind at one source, or for one of its images. `useless`: those in a row that said too little.
    `until`: the moment before which none is sent."""

    useless: int = 0
    until: float = 0.0


UNTRIED = HeadRecord()


def is_useless(record: HeadRecord, now: float) -> bool:
    """Whether a GET is sent without a HEAD before it."""
    return 0 < record.until - now <= REMEMBERED


def after_useless(record: HeadRecord, now: float) -> HeadRecord:
    """The record after a HEAD that said too little about content that a GET was then given."""
    useless = min(record.useless + 1, USELESS_AFTER)
    return HeadRecord(useless, now + REMEMBERED if useless == USELESS_AFTER else 0.0)


class UselessHeads:
    """Records of one source, for tasks and threads of one process. A HEAD that says enough resets its record.

    What a redirect's target says counts for that image alone: the names of one registry may lead to several others.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._records: dict[HeadKind, HeadRecord] = {}
        self._redirected: OrderedDict[tuple[HeadKind, RepositoryName], HeadRecord] = OrderedDict()
        self._doubts: OrderedDict[tuple[RepositoryName, Tag | Digest], bool] = OrderedDict()
        self._lock = threading.Lock()

    def are_useless(self, kind: HeadKind, image: RepositoryName) -> bool:
        now = self._clock()
        records = self._records.get(kind, UNTRIED), self._redirected.get((kind, image), UNTRIED)
        return any(is_useless(record, now) for record in records)

    def note_useful(self, kind: HeadKind, image: RepositoryName, *, own: bool) -> None:
        """Note a HEAD that said enough. `own`: whether the upstream's own host answered it, and not a redirect's
        target."""
        with self._lock:
            self._redirected.pop((kind, image), None)
            if own:
                self._records.pop(kind, None)

    def note_useless(self, kind: HeadKind, image: RepositoryName, *, own: bool) -> None:
        """Note a HEAD that said too little about content that a GET was then given."""
        with self._lock:
            if own:
                self._records[kind] = after_useless(self._records.get(kind, UNTRIED), self._clock())
                return
            record = self._redirected.pop((kind, image), UNTRIED)
            self._redirected[kind, image] = after_useless(record, self._clock())
            while len(self._redirected) > REDIRECTED_KEPT:
                self._redirected.popitem(last=False)

    def doubt(self, image: RepositoryName, reference: Tag | Digest, *, own: bool) -> None:
        """Note a HEAD of a manifest that said too little, until the GET that follows shows whether it was useless."""
        with self._lock:
            self._doubts[image, reference] = own
            while len(self._doubts) > DOUBTS_KEPT:
                self._doubts.popitem(last=False)

    def settle(self, image: RepositoryName, reference: Tag | Digest, *, found: bool) -> None:
        """Note the outcome of a GET of a manifest. `found`: whether it was given what the HEAD said too little about;
        otherwise the HEAD may have been right."""
        with self._lock:
            own = self._doubts.pop((image, reference), None)
        if own is not None and found:
            self.note_useless(HeadKind.MANIFEST, image, own=own)
