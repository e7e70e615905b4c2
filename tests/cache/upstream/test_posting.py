"""Poster: whom it reaches, whom it does not, and what a receiver cannot make it do."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cache.upstream.egress import FailureStage, stage_of
from cache.upstream.errors import Unavailable
from cache.upstream.posting import Poster, PostingRules
from cache.upstream.resolver import Resolver
from cache.upstream.transport import resolve
from tests.parts.certs import Authority
from tests.parts.ports import HOST
from tests.parts.receiver import Receiver, receiving


class Posters:
    """Makes posters, and closes them."""

    def __init__(self) -> None:
        self.made: list[Poster] = []

    def make(self, *private: str, resolver: Resolver = resolve, timeout: float = 10.0) -> Poster:
        self.made.append(Poster(PostingRules(frozenset(private)), resolver, timeout))
        return self.made[-1]


@pytest.fixture
async def posters() -> AsyncIterator[Posters]:
    posters = Posters()
    yield posters
    for poster in posters.made:
        await poster.close()


async def post(poster: Poster, url: str, *, verify: bool = True) -> int:
    return await poster.post(url, {"X-Gitlab-Token": "secret"}, b"{}", verify=verify, owner="hook")


async def test_a_host_that_is_named_is_sent_the_document_over_a_connection_of_its_own(posters: Posters) -> None:
    async with receiving(204) as receiver:
        poster = posters.make(HOST)
        assert [await post(poster, receiver.url), await post(poster, receiver.url)] == [204, 204]
        first, _ = await receiver.wait_for(2)
    assert (first.path, first.body, first.headers["x-gitlab-token"]) == ("/hook", b"{}", "secret")
    assert first.headers["connection"] == "close" and "cookie" not in first.headers


async def refused(poster: Poster, url: str) -> FailureStage:
    with pytest.raises(Unavailable) as failed:
        await post(poster, url)
    assert "secret" not in failed.value.reason
    return stage_of(failed.value)


async def test_an_address_that_is_not_public_is_not_connected_to(posters: Posters) -> None:
    async with receiving() as receiver:
        assert await refused(posters.make(), receiver.url) is FailureStage.ADDRESS
        inward = posters.make(resolver=lambda host, port: ["8.8.8.8", HOST])
        assert await refused(inward, f"http://hooks.example:{receiver.port}/") is FailureStage.ADDRESS
        other = posters.make("other.example")
        assert await refused(other, receiver.url) is FailureStage.ADDRESS
        assert receiver.requests == []


async def test_the_address_that_was_checked_is_the_one_that_is_connected_to(posters: Posters) -> None:
    answers = [[HOST], ["127.0.0.2"]]
    async with receiving() as receiver:
        poster = posters.make("hooks.example", resolver=lambda host, port: answers.pop(0))
        assert await post(poster, f"http://hooks.example:{receiver.port}/") == 200
        assert len(answers) == 1, "the name was looked up once"
        assert receiver.requests[0].headers["host"] == f"hooks.example:{receiver.port}"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(posters: Posters, status: int) -> None:
    async with receiving() as inside, receiving(status, location=inside.url) as receiver:
        assert await post(posters.make(HOST), receiver.url) == status
        assert inside.requests == []


async def test_a_receiver_that_stalls_is_left_in_time(posters: Posters) -> None:
    async with receiving(None) as receiver:
        with pytest.raises(Unavailable, match="did not respond in time"):
            await post(posters.make(HOST, timeout=0.3), receiver.url)
        assert len(receiver.requests) == 1


async def test_a_receiver_that_sends_its_head_for_ever_is_left_in_time(posters: Posters) -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not writer.is_closing():
                writer.write(b"H")
                await writer.drain()
                await asyncio.sleep(0.02)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(trickle, HOST, 0)
    async with server:
        url = f"http://{HOST}:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(Unavailable):
            async with asyncio.timeout(5):
                await post(posters.make(HOST, timeout=0.3), url)


@pytest.mark.parametrize("url", ["ftp://a.example/", "no url", "http://", "http://1.2.3.999/"])
async def test_what_is_no_url_is_refused(posters: Posters, url: str) -> None:
    with pytest.raises(Unavailable):
        await post(posters.make(), url)


async def test_a_header_that_cannot_be_sent_is_a_failure_as_others_are(posters: Posters) -> None:
    sent = {"X-Gitlab-Token": "gehe\N{LATIN SMALL LETTER I WITH DIAERESIS}m"}
    with pytest.raises(Unavailable):
        await posters.make(HOST).post(f"http://{HOST}/", sent, b"{}", verify=True, owner="hook")


async def test_a_certificate_is_checked_unless_the_owner_wants_none_of_it(posters: Posters, tmp_path: Path) -> None:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, HOST, 0, ssl=Authority(tmp_path).server_context())
    async with server:
        url, poster = f"https://{HOST}:{server.sockets[0].getsockname()[1]}/", posters.make(HOST)
        assert await refused(poster, url) is FailureStage.TLS
        assert await post(poster, url, verify=False) == 200
