"""A refused body is read on within bounds, so that the client gets its response."""

import asyncio
from collections.abc import Sequence

import pytest
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from gateway.http.drain import DEFAULT_DRAIN_LIMITS, DrainedRefusals, DrainLimits
from tests.conftest import GatewayFactory
from tests.gateway.asgi import Client, Exchange, scope_of
from tests.parts import raw
from tests.parts.liar import Liar

BODY = [b"x" * 65_536] * 16
DECLARED = ("Content-Length", str(16 * 65_536))
CHUNKED = ("Transfer-Encoding", "chunked")


class Refusing:
    """An app that responds at once; `unread_at` records how much of the body was left when each message was sent."""

    def __init__(
        self,
        *headers: tuple[str, str],
        body: Sequence[bytes] = BODY,
        after: int = 0,
        limits: DrainLimits = DEFAULT_DRAIN_LIMITS,
    ) -> None:
        self.client = Client(scope_of("PUT", "/v2/x", headers), body)
        self.unread_at: list[tuple[str, bool, int]] = []
        self._after = after
        self._limits = limits
        self.client.watch = self._note

    async def request(self) -> Exchange:
        async with asyncio.timeout(10):
            return await self.client.request(DrainedRefusals(self._refuse, self._limits))

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(self._after):
            await receive()
        await Response("no", 405)(scope, receive, send)

    async def _note(self, message: Message) -> None:
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        self.unread_at.append((message["type"], last, len(self.client.unread)))


@pytest.mark.parametrize("framing", [DECLARED, CHUNKED])
@pytest.mark.parametrize("after", [0, 3])
async def test_the_answer_comes_first_and_ends_when_the_body_was_read(framing: tuple[str, str], after: int) -> None:
    refusing = Refusing(framing, after=after)
    found = await refusing.request()
    assert (found.status, found.body, found.complete) == (405, b"no", True)
    assert refusing.unread_at == [
        ("http.response.start", False, 16 - after),
        ("http.response.body", False, 16 - after),
        ("http.response.body", True, 0),
    ]


async def test_a_body_that_was_read_is_not_waited_for_again() -> None:
    refusing = Refusing(DECLARED, after=16)
    assert (await refusing.request()).complete
    assert refusing.unread_at[-1] == ("http.response.body", True, 0)


@pytest.mark.parametrize("headers", [(), (("Content-Length", "0"),)], ids=["none", "empty"])
async def test_a_request_without_a_body_is_not_waited_for(headers: Sequence[tuple[str, str]]) -> None:
    refusing = Refusing(*headers, body=[])
    assert (await refusing.request()).complete


async def test_a_client_that_leaves_while_it_is_drained_ends_the_request() -> None:
    refusing = Refusing(DECLARED, body=[])
    refusing.client.leave()
    assert (await refusing.request()).status == 405


async def test_a_body_without_end_is_read_up_to_the_limit() -> None:
    refusing = Refusing(CHUNKED, limits=DrainLimits(bytes=5 * 65_536))
    assert (await refusing.request()).complete
    assert refusing.unread_at[-1] == ("http.response.body", True, 11)


async def test_a_body_that_does_not_come_is_waited_for_in_vain_only_so_long() -> None:
    assert (await Refusing(DECLARED, body=[], limits=DrainLimits(seconds=0.02)).request()).complete


def test_a_push_of_a_big_body_to_a_proxied_name_gets_its_answer(gateway: GatewayFactory, canary: Liar) -> None:
    server = gateway({"upstreams": {"docker.io": canary.settings()}})
    for path in ("library/x/manifests/latest", "library/x/blobs/uploads/0b5b1e?digest=sha256:" + 64 * "a"):
        for framing in ({}, {"Transfer-Encoding": "chunked"}, {"Connection": "keep-alive"}):
            body = bytes(20_000_000)
            if "Transfer-Encoding" in framing:
                body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
            found = raw.request("PUT", server.proxied_url(path), framing, body, timeout=15)
            assert (found.status, found.complete) == (405, True)
            assert b"UNSUPPORTED" in found.body
