"""Egress: who may be reached, and how failures are named."""

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from cache.upstream.egress import (
    LEAST_PIECE,
    PIECES,
    Egress,
    FailureStage,
    Response,
    body,
    body_blocking,
    raw_chunks,
    stage_of,
)
from cache.upstream.errors import Unavailable
from cache.upstream.reach import Identity, Reach, UpstreamTimings
from cache.upstream.resolver import Resolver
from cache.upstream.transport import resolve
from cache.upstream.urls import origin_of
from tests.parts import lies
from tests.parts.certs import Authority
from tests.parts.images import MB
from tests.parts.liar import Liar
from tests.parts.ports import HOST, free_port, listen
from tests.parts.processes import wait_until

Get = Callable[[Egress, str], Awaitable[int]]
MakeEgress = Callable[..., Egress]


async def get_in_task(egress: Egress, url: str) -> int:
    response = await egress.send("GET", url, {"Host": "named.example"})
    await response.aclose()
    return response.status_code


async def get_in_thread(egress: Egress, url: str) -> int:
    def get() -> int:
        response = egress.send_blocking("GET", url, {"Host": "named.example"})
        response.close()
        return response.status_code

    return await asyncio.to_thread(get)


@pytest.fixture(params=[get_in_task, get_in_thread], ids=["task", "thread"])
def get(request: pytest.FixtureRequest) -> Get:
    found: Get = request.param
    return found


@pytest.fixture
async def make_egress() -> AsyncIterator[MakeEgress]:
    made: list[Egress] = []

    def make(reach: Reach, resolver: Resolver = resolve) -> Egress:
        made.append(Egress(reach, resolver))
        return made[-1]

    yield make
    for egress in made:
        await egress.close()


def answers(*addresses: str) -> Resolver:
    return lambda host, port: list(addresses)


PRIVATE = ["127.0.0.1", "::1", "10.0.0.1", "::ffff:127.0.0.1", "0.0.0.0"]


@pytest.mark.parametrize("address", PRIVATE)
async def test_a_name_that_leads_to_a_private_address_is_not_connected_to(
    canary: Liar, make_egress: MakeEgress, get: Get, address: str
) -> None:
    egress = make_egress(Reach(), answers(address))
    with pytest.raises(Unavailable, match="not a public address"):
        await get(egress, f"http://upstream.example:{canary.port}/")


@pytest.mark.parametrize("mixed", [("8.8.8.8", "127.0.0.1"), ("127.0.0.1", "8.8.8.8")])
async def test_one_private_address_among_public_ones_is_refused(
    canary: Liar, make_egress: MakeEgress, get: Get, mixed: tuple[str, ...]
) -> None:
    egress = make_egress(Reach(), answers(*mixed))
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1 is not a public address"):
        await get(egress, f"http://upstream.example:{canary.port}/")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"])
async def test_a_private_address_in_the_url_itself_is_refused_however_it_is_written(
    canary: Liar, make_egress: MakeEgress, get: Get, host: str
) -> None:
    with pytest.raises(Unavailable):
        await get(make_egress(Reach()), f"http://{host}:{canary.port}/")


async def test_those_hosts_alone_have_private_addresses_that_are_named_for_that(
    liar: Liar, canary: Liar, make_egress: MakeEgress, get: Get
) -> None:
    egress = make_egress(Reach(private_hosts=frozenset({"own.example"})), answers("127.0.0.1"))
    assert await get(egress, f"http://own.example:{liar.port}/v2/") == 200
    with pytest.raises(Unavailable, match="not a public address"):
        await get(egress, f"http://other.example:{canary.port}/")


@pytest.mark.parametrize("reach", [Reach(discreet=True), Reach(hosts=frozenset({"own.example"}))])
async def test_nobody_is_told_where_a_name_leads_that_no_setting_has(
    make_egress: MakeEgress, get: Get, reach: Reach
) -> None:
    """By a redirect, or because users of this server name the hosts."""
    said = set()
    for found in (answers("10.1.2.3"), answers(), resolver_that_fails):
        with pytest.raises(Unavailable) as refused:
            await get(make_egress(reach, found), "http://inside.example/")
        said.add(refused.value.reason)
    assert said == {"inside.example: the name has no address on the public internet"}


