"""Requests that come back to this server are refused, and others are sent on in the names of all gateways."""

import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs

from cache.upstream.loops import GATEWAYS_LIMIT, LOOP_HEADER, loop_headers
from gateway.http import own_requests
from gateway.http.own_requests import OwnRequests
from tests.gateway.asgi import Client, Exchange, scope_of

THIS, OTHER, THIRD = (f"registry-gateway-{number:016x}" for number in (1, 2, 3))


async def sent_on(scope: Scope, receive: Receive, send: Send) -> None:
    await Response(loop_headers(THIS)[LOOP_HEADER])(scope, receive, send)


async def request(*values: str) -> Exchange:
    headers = [(LOOP_HEADER, value) for value in values]
    return await Client(scope_of("GET", "/v2/", headers)).request(OwnRequests(sent_on, THIS))


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ((), THIS),
        (("cloudflare, cdn.example",), THIS),
        ((f"{OTHER}, {THIRD}",), f"{OTHER}, {THIRD}, {THIS}"),
        ((OTHER, f"x, {THIRD}; hop=2"), f"{OTHER}, {THIRD}, {THIS}"),
    ],
)
async def test_gateways_that_sent_a_request_on_are_named_to_the_upstream(values: tuple[str, ...], named: str) -> None:
    answer = await request(*values)
    assert (answer.status, answer.body.decode()) == (200, named)


@pytest.mark.parametrize(
    ("names", "way"),
    [
        ([THIS], "from this gateway itself: "),
        ([THIS, OTHER], "from this gateway itself through 1 other gateway: "),
        ([THIS, OTHER, THIRD], "from this gateway itself through 2 other gateways: "),
    ],
)
async def test_a_request_that_comes_back_is_refused_and_logged_with_what_to_do(
    names: list[str], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_requests._throttle, "_logged", {})
    with capture_logs() as events:
        answer = await request(", ".join(names))
    assert answer.status == 508
    assert way in answer.error["message"]
    assert "give the upstream the url" in answer.error["message"]
    [line] = events
    assert (line["event"], line["gateways"], line["reason"]) == ("request_came_back", names, answer.error["message"])


async def test_a_chain_that_is_too_long_is_taken_for_a_circle() -> None:
    names = [f"registry-gateway-{number:016x}" for number in range(100, 100 + GATEWAYS_LIMIT)]
    assert (await request(", ".join(names[1:]))).status == 200
    refused = await request(", ".join(names))
    assert refused.status == 508
    assert "shorten the chain" in refused.error["message"]
