"""Bodies of pushed manifests: large ones wait for one of few places, and for their turn, fairly by people."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.types import Message

from cache.oci.errors import Busy
from cache.oci.manifest import SIZE_LIMIT
from gateway.auth.principal import Principal, PrincipalKind
from gateway.v2 import pushed_documents
from gateway.v2.pushed_documents import FREE, PLACES, SPARE_PLACES, PushedDocuments
from tests.gateway.v2.pushing import image, open_surface
from tests.parts.images import digest_of

NAME = "team/app/image"
GREEDY, OTHER = (Principal(PrincipalKind.DEPLOY_TOKEN, name) for name in ("greedy", "other"))


class Pushes:
    """Pushes of manifests of which one byte is still to come, until they are told to complete."""

    def __init__(self) -> None:
        self.documents = PushedDocuments()
        self.complete = asyncio.Event()
        self.reading: list[Principal] = []
        self.storing: list[Principal] = []
        self.refused: list[Principal] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def begin(self, who: Principal, count: int, size: int = SIZE_LIMIT, stated: bool = True) -> None:
        """Begin pushes, and return when each of them holds all bytes but one, or waits."""
        self.tasks += [asyncio.create_task(self._push(who, size, stated)) for _ in range(count)]
        await self.settle()

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def _push(self, who: Principal, size: int, stated: bool) -> None:
        sent = 0

        async def receive() -> Message:
            nonlocal sent
            sent += 1
            if sent == 1:
                if stated:
                    self.reading.append(who)
                return {"type": "http.request", "body": b" " * (size - 1), "more_body": True}
            if not stated:
                self.reading.append(who)
            await self.complete.wait()
            return {"type": "http.request", "body": b" ", "more_body": False}

        header = (b"content-length", b"%d" % size) if stated else (b"transfer-encoding", b"chunked")
        request = Request({"type": "http", "headers": [header], "extensions": {}}, receive)
        try:
            async with self.documents.received(request, who):
                self.storing.append(who)
                await asyncio.Event().wait()
        except Busy:
            self.refused.append(who)

    async def leave(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.fixture
async def pushes() -> AsyncIterator[Pushes]:
    async with AsyncExitStack() as ended:
        pushes = Pushes()
        ended.push_async_callback(pushes.leave)
        yield pushes


@pytest.mark.parametrize("stated", [True, False], ids=["stated", "chunked"])
async def test_large_manifests_wait_before_they_are_read_and_nobody_takes_all_places(
    pushes: Pushes, stated: bool
) -> None:
    await pushes.begin(GREEDY, 100, stated=stated)
    assert 0 < len(pushes.reading) < PLACES
    await pushes.begin(OTHER, 1, stated=stated)
    assert pushes.reading.count(OTHER) == 1
    for number in range(50):
        await pushes.begin(Principal(PrincipalKind.DEPLOY_TOKEN, str(number)), 1)
    assert len(pushes.reading) == PLACES + SPARE_PLACES


async def test_small_manifests_wait_for_nothing(pushes: Pushes) -> None:
    await pushes.begin(GREEDY, 100)
    pushes.complete.set()
    await pushes.begin(GREEDY, 100, FREE)
    assert len(pushes.storing) == 100 + 1


async def test_one_large_manifest_of_a_person_is_stored_at_a_time_and_one_of_another(pushes: Pushes) -> None:
    pushes.complete.set()
    await pushes.begin(GREEDY, 100)
    await pushes.begin(OTHER, 3)
    assert pushes.storing == [GREEDY, OTHER]
    for task in (pushes.tasks[0], pushes.tasks[100]):
        task.cancel()
    await pushes.settle()
    assert len(pushes.storing) == 4


@pytest.mark.parametrize("complete", [False, True], ids=["for a place", "for its turn"])
async def test_a_large_manifest_that_waits_too_long_is_refused(monkeypatch: pytest.MonkeyPatch, complete: bool) -> None:
    monkeypatch.setattr(pushed_documents, "WAIT", 0.01)
    pushes = Pushes()
    if complete:
        pushes.complete.set()
    await pushes.begin(GREEDY, 30)
    async with asyncio.timeout(30):
        await asyncio.wait(pushes.tasks, return_when=asyncio.FIRST_COMPLETED)
    assert pushes.refused
    await pushes.leave()
    assert GREEDY in (pushes.storing if complete else pushes.reading)


@pytest.mark.parametrize("places", ["PLACES", "none to store"])
async def test_a_client_is_told_when_to_push_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, places: str
) -> None:
    monkeypatch.setattr(pushed_documents, "WAIT", 0.01)
    if places == "PLACES":
        monkeypatch.setattr(pushed_documents, "PLACES", 0)
        monkeypatch.setattr(pushed_documents, "SPARE_PLACES", 0)
    else:
        monkeypatch.setattr(pushed_documents, "STORED_AT_ONCE", 0)
        monkeypatch.setattr(pushed_documents, "SPARE_STORED", 0)
    async with open_surface(tmp_path / "data") as surface:
        raw = image(await surface.push_blob(NAME, b"config"))
        refused = await surface.put_manifest(NAME, "large", raw + b" " * FREE)
        assert (refused.status, refused.error["code"], refused.headers["retry-after"]) == (503, "UNAVAILABLE", "5")
        assert (await surface.put_manifest(NAME, "small", raw)).status == 201


async def test_a_refusal_names_no_more_than_twenty_missing_references(tmp_path: Path) -> None:
    async with open_surface(tmp_path / "data") as surface:
        raw = image(*(digest_of(b"%d" % number) for number in range(1000)))
        refused = await surface.put_manifest(NAME, "missing", raw)
    assert (refused.status, refused.error["code"]) == (404, "MANIFEST_BLOB_UNKNOWN")
    assert str(refused.error["message"]).count("sha256:") == 20
    assert "1000 references" in refused.error["message"]
    assert refused.error["message"].endswith("and 980 more")