def resolver_that_fails(host: str, port: int) -> list[str]:
    raise OSError("Name or service not known")


async def test_private_addresses_may_be_reached_where_that_is_meant(
    liar: Liar, make_egress: MakeEgress, get: Get
) -> None:
    egress = make_egress(Reach(private_addresses=True), answers("127.0.0.1"))
    assert await get(egress, f"http://upstream.example:{liar.port}/v2/") == 200
    assert [record.header("host") for record in liar.requests.select()] == ["named.example"]


async def test_an_address_that_refuses_gives_way_to_the_next(liar: Liar, make_egress: MakeEgress, get: Get) -> None:
    egress = make_egress(Reach(private_addresses=True), answers("127.0.0.2", "127.0.0.1"))
    assert await get(egress, f"http://upstream.example:{liar.port}/v2/") == 200


async def test_the_addresses_of_every_new_connection_are_looked_up_anew(
    liar: Liar, make_egress: MakeEgress, get: Get
) -> None:
    """A name that was public may be private the next time it is asked for."""
    told = iter([["127.0.0.2"], []])
    egress = make_egress(Reach(private_addresses=True), lambda host, port: next(told))
    with pytest.raises(Unavailable):
        await get(egress, f"http://upstream.example:{liar.port}/v2/")
    with pytest.raises(Unavailable, match="has no address"):
        await get(egress, f"http://upstream.example:{liar.port}/v2/")


@pytest.mark.parametrize("failure", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label too long")])
async def test_a_name_that_cannot_be_resolved_is_unavailable(
    make_egress: MakeEgress, get: Get, failure: Exception
) -> None:
    def fail(host: str, port: int) -> list[str]:
        raise failure

    with pytest.raises(Unavailable, match=r"upstream\.example: the name cannot be resolved"):
        await get(make_egress(Reach(), fail), "http://upstream.example/")


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
async def test_a_proxy_in_the_environment_is_ignored(
    liar: Liar, canary: Liar, make_egress: MakeEgress, get: Get, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, canary.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert await get(make_egress(Reach(private_addresses=True)), f"{liar.url}/v2/") == 200


async def test_redirects_are_not_followed_here(liar: Liar, canary: Liar, make_egress: MakeEgress, get: Get) -> None:
    liar.behave("/v2/", lies.redirected(canary.url))
    assert await get(make_egress(Reach(private_addresses=True)), f"{liar.url}/v2/") == 307


async def test_cookies_are_not_kept(liar: Liar, make_egress: MakeEgress, get: Get) -> None:
    liar.behave("/v2/", lies.answered(200, b"{}", Set_Cookie="who=you; Path=/"))
    egress = make_egress(Reach(private_addresses=True))
    await get(egress, f"{liar.url}/v2/")
    await get(egress, f"{liar.url}/v2/")
    assert [record.header("cookie") for record in liar.requests.select()] == [None, None]


async def test_a_configured_proxy_is_asked_and_gets_its_credential(
    liar: Liar, make_egress: MakeEgress, get: Get
) -> None:
    proxy = f"http://user:word@{liar.netloc}"
    egress = make_egress(Reach(frozenset({"upstream.example"}), proxy=proxy), answers())
    assert await get(egress, "http://upstream.example/v2/") == 404
    record = liar.requests.select()[0]
    assert record.path == "http://upstream.example/v2/"
    assert record.header("proxy-authorization") == "Basic dXNlcjp3b3Jk"


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://upstream.example/v2/", True),
        ("https://upstream.example:5000/v2/", True),
        ("https://token.example:8443/", True),
        ("https://token.example/", False),
        ("https://token.example:8444/", False),
        ("https://169.254.169.254/", False),
        ("https://other.upstream.example/", False),
        ("https://europe-docker.pkg.dev/", True),
        ("https://a.b.pkg.dev:8443/", True),
        ("https://pkg.dev/", False),
        ("https://evilpkg.dev/", False),
        ("https://pkg.dev.evil.example/", False),
        ("https://EUROPE.PKG.DEV/", True),
    ],
)
def test_behind_a_proxy_only_named_hosts_may_be_asked(url: str, allowed: bool, make_egress: MakeEgress) -> None:
    hosts = frozenset({"upstream.example", "token.example:8443", "*.pkg.dev"})
    assert make_egress(Reach(hosts, proxy="http://proxy.example:3128")).allows(url) is allowed
    assert make_egress(Reach(hosts)).allows(url)


