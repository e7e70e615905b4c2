"""The life of examinations of the installation, which end with the server that began them."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

from cache.runtime.tasks import Tasks
from gateway.observability.diagnosis import Diagnoses


@asynccontextmanager
async def open_diagnoses(data: Path, clock: Callable[[], datetime]) -> AsyncIterator[Diagnoses]:
    """Open the examinations of a data folder."""
    tasks = Tasks()
    try:
        yield Diagnoses(data, tasks, clock)
    finally:
        await tasks.close()
