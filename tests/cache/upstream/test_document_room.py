"""Memory for documents under way: large ones wait for slots, fairly, and one that trickles in loses its slot."""

import asyncio
import gzip
import json
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from cache.oci.digest import Digest
from cache.oci.manifest import SIZE_LIMIT
from cache.oci.media_types import OCI_INDEX
from cache.oci.names import Tag
from cache.runtime.fair_queue import Requester
from cache.upstream import document_room
from cache.upstream.document_room import FREE, LARGE, SLOT, DocumentRoom, DocumentSpace
from cache.upstream.egress import Egress
from cache.upstream.errors import Corrupt, NoRoom, Unavailable, UpstreamError
from cache.upstream.reach import Reach
from cache.upstream.registry_client import RegistryClient
from cache.upstream.tokens import Tokens
from cache.upstream.urls import origin_of
from cache.values import Source
from tests.cache.samples import APP, LATEST
from tests.parts import lies
from tests.parts.holds import Hold
from tests.parts.images import MB
from tests.parts.liar import Liar
from tests.parts.lies import Lie

COUNT = 12
GREEDY, NEIGHBOUR, OTHER = Requester("a", "1"), Requester("a", "2"), Requester("b", "1")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  what is read moves on in the loop
            await asyncio.sleep(0.001)


class Crowd:
    """Requests that grow at once; `spaces` are those that have what they wanted."""

    def __init__(self, room: DocumentRoom) -> None:
        self._room = room
        self.spaces: list[DocumentSpace] = []
        self.refused: list[UpstreamError] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def grow(self, who: Requester, size: int, count: int) -> None:
        """Let requests grow, and return when each of them has grown or waits."""
        self._tasks += [asyncio.create_task(self._grow(who, size)) for _ in range(count)]
        for _ in range(10):
            await asyncio.sleep(0)

    async def _grow(self, who: Requester, size: int) -> None:
        space = DocumentSpace(self._room, who)
        try:
            await space.grow(size)
            self.spaces.append(space)
        except NoRoom as error:
            self.refused.append(error)
            space.close()
        except asyncio.CancelledError:
            space.close()
            raise

    def held_by(self, who: Requester) -> int:
        return sum(space.who == who for space in self.spaces)

    def close(self, who: Requester) -> None:
        for space in [space for space in self.spaces if space.who == who]:
            self.spaces.remove(space)
            space.close()

    async def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for space in self.spaces:
            space.close()
        self.spaces.clear()


@pytest.fixture
async def crowd() -> AsyncIterator[Crowd]:
    crowd = Crowd(DocumentRoom())
    yield crowd
    await crowd.leave()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document_room, "PATIENCE", 0.0)
    monkeypatch.setattr(document_room, "LOOK_EVERY", 0.01)


async def test_ordinary_documents_wait_for_nothing(crowd: Crowd) -> None:
    await crowd.grow(GREEDY, SLOT, 50)
    await crowd.grow(GREEDY, FREE, 20)
    await crowd.grow(OTHER, FREE, 20)
    assert (crowd.held_by(GREEDY), crowd.held_by(OTHER)) == (5 + 20, 20)


async def test_no_client_and_no_group_takes_all_slots(crowd: Crowd) -> None:
    for who, most in ((GREEDY, 5), (NEIGHBOUR, 1), (OTHER, 2)):
        await crowd.grow(who, SLOT, 50)
        assert crowd.held_by(who) == most
    await crowd.grow(Requester("c", "1"), FREE + 1, 1)
    assert crowd.held_by(Requester("c", "1")) == 1


async def test_a_closed_request_gives_its_slot_to_the_next(crowd: Crowd) -> None:
    await crowd.grow(GREEDY, SLOT, 12)
    crowd.close(GREEDY)
    await until(lambda: crowd.held_by(GREEDY) == 5)
    crowd.close(GREEDY)
    await until(lambda: crowd.held_by(GREEDY) == 2)
    await crowd.leave()
    await crowd.grow(GREEDY, SLOT, 5)
    assert crowd.held_by(GREEDY) == 5


