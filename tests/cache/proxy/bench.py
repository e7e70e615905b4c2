"""A proxied repository over a real index and store and a scripted upstream, for tests."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from cache.download.flight import Flights
from cache.download.leased_spool import DownloadStorage
from cache.index.sql import SqlIndex
from cache.index.usage import UsageFile
from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.oci.names import RepositoryName, Tag
from cache.policy.freshness import TagRules
from cache.proxy.pull_through import PullThrough
from cache.proxy.repository import ProxiedRepository
from cache.proxy.rights import record_arrival
from cache.repository import CacheStatus, FoundBlob
from cache.runtime.fair_queue import NOBODY, Requester
from cache.runtime.tasks import Tasks
from cache.store.base import OpenBlob
from cache.store.filesystem import FilesystemStore
from cache.store.quarantine import Quarantine
from cache.upstream.allowance import RequestKind
from cache.upstream.client import BlobStream
from cache.upstream.errors import NotFound, UpstreamError
from cache.upstream.ledger import Ledger
from cache.upstream.quota import Quota
from cache.values import Outcome, Part, ReferrersPage, Rest, Source, TagPage
from tests.cache.download.scripted import ScriptedBody
from tests.cache.samples import (
    ANONYMOUS,
    APP,
    LATEST,
    NOON,
    blob_of,
    manifest_of,
)

T = TypeVar("T")
TTL, GRACE = timedelta(minutes=1), timedelta(days=30)
RULES = TagRules(TTL, GRACE)
ONE, TWO = manifest_of("one"), manifest_of("two")
CONTENT, BLOB = blob_of(100_000)
HIT, MISS, STALE, REVALIDATED, COALESCED = (CacheStatus(outcome) for outcome in Outcome)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def advance(self, by: timedelta) -> None:
        self.now += by


class Script:
    """The content, the failures and the noted calls of a scripted upstream, shared by the clients of all sources."""

    def __init__(self) -> None:
        self.manifests: dict[Tag | Digest, Manifest] = {}
        self.blobs: dict[Digest, bytes] = {BLOB: CONTENT}
        self.bodies: dict[RepositoryName, ScriptedBody] = {}
        self.pages: dict[str, TagPage] = {}
        self.referrers: list[dict[str, Any]] = []
        self.failure: UpstreamError | None = None
        self.failures: dict[tuple[str, RepositoryName] | tuple[str, RepositoryName, Tag | Digest], UpstreamError] = {}
        self.tells_digest = True
        self.ledger = Ledger()
        self.fails = False
        self.calls: list[str] = []
        self.requesters: list[Requester] = []
        """Whoever each document was requested for."""
        self._held: dict[str, asyncio.Event] = {}
        self._waiting: set[str] = set()

    def publish(self, manifest: Manifest, tag: Tag = LATEST) -> None:
        self.manifests[tag] = self.manifests[manifest.descriptor.digest] = manifest

    def hold(self, what: str) -> None:
        self._held[what] = asyncio.Event()

    def release(self, what: str) -> None:
        self._held.pop(what).set()

    def waiting(self, what: str) -> bool:
        """Whether a call waits at a hold."""
        return what in self._waiting

    async def pause(self, what: str) -> None:
        if what in self._held:
            self._waiting.add(what)
            await self._held[what].wait()
            self._waiting.discard(what)

    def note(self, what: str, image: RepositoryName, reference: Tag | Digest | None = None) -> None:
        self.calls.append(what)
        failure = self.failures.get((what, image), self.failure)
        error = self.failures.get((what, image, reference), failure) if reference else failure
        if error is not None:
            raise error.again()

    def take_calls(self) -> list[str]:
        calls, self.calls = self.calls, []
        return calls


class ScriptedClient:
    """An UpstreamClient that answers what the script says."""

    host = "registry.example"

    def __init__(self, script: Script, source: Source) -> None:
        self.source = source
        self.has_credential = not source.credential.is_anonymous
        self.quota = Quota(script.ledger, source)
        self._script = script

    @property
    def primary(self) -> "ScriptedClient":
        return self

    def fails(self, image: RepositoryName) -> bool:
        return self._script.fails

    def pause(self, kind: RequestKind, image: RepositoryName | None = None) -> float:
        return self.quota.pause(kind, image.text if image else "")

    async def head_manifest(
        self, image: RepositoryName, reference: Tag | Digest, *, as_proof: bool = False
    ) -> Descriptor | None:
        return (await self._manifest("head", image, reference)).descriptor if self._script.tells_digest else None

    async def get_manifest(
        self,
        image: RepositoryName,
        reference: Tag | Digest,
        held: Manifest | None = None,
        requester: Requester = NOBODY,
    ) -> Manifest:
        self._script.requesters.append(requester)
        return await self._manifest("get", image, reference)

    async def head_blob(self, image: RepositoryName, digest: Digest, *, as_proof: bool = False) -> int | None:
        await self._script.pause("head blob")
        self._script.note("head blob", image, digest)
        if digest not in self._script.blobs:
            raise NotFound("no such blob")
        return len(self._script.blobs[digest])

    @contextmanager
    def open_blob(self, image: RepositoryName, digest: Digest, part: Part | Rest | None = None) -> Iterator[BlobStream]:
        self._script.note("get blob", image, digest)
        if digest not in self._script.blobs:
            raise NotFound("no such blob")
        body = self._script.bodies.get(image) or ScriptedBody.whole(self._script.blobs[digest])
        with body.fetch(part) as incoming:
            yield incoming

    async def tags(self, image: RepositoryName, query: str = "", requester: Requester = NOBODY) -> TagPage:
        self._script.requesters.append(requester)
        await self._script.pause("tags")
        self._script.note("tags", image)
        return self._script.pages.get(query, TagPage(["latest"]))

    async def referrers(
        self, image: RepositoryName, digest: Digest, artifact_type: str | None, requester: Requester = NOBODY
    ) -> ReferrersPage:
        self._script.requesters.append(requester)
        self._script.note("referrers", image)
        return ReferrersPage(self._script.referrers, filtered=False)

    async def _manifest(self, what: str, image: RepositoryName, reference: Tag | Digest) -> Manifest:
        await self._script.pause(what)
        self._script.note(what, image, reference)
        if reference not in self._script.manifests:
            raise NotFound("no such manifest")
        return self._script.manifests[reference]


class CountedPullThrough(PullThrough):
    """Counts the requests that have come to wait for a shared task."""

    waiting = 0

    def share(
        self, key: Hashable, work: Callable[[], Coroutine[Any, Any, T | UpstreamError]]
    ) -> tuple[asyncio.Task[T | UpstreamError], bool]:
        self.waiting += 1
        return super().share(key, work)


class Bench:
    def __init__(self, folder: Path, rules: TagRules = RULES) -> None:
        (folder / "spools").mkdir()
        self.script, self.clock, self.tasks = Script(), Clock(), Tasks()
        self.index = SqlIndex(folder / "cache.db", clock=lambda: self.clock().timestamp())
        self.store = FilesystemStore(folder / "blobs")
        self.usage = UsageFile(folder / "usage.db")
        storage = DownloadStorage(folder / "spools", self.store, Quarantine(folder / "quarantine"))
        self.flights = Flights(storage, self.tasks, lambda flight: record_arrival(self.index, self.store, flight))
        self.shared = CountedPullThrough(
            index=self.index,
            usage=self.usage,
            store=self.store,
            flights=self.flights,
            tasks=self.tasks,
            rules=rules,
            clock=self.clock,
        )

    def open(
        self,
        image: RepositoryName = APP,
        source: Source = ANONYMOUS,
        requester: Requester = NOBODY,
        *,
        fresh_only: bool = False,
        ahead: bool = False,
    ) -> ProxiedRepository:
        client = ScriptedClient(self.script, source)
        return ProxiedRepository(self.shared, client, image, requester, fresh_only=fresh_only, ahead=ahead)

    async def landed(self) -> None:
        """Wait until every download has ended and is recorded."""
        await until(lambda: not self.flights)

    async def begin(self, *works: Coroutine[Any, Any, T]) -> "list[asyncio.Task[T]]":
        """Start requests; return when each of them waits for a shared task."""
        wanted = self.shared.waiting + len(works)
        futures = [asyncio.create_task(work) for work in works]
        await until(lambda: self.shared.waiting == wanted)
        return futures

    async def hold_blob(self, image: RepositoryName = APP, source: Source = ANONYMOUS) -> None:
        """Store the blob, with a link for the image."""
        assert await content(await self.open(image, source).blob(BLOB)) == CONTENT
        await self.landed()
        self.script.take_calls()

    async def hold_tag(self, image: RepositoryName = APP, source: Source = ANONYMOUS) -> None:
        self.script.publish(ONE)
        await self.open(image, source).manifest(LATEST)
        self.script.take_calls()


async def content(found: FoundBlob) -> bytes:
    blob: OpenBlob = found.blob
    try:
        return b"".join([await blob.read(extent) async for extent in blob.ready(0, None)])
    finally:
        blob.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  the index and the downloads work in threads
            await asyncio.sleep(0.001)
