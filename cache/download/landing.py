"""Landing: where downloads grow and come to rest."""

from dataclasses import dataclass
from pathlib import Path

from cache.download.leased_spool import leases_of
from cache.lease.base import Leases
from cache.store.base import BlobStore
from cache.store.quarantine import Quarantine
from cache.store.spool import MakeRoom, no_room


@dataclass(frozen=True, slots=True)
class Landing:
    """Where downloads grow, come to rest, and go when they are not what they should be.

    `make_room` is told the bytes that a full disk lacks, and tells how many it freed; it blocks.
    """

    spools: Path
    store: BlobStore
    quarantine: Quarantine
    make_room: MakeRoom = no_room

    @property
    def leases(self) -> Leases:
        return leases_of(self.spools)
