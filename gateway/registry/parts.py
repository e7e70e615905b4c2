"""NativeParts: what all native repositories of one process share."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from gateway.db.engine import Database
from gateway.registry.blob_files import BlobFiles
from gateway.registry.memory import NativeMemory
from gateway.registry.uploads import Uploads

LARGE_MANIFESTS = 2
"""Pushes of manifests with many references at once: each takes as long as hundreds of others, also if it is refused."""


@dataclass(frozen=True, slots=True)
class NativeParts:
    """Rows, files and uploads of native content, and what this process remembers of them."""

    database: Database
    uploads: Uploads
    files: BlobFiles
    memory: NativeMemory
    clock: Callable[[], datetime]
    large_manifests: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LARGE_MANIFESTS))
    """Places of manifests with many references."""