async def test_one_group_has_one_document_beyond_a_manifest_and_another_group_one_more(crowd: Crowd) -> None:
    await crowd.grow(GREEDY, LARGE, 3)
    await crowd.grow(NEIGHBOUR, LARGE, 1)
    await crowd.grow(OTHER, LARGE, 2)
    assert [crowd.held_by(who) for who in (GREEDY, NEIGHBOUR, OTHER)] == [1, 0, 1]


async def test_a_document_that_waits_too_long_is_refused(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    await crowd.grow(GREEDY, SLOT, 5)
    monkeypatch.setattr(document_room, "WAIT", 0.05)
    await crowd.grow(GREEDY, SLOT, 1)
    await until(lambda: bool(crowd.refused))
    assert "waited" in crowd.refused[0].reason
    assert crowd.held_by(GREEDY) == 5


async def trickle(room: DocumentRoom, who: Requester, size: int, began: asyncio.Event) -> None:
    """Read a document of which nothing more comes."""
    space = DocumentSpace(room, who)
    try:
        async with asyncio.timeout(60) as limit:
            with space.reading(limit):
                await space.grow(size)
                began.set()
                await asyncio.Event().wait()
    finally:
        space.close()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("who", [GREEDY, NEIGHBOUR], ids=["same client", "another client"])
async def test_a_document_that_trickles_in_loses_its_slot_to_one_that_waits(who: Requester) -> None:
    room, began = DocumentRoom(), asyncio.Event()
    slow = asyncio.create_task(trickle(room, GREEDY, LARGE, began))
    await asyncio.wait_for(began.wait(), 30)
    space = DocumentSpace(room, who)
    await asyncio.wait_for(space.grow(LARGE), 30)
    space.close()
    with pytest.raises(TimeoutError):
        await slow


async def test_a_document_that_two_end_at_once_ends_once() -> None:
    room, began = DocumentRoom(), asyncio.Event()
    slow = asyncio.create_task(trickle(room, GREEDY, SLOT, began))
    await asyncio.wait_for(began.wait(), 30)
    [holder] = room.steps[0]._holders
    holder.end_reading()
    await asyncio.sleep(0)  # its time is over, and it does not know yet
    assert not slow.done()
    holder.end_reading()
    with pytest.raises(TimeoutError):
        await slow


@pytest.mark.usefixtures("impatient")
async def test_a_flood_takes_no_slot_of_a_group_that_has_fewer(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document_room, "WAIT", 0.2)
    room, began = crowd._room, asyncio.Event()
    slow = asyncio.create_task(trickle(room, OTHER, SLOT, began))
    await asyncio.wait_for(began.wait(), 30)
    await crowd.grow(GREEDY, SLOT, 20)
    await until(lambda: len(crowd.refused) + crowd.held_by(GREEDY) == 20)
    assert crowd.refused
    assert not slow.done()
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)


async def test_the_time_limit_of_a_document_does_not_run_while_it_waits(crowd: Crowd) -> None:
    await crowd.grow(GREEDY, SLOT, 5)
    space = DocumentSpace(crowd._room, GREEDY)
    async with asyncio.timeout(0.05) as limit:
        with space.reading(limit):
            growing = asyncio.create_task(space.grow(SLOT))
            await asyncio.sleep(0)
            assert limit.when() is None
            crowd.close(GREEDY)
            await growing
            assert limit.when() is not None
    space.close()


# With an upstream.


def listed(count: int) -> bytes:
    """A list of referrers."""
    entries = [
        {"mediaType": OCI_INDEX, "digest": str(Digest.of(b"%d" % number)), "size": 5, "annotations": {"x": "x" * 200}}
        for number in range(count)
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()


def padded(size: int) -> bytes:
    """An image index of so many bytes."""
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "annotations": {"x": ""}}
    document["annotations"] = {"x": "x" * (size - len(json.dumps(document)))}
    return json.dumps(document).encode()