async def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(
    authority: Authority, make_egress: MakeEgress, get: Get, tls_liar: Liar, tmp_path: Path
) -> None:
    private = load_pem_private_key(authority.key_file.read_bytes(), None)
    locked = BestAvailableEncryption(b"open sesame")
    (tmp_path / "key").write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
    identity = Identity(origin_of(tls_liar.url), authority.cert_file, tmp_path / "key")
    egress = make_egress(Reach(private_addresses=True, ca_file=authority.ca_file, identity=identity))
    with pytest.raises(Unavailable, match=r"client_cert .*, its client_key or the ca_file cannot be used"):
        await get(egress, f"{tls_liar.url}/v2/")
    (tmp_path / "key").write_bytes(authority.key_file.read_bytes())
    assert await get(egress, f"{tls_liar.url}/v2/") == 200


async def test_behind_a_proxy_nothing_is_sent_to_another_host(liar: Liar, make_egress: MakeEgress, get: Get) -> None:
    egress = make_egress(Reach(frozenset({"upstream.example"}), proxy=liar.url))
    with pytest.raises(Unavailable, match=r"token\.example:80 is not among the redirect_hosts"):
        await get(egress, "http://token.example/token")
    assert liar.requests.count() == 0


@pytest.mark.parametrize("host", ["\u2603.example", "[v1.x]", "a" * 70_000, "a" * 300])
async def test_a_host_that_is_none_is_unavailable(make_egress: MakeEgress, get: Get, host: str) -> None:
    with pytest.raises(Unavailable):
        await get(make_egress(Reach()), f"https://{host}/")


async def test_a_port_where_nobody_listens_is_unavailable(make_egress: MakeEgress, get: Get) -> None:
    port = free_port()
    with pytest.raises(Unavailable, match=f"127.0.0.1:{port}"):
        await get(make_egress(Reach(private_addresses=True)), f"http://127.0.0.1:{port}/")


async def test_an_answer_that_does_not_come_is_unavailable(liar: Liar, make_egress: MakeEgress, get: Get) -> None:
    liar.behave("/v2/", lies.stalled(-1))
    egress = make_egress(Reach(private_addresses=True, timings=UpstreamTimings(read=0.05)))
    with pytest.raises(Unavailable, match="did not respond in time"):
        await get(egress, f"{liar.url}/v2/")


async def test_something_that_speaks_no_http_is_unavailable(
    authority: Authority, tls_liar: Liar, make_egress: MakeEgress, get: Get
) -> None:
    with pytest.raises(Unavailable):
        await get(make_egress(Reach(private_addresses=True)), f"http://{tls_liar.netloc}/v2/")


async def test_tls_is_checked_against_the_name_that_was_asked_for(
    authority: Authority, tls_liar: Liar, make_egress: MakeEgress, get: Get
) -> None:
    trusting = make_egress(Reach(private_addresses=True, ca_file=authority.ca_file), answers("127.0.0.1"))
    assert await get(trusting, f"https://localhost:{tls_liar.port}/v2/") == 200
    with pytest.raises(Unavailable, match="certificate"):
        await get(trusting, f"https://upstream.example:{tls_liar.port}/v2/")


async def test_an_unknown_authority_is_not_trusted(tls_liar: Liar, make_egress: MakeEgress, get: Get) -> None:
    with pytest.raises(Unavailable, match="certificate"):
        await get(make_egress(Reach(private_addresses=True)), f"{tls_liar.url}/v2/")


