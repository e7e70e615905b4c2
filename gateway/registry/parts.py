"""NativeParts: what all native repositories of one process share."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from gateway.db.engine import Database
from gateway.registry.blob_files import BlobFiles
from gateway.registry.memory import NativeMemory
from gateway.registry.stored_sources import StoredSources
from gateway.registry.uploads import Uploads


@dataclass(frozen=True, slots=True)
class NativeParts:
    """Rows, files and uploads of native content, and what this process remembers of them."""

    database: Database
    uploads: Uploads
    files: BlobFiles
    sources: StoredSources
    memory: NativeMemory
    clock: Callable[[], datetime]
