"""FlightsRig: flights over a real store, for tests."""

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from cache.download.flight import Flight, Flights
from cache.download.follower import Follower
from cache.download.leased_spool import LEASES, DownloadStorage
from cache.download.limits import DownloadLimits
from cache.events import CacheEvents, EndedDownload, RefusedContent
from cache.oci.digest import Digest
from cache.oci.names import RepositoryName
from cache.runtime.tasks import Tasks
from cache.store.filesystem import FilesystemStore
from cache.store.quarantine import Quarantine
from cache.upstream.errors import UpstreamError
from cache.values import Source
from tests.cache.download.scripted import ScriptedBody
from tests.cache.samples import ANONYMOUS, APP


class Noted(CacheEvents):
    """Notes the downloads whose content was refused, and in words how downloads begin and end."""

    def __init__(self, refused: list[RefusedContent], told: list[str]) -> None:
        self._refused, self._told = refused, told

    def content_refused(self, refused: RefusedContent) -> None:
        self._refused.append(refused)

    def download_began(self, source: Source, digest: Digest) -> None:
        self._told.append("began")

    def download_ended(self, download: EndedDownload) -> None:
        self._told.append("ended")

    def download_followed(self, source: Source, digest: Digest) -> None:
        self._told.append("followed")


class FlightsRig:
    """Flights over a real store, as those of one worker; `recorded`: digests that were stored, and for which images.

    Retries follow at once. `boot`: the run of the machine in which this worker believes to be.
    """

    def __init__(self, folder: Path, *, boot: str = "", storage_class: type[DownloadStorage] = DownloadStorage) -> None:
        self.spools = folder / "spools"
        self.spools.mkdir(exist_ok=True)
        self.tasks = Tasks()
        self.recorded: list[tuple[Digest, set[RepositoryName]]] = []
        self.recording = asyncio.Event()
        self.may_record = asyncio.Event()
        self.may_record.set()
        self.quarantine = folder / "quarantine"
        self.store = FilesystemStore(folder / "blobs", Quarantine(self.quarantine))
        self.refused: list[RefusedContent] = []
        self.told: list[str] = []
        storage = storage_class(self.spools, self.store, Quarantine(self.quarantine), boot=boot)
        limits = DownloadLimits(retry_pauses=(0.0, 0.0, 0.0), take_over_every=0.01)
        self.flights = Flights(storage, self.tasks, self._record, Noted(self.refused, self.told), limits=limits)

    def limit(self, **changes: Any) -> None:
        """Change limits, by their names in DownloadLimits, for the flights that begin from now on."""
        self.flights.limits = replace(self.flights.limits, **changes)

    async def _record(self, flight: Flight) -> None:
        images = set(flight.images)
        self.recording.set()
        await self.may_record.wait()
        self.recorded.append((flight.digest, images))

    def join(self, body: ScriptedBody, digest: Digest, image: RepositoryName = APP) -> tuple[Flight, Follower, bool]:
        flight, first = self.flights.join(ANONYMOUS, image, digest, body.fetch)
        return flight, flight.follow(), first

    def spool_files(self) -> list[Path]:
        return [path for path in self.spools.iterdir() if path.name != LEASES]


def fill_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "fill"]


async def until(condition: Any) -> None:
    """Let the loop and the threads run until the condition holds."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  a thread changes it
            await asyncio.sleep(0.001)


async def all_ended(rig: FlightsRig) -> None:
    await until(lambda: not rig.flights)


async def read(follower: Follower, start: int = 0, stop: int | None = None) -> bytes:
    """Read a range, by default everything; close the follower."""
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