async def test_a_ca_file_is_read_again_when_it_changes(
    tls_liar: Liar, make_egress: MakeEgress, get: Get, authority: Authority, tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    egress = make_egress(Reach(private_addresses=True, ca_file=file))
    with pytest.raises(Unavailable, match=r"ca_file .* cannot be used"):
        await get(egress, f"{tls_liar.url}/v2/")
    for age, content, works in ((1, "no certificate", False), (2, authority.ca_file.read_text(), True)):
        file.write_text(content)
        os.utime(file, (age, age))
        if works:
            assert await get(egress, f"{tls_liar.url}/v2/") == 200
        else:
            with pytest.raises(Unavailable, match="ca_file"):
                await get(egress, f"{tls_liar.url}/v2/")


@pytest.mark.parametrize(("limit", "whole"), [(1_000, True), (999, False)])
async def test_a_body_beyond_its_limit_is_none(liar: Liar, make_egress: MakeEgress, limit: int, whole: bool) -> None:
    content = bytes(1_000)
    url = f"{liar.url}/v2/any/blobs/{liar.offer_blob(content)}"
    egress = make_egress(Reach(private_addresses=True))
    expected = content if whole else None
    assert await body(await egress.send("GET", url, {}), limit, 5.0) == expected

    def read() -> bytes | None:
        return body_blocking(egress.send_blocking("GET", url, {}), limit, 5.0)

    assert await asyncio.to_thread(read) == expected


async def test_a_body_that_breaks_off_is_unavailable(liar: Liar, make_egress: MakeEgress) -> None:
    url = f"{liar.url}/v2/any/blobs/{liar.offer_blob(bytes(1_000))}"
    liar.behave("/blobs/", lies.short(500))
    egress = make_egress(Reach(private_addresses=True))
    with pytest.raises(Unavailable):
        await body(await egress.send("GET", url, {}), 10_000, 5.0)


async def test_only_the_headers_that_were_given_are_sent(liar: Liar, make_egress: MakeEgress, get: Get) -> None:
    await get(make_egress(Reach(private_addresses=True)), f"{liar.url}/v2/")
    assert {name.lower() for name, _ in liar.requests.select()[0].values} == {"host"}


# How far it came, and what is told of it.


def unknown(host: str, port: int) -> list[str]:
    raise socket.gaierror(socket.EAI_NONAME, "no such name")


@pytest.mark.parametrize(
    ("resolver", "reach", "stage"),
    [
        (unknown, Reach(), FailureStage.NAME),
        (answers(), Reach(), FailureStage.NAME),
        (answers("10.0.0.1"), Reach(), FailureStage.ADDRESS),
        (answers("127.0.0.1"), Reach(private_addresses=True), FailureStage.CONNECTION),
        (answers("127.0.0.1"), Reach(private_addresses=True, ca_file=Path("/nowhere.pem")), FailureStage.TLS),
    ],
    ids=["name", "no address", "address", "connection", "ca_file"],
)
async def test_a_failure_says_how_far_it_came(
    get: Get, make_egress: MakeEgress, resolver: Resolver, reach: Reach, stage: FailureStage
) -> None:
    with pytest.raises(Unavailable) as caught:
        await get(make_egress(reach, resolver), f"http://named.example:{free_port()}/v2/")
    assert stage_of(caught.value) is stage


async def test_an_unknown_authority_is_a_failure_of_tls(get: Get, make_egress: MakeEgress, tls_liar: Liar) -> None:
    with pytest.raises(Unavailable) as caught:
        await get(make_egress(Reach(private_addresses=True)), f"{tls_liar.url}/v2/")
    assert stage_of(caught.value) is FailureStage.TLS


async def test_what_answers_too_late_is_a_failure_of_the_answer(get: Get, make_egress: MakeEgress, liar: Liar) -> None:
    liar.behave("", lies.stalled(-1))
    reach = Reach(private_addresses=True, timings=UpstreamTimings(read=0.2))
    with pytest.raises(Unavailable) as caught:
        await get(make_egress(reach), f"{liar.url}/v2/")
    assert stage_of(caught.value) is FailureStage.RESPONSE


class Seen:
    """Traffic as it was told."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, int | None]] = []
        self.bytes = 0

    def requested(self, method: str, status: int | None) -> None:
        self.requests.append((method, status))

    def received(self, size: int) -> None:
        self.bytes += size

    def credential_refused(self) -> None:
        self.requests.append(("credential", None))


async def test_each_request_is_told_with_its_status_or_that_none_came(get: Get, liar: Liar) -> None:
    seen = Seen()
    egress = Egress(Reach(private_addresses=True), traffic=seen)
    await get(egress, f"{liar.url}/v2/")
    await get(egress, f"{liar.url}/absent")
    with pytest.raises(Unavailable):
        await get(egress, f"http://127.0.0.1:{free_port()}/")
    await egress.close()
    assert seen.requests == [("GET", 200), ("GET", 404), ("GET", None)]


# Bounds of time, and of what one upstream can take from another.


class Trickling:
    """Sends a line of a head that never ends every so often."""

    def __init__(self) -> None:
        self._listener = listen(0)
        self.url = f"http://{HOST}:{self._listener.getsockname()[1]}/"
        self._over = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._trickle, args=(connection,), daemon=True).start()

    def _trickle(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while not self._over.wait(0.02):
                connection.sendall(b"X-More: yes\r\n")


async def test_a_head_that_trickles_in_for_ever_ends(make_egress: MakeEgress, get: Get) -> None:
    upstream = Trickling()
    egress = make_egress(Reach(private_addresses=True, timings=UpstreamTimings(connect=0.2, read=0.2)))
    async with asyncio.timeout(30):
        with pytest.raises(Unavailable, match="did not respond in time"):
            await get(egress, upstream.url)
    upstream.close()


@pytest.mark.parametrize("blocking", [False, True])
async def test_a_body_that_trickles_in_for_ever_ends(liar: Liar, make_egress: MakeEgress, blocking: bool) -> None:
    url = f"{liar.url}/v2/any/blobs/{liar.offer_blob(bytes(1_000))}"
    liar.behave("/blobs/", lies.trickled(1, 0.02))
    egress = make_egress(Reach(private_addresses=True))
    async with asyncio.timeout(30):
        with pytest.raises(Unavailable, match="did not respond in time"):
            if blocking:
                await asyncio.to_thread(lambda: body_blocking(egress.send_blocking("GET", url, {}), 10_000, 0.2))
            else:
                await body(await egress.send("GET", url, {}), 10_000, 0.2)


def in_pieces(count: int, size: int, *, blocking: bool) -> Response:
    """A response whose body arrives in so many chunks."""
    pieces = [bytes(size)] * count

    async def arriving() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    content = iter(pieces) if blocking else arriving()
    return Response(200, content=content, request=httpx2.Request("GET", "https://registry.example/v2/"))


@pytest.mark.parametrize("blocking", [False, True])
async def test_a_body_in_a_flood_of_small_pieces_is_refused(blocking: bool) -> None:
    async def read(count: int, size: int) -> bytes | None:
        response = in_pieces(count, size, blocking=blocking)
        return body_blocking(response, 4 * MB, 60) if blocking else await body(response, 4 * MB, 60)

    assert await read(PIECES, 1) == bytes(PIECES)
    assert await read(3 * PIECES, LEAST_PIECE) == bytes(3 * PIECES * LEAST_PIECE)
    with pytest.raises(Unavailable, match="pieces that are too small"):
        await read(2 * PIECES, 2)


async def test_a_body_that_a_thread_reads_bit_by_bit_may_take_longer(liar: Liar, make_egress: MakeEgress) -> None:
    """The bounds are for responses that are waited for as a whole, not for a blob that arrives."""
    url = f"{liar.url}/v2/any/blobs/{liar.offer_blob(bytes(20))}"
    liar.behave("/blobs/", lies.trickled(1, 0.02))
    egress = make_egress(Reach(private_addresses=True, timings=UpstreamTimings(connect=0.05, read=0.1, body=0.05)))

    def read() -> bytes:
        response = egress.send_blocking("GET", url, {})
        try:
            return b"".join(raw_chunks(response))
        finally:
            response.close()

    assert await asyncio.to_thread(read) == bytes(20)


async def test_a_name_that_hangs_ends_in_time_and_does_not_hold_up_another_upstream(
    liar: Liar, make_egress: MakeEgress, get: Get
) -> None:
    release = threading.Event()

    def hang(host: str, port: int) -> list[str]:
        release.wait(20)
        return []

    hanging = make_egress(Reach(private_addresses=True, timings=UpstreamTimings(connect=0.2)), hang)
    other = make_egress(Reach(private_addresses=True), answers("127.0.0.1"))
    waiting = [asyncio.ensure_future(get(hanging, f"http://name{number}.example/")) for number in range(20)]
    async with asyncio.timeout(30):
        assert await get(other, f"http://upstream.example:{liar.port}/v2/") == 200
        for error in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(error, Unavailable)
    release.set()


@pytest.mark.parametrize("failure", ["refused", "no name", "500"])
async def test_a_host_that_fails_is_not_asked_until_it_may_have_recovered(
    liar: Liar, make_egress: MakeEgress, failure: str
) -> None:
    names = iter([[], [], []] if failure == "no name" else [])
    images = ("a", "b", "c", "d", "e") if failure == "500" else ("a", "a", "a")
    egress = make_egress(Reach(private_addresses=True), lambda host, port: next(names, ["127.0.0.1"]))
    url = f"http://upstream.example:{liar.port}/v2/"
    if failure == "refused":
        liar.stop()
    liar.behave("/v2/", lies.refused(500))
    for image in images:
        if failure == "500":
            await (await egress.send("GET", url, {}, image)).aclose()
        else:
            with pytest.raises(Unavailable):
                await egress.send("GET", url, {}, image)
    if failure == "500":  # a host that can be reached is probed at once
        with pytest.raises(Unavailable, match="to a probe"):
            await egress.send("GET", url, {}, "another")
    seen = liar.connections
    for _ in range(20):
        with pytest.raises(Unavailable, match="failing since"):
            await egress.send("GET", url, {}, "another")
    assert liar.connections == seen
    if failure == "refused":
        liar.start()
    liar.honest()
    await asyncio.to_thread(wait_until, lambda: not refuses(egress, url))
    assert await get_in_thread(egress, url) == 200


def refuses(egress: Egress, url: str) -> bool:
    """Whether the circuit still refuses; a probe goes out where it does not."""
    try:
        egress.send_blocking("GET", url, {}, "another").close()
    except Unavailable:
        return True
    return False


async def test_the_first_request_after_an_outage_follows_a_probe_that_no_client_chose(
    liar: Liar, make_egress: MakeEgress, get: Get
) -> None:
    egress = make_egress(Reach(private_addresses=True))
    digest = liar.offer_blob(b"content")
    url = f"{liar.url}/v2/any/name/blobs/{digest}"
    liar.stop()
    for _ in range(3):
        with pytest.raises(Unavailable):
            await get(egress, url)
    liar.start()
    liar.behave("/v2/", lies.refused(503))
    await asyncio.to_thread(wait_until, lambda: liar.requests.count() > 0 or refuses(egress, url) is None)
    assert {record.path for record in liar.requests.select()} == {"/v2/"}
    liar.honest()
    await asyncio.to_thread(wait_until, lambda: not refuses(egress, url))
    assert [record.path for record in liar.requests.select()][-2:] == ["/v2/", f"/v2/any/name/blobs/{digest}"]
    assert await get(egress, url) == 200


async def test_small_answers_do_not_wait_behind_downloads_in_threads(liar: Liar, make_egress: MakeEgress) -> None:
    url = f"{liar.url}/v2/any/blobs/{liar.offer_blob(bytes(1_000))}"
    egress = make_egress(Reach(private_addresses=True, timings=UpstreamTimings(connections=2, pool=0.1)))
    downloads = [egress.send_blocking("GET", url, {}) for _ in range(2)]
    with pytest.raises(Unavailable, match="all connections to"):
        egress.send_blocking("GET", url, {})
    egress.send_blocking("GET", f"{liar.url}/token", {}, brief=True).close()
    await (await egress.send("GET", url, {})).aclose()
    for response in downloads:
        response.close()
    for _ in range(10):  # having too many under way ourselves says nothing of the upstream
        egress.send_blocking("GET", url, {}).close()
