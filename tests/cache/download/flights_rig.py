"""Flights over a real store, for tests."""

import asyncio
import threading
from pathlib import Path
from typing import Any

from cache.download.flight import Flight, Flights, Follower, Landing
from cache.download.leased_spool import LEASES
from cache.events import CacheEvents, RefusedContent
from cache.oci.digest import Digest
from cache.oci.names import RepositoryName
from cache.runtime.tasks import Tasks
from cache.store.filesystem import FilesystemStore
from cache.store.quarantine import Quarantine
from cache.upstream.errors import UpstreamError
from tests.cache.download.scripted import ScriptedBody
from tests.cache.samples import ANONYMOUS, APP


class Refusals(CacheEvents):
    """Notes the downloads whose content was refused."""

    def __init__(self, noted: list[RefusedContent]) -> None:
        self._noted = noted

    def content_refused(self, refused: RefusedContent) -> None:
        self._noted.append(refused)


class Hangar:
    """Flights over a real store; `arrived` is what was recorded."""

    def __init__(self, folder: Path) -> None:
        self.spools = folder / "spools"
        self.spools.mkdir(exist_ok=True)
        self.store = FilesystemStore(folder / "blobs")
        self.tasks = Tasks()
        self.arrived: list[tuple[Digest, set[RepositoryName]]] = []
        self.recording = asyncio.Event()
        self.may_record = asyncio.Event()
        self.may_record.set()
        self.quarantine = folder / "quarantine"
        self.refused: list[RefusedContent] = []
        place = Landing(self.spools, self.store, Quarantine(self.quarantine))
        self.flights = Flights(place, self.tasks, self._record, Refusals(self.refused))

    async def _record(self, flight: Flight) -> None:
        images = set(flight.images)
        self.recording.set()
        await self.may_record.wait()
        self.arrived.append((flight.digest, images))

    def join(self, body: ScriptedBody, digest: Digest, image: RepositoryName = APP) -> tuple[Flight, Follower, bool]:
        flight, first = self.flights.join(ANONYMOUS, image, digest, body.fetch)
        return flight, flight.follow(), first

    def spool_files(self) -> list[Path]:
        return [path for path in self.spools.iterdir() if path.name != LEASES]


def fill_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "fill"]


async def until(condition: Any) -> None:
    """Lets the loop and the threads run until the condition holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  a thread sets what is asked for
            await asyncio.sleep(0.001)


async def landed(hangar: Hangar) -> None:
    await until(lambda: not hangar.flights)


async def read(follower: Follower, start: int = 0, stop: int | None = None) -> bytes:
    """All of it; closes the follower."""
    try:
        return b"".join([await follower.read(extent) async for extent in follower.ready(start, stop)])
    finally:
        follower.close()


async def read_until_refused(follower: Follower) -> tuple[bytes, UpstreamError]:
    got = b""
    try:
        async for extent in follower.ready(0, None):
            got += await follower.read(extent)
    except UpstreamError as error:
        return got, error
    finally:
        follower.close()
    raise AssertionError("the body completed")