@pytest.fixture
async def client(liar: Liar) -> AsyncIterator[RegistryClient]:
    egress = Egress(Reach(private_addresses=True))
    origin = origin_of(liar.url)
    yield RegistryClient(Source(origin), liar.url, egress, Tokens(origin, frozenset(), lambda: None))
    await egress.close()


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
async def test_manifests_that_trickle_in_are_bounded_and_keep_no_other_group_waiting(
    liar: Liar, client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WAIT", "PATIENCE"):
        monkeypatch.setattr(document_room, name, 60.0)
    liar.offer_manifest("latest", OCI_INDEX, padded(MB))
    content = padded(SIZE_LIMIT)
    for number in range(COUNT):
        liar.offer_manifest(f"slow{number}", OCI_INDEX, content)
    hold = Hold(SIZE_LIMIT - 1_000)
    liar.behave("manifests/slow", Lie(hold=hold))
    before, _ = tracemalloc.get_traced_memory()
    slow = [
        asyncio.create_task(client.get_manifest(APP, Tag(f"slow{number}"), requester=GREEDY)) for number in range(COUNT)
    ]
    await until(lambda: tracemalloc.get_traced_memory()[0] > before + 5 * (SIZE_LIMIT - MB))
    assert (await client.get_manifest(APP, LATEST, requester=OTHER)).descriptor.size == MB
    assert tracemalloc.get_traced_memory()[0] < before + COUNT * 3 * MB
    hold.release()
    sizes = [manifest.descriptor.size for manifest in await asyncio.gather(*slow)]
    assert sizes == [SIZE_LIMIT] * COUNT


@pytest.mark.usefixtures("traced")
async def test_an_error_keeps_nothing_of_the_document_that_broke_off(liar: Liar, client: RegistryClient) -> None:
    liar.offer_manifest("latest", OCI_INDEX, padded(SIZE_LIMIT))
    liar.behave("manifests/latest", lies.short(SIZE_LIMIT - 1))
    await client.tags(APP)
    before, _ = tracemalloc.get_traced_memory()
    with pytest.raises(Corrupt) as caught:
        await client.get_manifest(APP, LATEST)
    assert tracemalloc.get_traced_memory()[0] < before + MB
    assert caught.value.reason


async def test_a_manifest_without_a_slot_is_no_broken_one(
    liar: Liar, client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document_room, "WAIT", 0.05)
    liar.offer_manifest("latest", OCI_INDEX, padded(MB))
    liar.offer_manifest("slow", OCI_INDEX, padded(SIZE_LIMIT))
    hold = Hold(SIZE_LIMIT - 1)
    liar.behave("manifests/slow", Lie(hold=hold))
    slow = [asyncio.create_task(client.get_manifest(APP, Tag("slow"), requester=GREEDY)) for _ in range(5)]
    await until(lambda: len(client._egress.documents.steps[0]._holders) == 5)
    with pytest.raises(Unavailable) as refused:
        await client.get_manifest(APP, LATEST, requester=GREEDY)
    assert isinstance(refused.value, NoRoom)
    assert not isinstance(refused.value, Corrupt)
    hold.release()
    await asyncio.gather(*slow)


@pytest.mark.parametrize(
    ("path", "lie"),
    [
        ("/referrers/", lies.answered(200, listed(100), Content_Type=OCI_INDEX)),
        ("/manifests/sha256-", lies.answered(200, listed(100), Content_Type=OCI_INDEX)),
        (
            "/manifests/latest",
            lies.answered(200, gzip.compress(padded(MB)), Content_Type=OCI_INDEX, Content_Encoding="gzip"),
        ),
        ("/tags/", lies.answered(200, json.dumps({"tags": ["v" * 100] * 5_000}).encode())),
    ],
    ids=["referrers", "referrers by tag", "gzip", "tags"],
)
async def test_what_a_document_takes_in_memory_counts(
    liar: Liar, client: RegistryClient, path: str, lie: Lie, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document_room, "WAIT", 0.05)
    crowd = Crowd(client._egress.documents)
    await crowd.grow(GREEDY, SLOT, 5)
    liar.behave(path, lie)
    wanted: dict[str, Callable[[], Awaitable[object]]] = {
        "/manifests/latest": lambda: client.get_manifest(APP, LATEST, requester=GREEDY),
        "/tags/": lambda: client.tags(APP, requester=GREEDY),
    }
    request = wanted.get(path, lambda: client.referrers(APP, Digest.of(b""), None, requester=GREEDY))
    with pytest.raises(NoRoom):
        await request()
    await crowd.leave()
    await request()
