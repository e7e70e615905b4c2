"""Kept connections: when a connection serves a further request, and that nothing of one response reaches another."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cache.oci.media_types import OCI_MANIFEST
from cache.upstream import connection_pools, kept_connections, transport
from cache.upstream.blob_stream import KEEP_SIZE
from cache.upstream.connection_pools import KEPT, POOLS
from cache.upstream.egress import Egress, Response, body, body_blocking, drop, drop_blocking
from cache.upstream.errors import Unavailable
from cache.upstream.kept_connections import QUIET
from cache.upstream.reach import Reach, UpstreamTimings
from cache.upstream.registry_client import RegistryClient
from cache.upstream.resolver import Resolver
from cache.upstream.tokens import Tokens
from cache.upstream.transport import resolve
from cache.upstream.urls import origin_of
from cache.values import CredentialId, Part, Source
from tests.cache.samples import APP, LATEST, blob_of, manifest_of
from tests.parts import lies
from tests.parts.certs import Authority
from tests.parts.images import MB
from tests.parts.liar import Liar
from tests.parts.lies import Framing, Lie
from tests.parts.ports import free_port, listen
from tests.parts.processes import wait_until

ALICE, BOB = CredentialId("alice"), CredentialId("bob")
FORGED = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
THREADS = ThreadPoolExecutor(KEPT + 3)
MakeEgress = Callable[..., Egress]


class Requests:
    """Requests of a task or of a thread over one egress."""

    def __init__(self, egress: Egress, *, threaded: bool) -> None:
        self._egress, self._threaded = egress, threaded

    async def read(self, url: str, method: str = "GET") -> tuple[int, bytes]:
        """Status and body, read to the end."""
        if not self._threaded:
            response = await self._egress.send(method, url, {})
            return response.status_code, await body(response, MB, 20) or b""

        def get() -> tuple[int, bytes]:
            response = self._egress.send_blocking(method, url, {})
            return response.status_code, body_blocking(response, MB, 20) or b""

        return await asyncio.get_running_loop().run_in_executor(THREADS, get)

    async def drop(self, url: str, method: str = "GET", *, close: bool = False) -> Response:
        """The response, whose body is dropped; with `close` it is closed unread."""
        if not self._threaded:
            response = await self._egress.send(method, url, {})
            await (response.aclose() if close else drop(response))
            return response

        def get() -> Response:
            response = self._egress.send_blocking(method, url, {})
            if close:
                response.close()
            else:
                drop_blocking(response)
            return response

        return await asyncio.get_running_loop().run_in_executor(THREADS, get)


@pytest.fixture(params=[False, True], ids=["task", "thread"])
def threaded(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=["plain", "tls"])
def upstream(request: pytest.FixtureRequest) -> Liar:
    """A scripted upstream, once without and once with TLS."""
    found: Liar = request.getfixturevalue("liar" if request.param == "plain" else "tls_liar")
    return found


@pytest.fixture
async def make_egress(authority: Authority) -> AsyncIterator[MakeEgress]:
    made: list[Egress] = []

    def make(resolver: Resolver = resolve, **more: object) -> Egress:
        reach = {"private_addresses": True, "ca_file": authority.ca_file, **more}
        made.append(Egress(Reach(**reach), resolver))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for egress in made:
        await egress.close()


@pytest.fixture
def requests(make_egress: MakeEgress, threaded: bool) -> Requests:
    return Requests(make_egress(), threaded=threaded)


def connections(liar: Liar) -> list[int]:
    """The number of the connection over which each request came."""
    return [record.connection for record in liar.requests.select()]


# What is kept.


@pytest.mark.parametrize(
    "lie",
    [Lie(), lies.chunked(), lies.refused(404), lies.refused(500), lies.redirected("/elsewhere")],
    ids=["length", "chunked", "404", "500", "redirect"],
)
async def test_a_connection_is_kept_after_a_response_that_was_read_to_its_end(
    upstream: Liar, requests: Requests, lie: Lie
) -> None:
    upstream.behave("/v2/", lie)
    first = await requests.read(f"{upstream.url}/v2/")
    assert await requests.read(f"{upstream.url}/v2/") == first
    assert connections(upstream) == [1, 1]


@pytest.mark.parametrize(
    ("method", "lie"),
    [("GET", lies.refused(401)), ("GET", lies.redirected("/elsewhere")), ("HEAD", Lie()), ("GET", Lie(status=304))],
    ids=["401", "redirect", "HEAD", "304"],
)
async def test_a_dropped_response_keeps_its_connection_where_its_body_is_short(
    upstream: Liar, requests: Requests, method: str, lie: Lie, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_connections, "QUIET", 0.0)
    upstream.behave("/v2/", lie)
    for _ in range(3):
        await requests.drop(f"{upstream.url}/v2/", method)
    assert connections(upstream) == [1, 1, 1]


async def test_a_dropped_response_with_a_body_that_does_not_come_is_not_waited_for(
    upstream: Liar, requests: Requests
) -> None:
    lie = upstream.behave("/v2/", lies.stalled(1))
    async with asyncio.timeout(15):
        await requests.drop(f"{upstream.url}/v2/")
    assert lie.hold is not None and not lie.hold.released


BLOBS = {size: blob_of(size) for size in (0, 1000, MB, KEEP_SIZE, KEEP_SIZE + 1)}


async def download_all(upstream: Liar, egress: Egress) -> list[int]:
    """Download a blob of each size, and a part of one; return the connections over which they came."""
    for content, _ in BLOBS.values():
        upstream.offer_blob(content)
    client = client_of(upstream, egress)

    def download(size: int, part: Part | None = None) -> bytes:
        buffer = memoryview(bytearray(MB))
        with client.open_blob(APP, BLOBS[size][1], part) as stream:
            return b"".join(bytes(buffer[:count]) for count in iter(lambda: stream.receive_into(buffer), 0))

    for size, (content, _) in BLOBS.items():
        assert await asyncio.to_thread(download, size) == content
    part = await asyncio.to_thread(download, KEEP_SIZE + 1, Part(5, MB, KEEP_SIZE + 1))
    assert part == BLOBS[KEEP_SIZE + 1][0][5:MB]
    return connections(upstream)


async def test_a_connection_is_kept_after_a_blob_of_any_length(upstream: Liar, make_egress: MakeEgress) -> None:
    assert await download_all(upstream, make_egress()) == [1, 1, 1, 1, 1, 1]


async def test_where_the_library_cannot_be_told_what_was_read_a_long_blob_closes_its_connection(
    upstream: Liar, make_egress: MakeEgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_connections, "_body_count", lambda connection: None)
    assert await download_all(upstream, make_egress()) == [1, 1, 1, 1, 1, 2]


async def test_bytes_after_a_blob_are_not_the_next_response(upstream: Liar, make_egress: MakeEgress) -> None:
    content, digest = BLOBS[MB]
    upstream.offer_blob(content)
    upstream.behave("/blobs/", lies.surplus(FORGED).only(1))
    client = client_of(upstream, make_egress())

    def download() -> bytes:
        buffer = memoryview(bytearray(100_000))
        with client.open_blob(APP, digest) as stream:
            return b"".join(bytes(buffer[:count]) for count in iter(lambda: stream.receive_into(buffer), 0))

    assert [await asyncio.to_thread(download) for _ in range(2)] == [content, content]
    assert connections(upstream) == [1, 2]


async def test_a_tag_is_checked_again_over_the_connection_of_the_last_check(
    upstream: Liar, make_egress: MakeEgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_connections, "QUIET", 0.0)
    manifest = manifest_of("one")
    upstream.offer_manifest("latest", OCI_MANIFEST, manifest.raw)
    client = client_of(upstream, make_egress())
    assert await client.get_manifest(APP, LATEST) == manifest
    for _ in range(3):
        assert (await client.head_manifest(APP, LATEST)) is not None
    assert len(set(connections(upstream))) == 1


# What is not kept.


UNFRAMED = {
    "until the end": lies.until_close(),
    "Connection: close that does not close": Lie(headers={"Connection": "close"}),
    "surplus": lies.surplus(FORGED),
    "two lengths": Lie(framing=Framing.CHUNKED, headers={"Content-Length": "2"}),
}


@pytest.mark.parametrize("lie", UNFRAMED.values(), ids=UNFRAMED.keys())
async def test_a_response_whose_end_is_not_certain_closes_its_connection(
    upstream: Liar, requests: Requests, lie: Lie
) -> None:
    upstream.behave("/v2/", lie.only(1))
    await requests.read(f"{upstream.url}/v2/")
    assert await requests.read(f"{upstream.url}/v2/") == (200, b"{}")
    assert connections(upstream) == [1, 2]


@pytest.mark.parametrize(("method", "status"), [("HEAD", None), ("GET", 204), ("GET", 304)], ids=["HEAD", "204", "304"])
async def test_a_body_where_none_may_be_is_not_the_next_response(
    upstream: Liar, requests: Requests, method: str, status: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_connections, "QUIET", 0.0)
    upstream.behave("/v2/", Lie(status=status, surplus=FORGED, times=1))
    await requests.drop(f"{upstream.url}/v2/", method)
    assert await requests.read(f"{upstream.url}/v2/") == (200, b"{}")
    assert connections(upstream) == [1, 2]


async def test_a_response_that_was_not_read_closes_its_connection(upstream: Liar, requests: Requests) -> None:
    await requests.drop(f"{upstream.url}/v2/", close=True)
    assert await requests.read(f"{upstream.url}/v2/") == (200, b"{}")
    assert connections(upstream) == [1, 2]


async def test_a_response_without_body_leaves_time_for_one_that_comes_all_the_same(
    upstream: Liar, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_connections, "QUIET", 3600.0)
    await requests.drop(f"{upstream.url}/v2/", "HEAD")
    await requests.read(f"{upstream.url}/v2/")
    await requests.read(f"{upstream.url}/v2/")
    assert connections(upstream) == [1, 2, 2]
    assert QUIET <= 0.1


async def test_an_origin_that_sent_surplus_bytes_has_no_connection_kept(upstream: Liar, requests: Requests) -> None:
    upstream.behave("/v2/", lies.surplus(FORGED).only(1))
    for _ in range(3):
        await requests.read(f"{upstream.url}/v2/")
    assert connections(upstream) == [1, 2, 3]


async def test_what_arrives_between_two_requests_is_no_response(upstream: Liar, requests: Requests) -> None:
    lie = upstream.behave("/v2/", lies.late_surplus(FORGED).only(1))
    assert await requests.read(f"{upstream.url}/v2/") == (200, b"{}")
    assert lie.late is not None
    lie.late.release()
    assert upstream.surplus_arrived.wait(30)
    assert await requests.read(f"{upstream.url}/v2/") == (200, b"{}")
    assert connections(upstream) == [1, 2]


# Connections that end.


async def test_a_connection_that_was_closed_between_two_requests_fails_no_request(
    upstream: Liar, requests: Requests
) -> None:
    lie = upstream.behave("/v2/", lies.closed_when_idle().only(1))
    await requests.read(f"{upstream.url}/v2/")
    assert lie.closing is not None
    lie.closing.release()
    wait_until(lambda: upstream.open_connections == 0)
    assert await requests.read(f"{upstream.url}/v2/") == (200, b"{}")
    assert connections(upstream) == [1, 2]


LOST = {
    "closed": lies.closed_without_response(),
    "reset": lies.reset_without_response(),
    "noise": lies.noise(),
    "head cut": Lie(status=200, silent=True, surplus=b"HTTP/1.1 200 OK\r\nContent-Le", later=True),
}


@pytest.mark.parametrize("lie", LOST.values(), ids=LOST.keys())
async def test_a_request_that_a_kept_connection_fails_is_sent_over_a_new_one(
    upstream: Liar, requests: Requests, lie: Lie
) -> None:
    upstream.behave("/v2/", lie)
    for _ in range(3):
        assert await requests.read(f"{upstream.url}/v2/") == (200, b"{}")
    assert connections(upstream) == [1, 1, 2, 2, 3]


async def test_a_request_is_sent_once_more_and_not_over_every_kept_connection(
    upstream: Liar, make_egress: MakeEgress, threaded: bool
) -> None:
    requests = Requests(make_egress(), threaded=threaded)
    hold = upstream.behave("/v2/", lies.stalled(1)).hold
    assert hold is not None
    several = [asyncio.create_task(requests.read(f"{upstream.url}/v2/")) for _ in range(4)]
    await asyncio.to_thread(upstream.requests.wait_for, 4)
    hold.release()
    await asyncio.gather(*several)
    upstream.honest()
    upstream.behave("/v2/", Lie(silent=True))
    with pytest.raises(Unavailable):
        await requests.read(f"{upstream.url}/v2/")
    assert upstream.requests.count() == 4 + 2


async def test_a_new_connection_that_fails_is_not_tried_again(upstream: Liar, requests: Requests) -> None:
    upstream.behave("/v2/", Lie(silent=True))
    with pytest.raises(Unavailable):
        await requests.read(f"{upstream.url}/v2/")
    assert connections(upstream) == [1]


async def test_a_response_that_is_late_is_not_taken_for_the_next(
    upstream: Liar, make_egress: MakeEgress, threaded: bool
) -> None:
    requests = Requests(make_egress(timings=UpstreamTimings(read=0.3)), threaded=threaded)
    await requests.read(f"{upstream.url}/v2/")
    lie = upstream.behave("/v2/late", lies.stalled(-1))
    with pytest.raises(Unavailable, match="did not respond in time"):
        await requests.read(f"{upstream.url}/v2/late")
    assert lie.hold is not None
    lie.hold.release()
    patient = Requests(make_egress(), threaded=threaded)
    assert await patient.read(f"{upstream.url}/v2/") == (200, b"{}")
    assert upstream.requests.select()[-1].connection == 2


async def test_a_lost_peer_is_noticed_by_the_system(upstream: Liar, make_egress: MakeEgress, threaded: bool) -> None:
    response = await Requests(make_egress(), threaded=threaded).drop(f"{upstream.url}/v2/")
    connection = response.extensions["network_stream"].get_extra_info("socket")
    option = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert option == UpstreamTimings().connect * 1000


# Whose connection it is.


async def test_no_connection_serves_two_credentials(upstream: Liar, make_egress: MakeEgress, threaded: bool) -> None:
    egress = make_egress()
    for credential in (ALICE, BOB, ALICE, BOB):
        await Requests(egress.with_credential(credential), threaded=threaded).read(f"{upstream.url}/v2/")
    assert connections(upstream) == [1, 2, 1, 2]


async def test_surplus_for_one_credential_spoils_no_response_to_another(
    upstream: Liar, make_egress: MakeEgress, threaded: bool
) -> None:
    egress = make_egress()
    lie = upstream.behave("/v2/", lies.late_surplus(FORGED).only(1))
    await Requests(egress.with_credential(ALICE), threaded=threaded).read(f"{upstream.url}/v2/")
    assert lie.late is not None
    lie.late.release()
    assert upstream.surplus_arrived.wait(30)
    assert await Requests(egress.with_credential(BOB), threaded=threaded).read(f"{upstream.url}/v2/") == (200, b"{}")


async def test_every_client_of_a_credential_uses_connections_of_its_own(
    upstream: Liar, make_egress: MakeEgress
) -> None:
    manifest = manifest_of("one")
    upstream.offer_manifest("latest", OCI_MANIFEST, manifest.raw)
    egress = make_egress()
    alice, bob = client_of(upstream, egress, ALICE), client_of(upstream, egress, BOB)
    for client in (alice, bob, alice, bob):
        await client.get_manifest(APP, LATEST)
    of_alice, of_bob, *later = connections(upstream)
    assert later == [of_alice, of_bob] and of_alice != of_bob


async def test_a_kept_connection_stays_at_the_address_that_was_checked(
    upstream: Liar, make_egress: MakeEgress, threaded: bool
) -> None:
    """DNS rebinding: the name leads elsewhere later, and a new connection is refused there."""
    told = iter([["127.0.0.1"]])
    egress = make_egress(lambda host, port: next(told, []))
    requests = Requests(egress, threaded=threaded)
    url = f"{upstream.url.replace('127.0.0.1', 'localhost')}/v2/"
    await requests.read(url)
    await requests.read(url)
    await requests.drop(url, close=True)
    with pytest.raises(Unavailable, match="has no address"):
        await requests.read(url)
    assert connections(upstream) == [1, 1, 1]


# Bounds.


async def test_no_more_than_a_few_idle_connections_are_kept(upstream: Liar, requests: Requests) -> None:
    hold = upstream.behave("/v2/", lies.stalled(1)).hold
    assert hold is not None
    several = [asyncio.create_task(requests.read(f"{upstream.url}/v2/")) for _ in range(KEPT + 3)]
    await asyncio.to_thread(upstream.requests.wait_for, KEPT + 3)
    hold.release()
    await asyncio.gather(*several)
    wait_until(lambda: upstream.open_connections == KEPT)


async def test_connections_of_credentials_that_are_not_used_are_closed(
    liar: Liar, make_egress: MakeEgress, threaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_pools, "SWEEP_EVERY", 0.05)
    monkeypatch.setattr(kept_connections, "IDLE_LIMIT", 3600.0)  # they are not closed for their age
    egress = make_egress()
    for number in range(POOLS + 2):
        credential = egress.with_credential(CredentialId(f"user{number}"))
        await Requests(credential, threaded=threaded).read(f"{liar.url}/v2/")
    await asyncio.to_thread(wait_until, lambda: liar.open_connections == POOLS)


async def test_an_idle_connection_is_closed_after_a_time(
    upstream: Liar, make_egress: MakeEgress, threaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kept_connections.IDLE_LIMIT + connection_pools.SWEEP_EVERY <= 30
    monkeypatch.setattr(kept_connections, "IDLE_LIMIT", 0.1)
    monkeypatch.setattr(connection_pools, "SWEEP_EVERY", 0.05)
    await Requests(make_egress(), threaded=threaded).read(f"{upstream.url}/v2/")
    await asyncio.to_thread(wait_until, lambda: upstream.connections == 1 and upstream.open_connections == 0)


async def test_closing_an_egress_closes_its_idle_connections(
    upstream: Liar, make_egress: MakeEgress, threaded: bool
) -> None:
    egress = make_egress()
    await Requests(egress, threaded=threaded).read(f"{upstream.url}/v2/")
    await egress.close()
    await asyncio.to_thread(wait_until, lambda: upstream.open_connections == 0)


# Connections that are opened ahead.


async def test_connections_for_downloads_are_opened_ahead(upstream: Liar, make_egress: MakeEgress) -> None:
    egress = make_egress()
    egress.open_ahead(f"{upstream.url}/")
    await asyncio.to_thread(wait_until, lambda: opened(upstream) == KEPT)
    assert await Requests(egress, threaded=True).read(f"{upstream.url}/v2/") == (200, b"{}")
    assert upstream.connections == KEPT


async def test_a_manifest_is_requested_while_connections_for_its_blobs_are_opened(
    upstream: Liar, make_egress: MakeEgress
) -> None:
    manifest = manifest_of("one")
    upstream.offer_manifest("latest", OCI_MANIFEST, manifest.raw)
    assert await client_of(upstream, make_egress()).get_manifest(APP, LATEST) == manifest
    await asyncio.to_thread(wait_until, lambda: upstream.connections == 1 + KEPT)


async def test_the_manifest_is_requested_before_connections_are_opened_ahead(
    upstream: Liar, make_egress: MakeEgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    send = Egress.send

    async def noted(self: Egress, *words: Any, **more: Any) -> Response:
        calls.append("request")
        return await send(self, *words, **more)

    monkeypatch.setattr(Egress, "send", noted)
    monkeypatch.setattr(Egress, "open_ahead", lambda *_: calls.append("open ahead"))
    upstream.offer_manifest("latest", OCI_MANIFEST, manifest_of("one").raw)
    await client_of(upstream, make_egress()).get_manifest(APP, LATEST)
    assert calls == ["request", "open ahead"]


async def test_no_connection_is_opened_ahead_to_a_host_that_is_near(
    upstream: Liar, make_egress: MakeEgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "FAR", 1000.0)
    egress = make_egress()
    await Requests(egress, threaded=False).read(f"{upstream.url}/v2/")
    egress.open_ahead(f"{upstream.url}/")
    assert not [thread for thread in threading.enumerate() if thread.name == "open ahead"]
    assert upstream.connections == 1


async def test_a_connection_that_was_opened_ahead_serves_its_credential_alone(
    upstream: Liar, make_egress: MakeEgress
) -> None:
    egress = make_egress()
    egress.with_credential(ALICE).open_ahead(f"{upstream.url}/")
    await asyncio.to_thread(wait_until, lambda: opened(upstream) == KEPT)
    await Requests(egress.with_credential(BOB), threaded=True).read(f"{upstream.url}/v2/")
    assert upstream.connections == KEPT + 1


async def test_no_connection_is_opened_ahead_to_a_private_address(canary: Liar, make_egress: MakeEgress) -> None:
    egress = make_egress(lambda host, port: ["127.0.0.1"], private_addresses=False)
    egress.open_ahead(f"http://upstream.example:{canary.port}/")
    await asyncio.to_thread(
        wait_until, lambda: not [thread for thread in threading.enumerate() if thread.name == "open ahead"]
    )
    assert canary.connections == 0


async def test_what_arrives_before_the_first_request_is_no_response(make_egress: MakeEgress) -> None:
    port = free_port()
    listener = listen(port)
    accepted: list[socket.socket] = []

    def accept() -> None:
        for number in range(KEPT + 1):
            connection, _ = listener.accept()
            accepted.append(connection)
            if number == KEPT:
                connection.recv(65_536)
            connection.sendall(FORGED if number < KEPT else FORGED.replace(b"forged", b"honest"))

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    egress = make_egress()
    egress.open_ahead(f"http://127.0.0.1:{port}/")
    await asyncio.to_thread(wait_until, lambda: len(accepted) == KEPT)
    assert await Requests(egress, threaded=True).read(f"http://127.0.0.1:{port}/v2/") == (200, b"honest")
    for connection in (listener, *accepted):
        connection.close()
    thread.join(10)


async def test_a_request_to_a_far_host_waits_for_a_connection_that_is_about_to_be_free(
    upstream: Liar, make_egress: MakeEgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_pools, "LONGEST_PATIENCE", 100.0)
    monkeypatch.setattr(connection_pools.Distances, "find", lambda self, origin: 100.0)
    requests = Requests(make_egress(), threaded=True)
    hold = upstream.behave("/v2/", lies.stalled(1)).hold
    assert hold is not None
    several = [asyncio.create_task(requests.read(f"{upstream.url}/v2/")) for _ in range(KEPT)]
    await asyncio.to_thread(upstream.requests.wait_for, KEPT)
    several += [asyncio.create_task(requests.read(f"{upstream.url}/v2/")) for _ in range(3)]
    await asyncio.sleep(0)
    hold.release()
    assert await asyncio.gather(*several) == [(200, b"{}")] * (KEPT + 3)
    assert upstream.connections == KEPT


def opened(upstream: Liar) -> int:
    """Connections that no thread opens any more."""
    opening = any(thread.name == "open ahead" for thread in threading.enumerate())
    return 0 if opening else upstream.connections


def client_of(upstream: Liar, egress: Egress, credential: CredentialId = ALICE) -> RegistryClient:
    source = Source(origin_of(upstream.url), credential)
    return RegistryClient(source, upstream.url, egress, Tokens(source.origin, frozenset(), lambda: None))
