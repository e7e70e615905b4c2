"""What every request passes: its id, its line in the log, the last answer to what nobody caught, refused bodies."""

import asyncio
import re
from collections.abc import MutableMapping, Sequence
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.testing import capture_logs

from gateway.http import access_log
from gateway.http.access_log import AccessLog, DrainedRefusals
from gateway.http.request_id import new_request_id
from tests.conftest import GatewayFactory
from tests.gateway.asgi import Client, Exchange, scope_of
from tests.parts import raw
from tests.parts.liar import Liar

OWN_ID = re.compile(r"[0-9a-hjkmnp-tv-z]{26}")
Events = list[MutableMapping[str, Any]]


async def pong(scope: Scope, receive: Receive, send: Send) -> None:
    await Response("pong", headers={"X-Cache": "HIT"})(scope, receive, send)


async def failing(scope: Scope, receive: Receive, send: Send) -> None:
    raise ZeroDivisionError("secret of the inside")


async def failing_midway(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    raise ZeroDivisionError


async def logged(
    app: ASGIApp, method: str = "GET", target: str = "/v2/", headers: Sequence[tuple[str, str]] = ()
) -> tuple[Exchange, Events]:
    with capture_logs() as events:
        found = await Client(scope_of(method, target, headers)).ask(AccessLog(app))
    return found, events


# The request's id.


@pytest.mark.parametrize("given", ["a", "7", "req-1.2_3", "0123abcd-4567-89ef-0123-456789abcdef", "x" * 128])
async def test_a_well_formed_request_id_is_taken_over(given: str) -> None:
    found, events = await logged(pong, headers=[("X-Request-Id", given)])
    assert found.headers.all("x-request-id") == [given]
    assert [event["request_id"] for event in events] == [given]


@pytest.mark.parametrize(
    "given",
    ["", " ", "x" * 129, "-a", ".a", "a b", "a/b", "a\tb", "a\n", "ä", "a;b", '"', "{}", "a\x00", "${jndi:ldap}"],
)
async def test_any_other_request_id_is_replaced(given: str) -> None:
    found, events = await logged(pong, headers=[("X-Request-Id", given)])
    (own,) = found.headers.all("x-request-id")
    assert OWN_ID.fullmatch(own)
    assert events[0]["request_id"] == own


async def test_a_request_without_an_id_is_given_one() -> None:
    found, _ = await logged(pong)
    again, _ = await logged(pong)
    assert OWN_ID.fullmatch(found.headers["x-request-id"])
    assert found.headers["x-request-id"] != again.headers["x-request-id"]


def test_own_ids_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for second in (1_000_000_000, 1_700_000_000, 1_700_000_000.001, 4_000_000_000):
        monkeypatch.setattr("time.time", lambda second=second: second)
        made.append(new_request_id())
    assert made == sorted(made)
    assert len(set(made)) == len(made)


# The line in the log.


async def test_a_request_is_one_line_in_the_log() -> None:
    _, events = await logged(pong, target="/v2/a%3Ab/x?token=secret", headers=[("Authorization", "Bearer secret")])
    (line,) = events
    assert isinstance(line.pop("duration_ms"), float)
    assert isinstance(line.pop("first_byte_ms"), float)
    assert OWN_ID.fullmatch(line.pop("request_id"))
    assert line == {
        "event": "request",
        "log_level": "info",
        "method": "GET",
        "path": "/v2/a%3Ab/x",
        "status": 200,
        "outcome": "HIT",
        "kind": None,
        "group": None,
        "upstream": None,
        "bytes": 4,
        "complete": True,
        "client": "127.0.0.1",
        "user_agent": None,
    }


async def test_an_answer_without_a_lookup_has_no_outcome() -> None:
    _, events = await logged(JSONResponse({}))
    assert events[0]["outcome"] is None


async def test_an_answer_that_ended_short_is_logged_as_incomplete() -> None:
    async def short(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    _, events = await logged(short)
    assert (events[0]["status"], events[0]["bytes"], events[0]["complete"]) == (200, 4, False)


async def test_a_request_that_the_server_cancels_is_logged_too() -> None:
    began = asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        began.set()
        await asyncio.Event().wait()

    with capture_logs() as events:
        task = asyncio.ensure_future(Client(scope_of("GET", "/v2/")).ask(AccessLog(endless)))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [(event["event"], event["status"], event["complete"]) for event in events] == [("request", 0, False)]


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
async def test_what_is_no_request_is_neither_answered_nor_logged(kind: str) -> None:
    async def silent(*_: object) -> Message:
        raise AssertionError("spoken to")

    with capture_logs() as events:
        await AccessLog(failing)({"type": kind}, silent, silent)
    assert events == []


# What nobody caught.


async def test_what_nobody_caught_is_answered_500_and_told_once() -> None:
    found, events = await logged(failing)
    assert (found.status, found.complete) == (500, True)
    assert found.error["code"] == "UNKNOWN"
    assert "log" in found.error["detail"]
    assert b"secret" not in found.body
    assert found.headers["content-type"] == "application/json"
    assert found.headers["docker-distribution-api-version"] == "registry/2.0"
    assert [event["event"] for event in events] == ["request_failed", "request"]
    failure, line = events
    assert failure["request_id"] == line["request_id"] == found.headers["x-request-id"]
    assert (failure["log_level"], line["status"]) == ("error", 500)


async def test_what_fails_midway_is_told_once_and_ends_short() -> None:
    found, events = await logged(failing_midway)
    assert (found.status, found.body, found.complete) == (200, b"half", False)
    assert [event["event"] for event in events] == ["request_failed", "request"]


# Bodies that nobody wants.

BODY = [b"x" * 65_536] * 16
DECLARED = ("Content-Length", str(16 * 65_536))
CHUNKED = ("Transfer-Encoding", "chunked")


class Refusing:
    """Answers at once; `unread_at` notes how much of the body was left when each message was sent."""

    def __init__(self, *headers: tuple[str, str], body: Sequence[bytes] = BODY, after: int = 0) -> None:
        self.client = Client(scope_of("PUT", "/v2/x", headers), body)
        self.unread_at: list[tuple[str, bool, int]] = []
        self._after = after
        self.client.watch = self._note

    async def ask(self) -> Exchange:
        async with asyncio.timeout(10):
            return await self.client.ask(DrainedRefusals(self._refuse))

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
    found = await refusing.ask()
    assert (found.status, found.body, found.complete) == (405, b"no", True)
    assert refusing.unread_at == [
        ("http.response.start", False, 16 - after),
        ("http.response.body", False, 16 - after),
        ("http.response.body", True, 0),
    ]


async def test_a_body_that_was_read_is_not_waited_for_again() -> None:
    refusing = Refusing(DECLARED, after=16)
    assert (await refusing.ask()).complete
    assert refusing.unread_at[-1] == ("http.response.body", True, 0)


@pytest.mark.parametrize("headers", [(), (("Content-Length", "0"),)], ids=["none", "empty"])
async def test_a_request_without_a_body_is_not_waited_for(headers: Sequence[tuple[str, str]]) -> None:
    refusing = Refusing(*headers, body=[])
    assert (await refusing.ask()).complete


async def test_a_client_that_leaves_while_it_is_drained_ends_the_request() -> None:
    refusing = Refusing(DECLARED, body=[])
    refusing.client.leave()
    assert (await refusing.ask()).status == 405


async def test_a_body_without_end_is_read_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "DRAIN_BYTES", 5 * 65_536)
    refusing = Refusing(CHUNKED)
    assert (await refusing.ask()).complete
    assert refusing.unread_at[-1] == ("http.response.body", True, 11)


async def test_a_body_that_does_not_come_is_waited_for_in_vain_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "DRAIN_SECONDS", 0.02)
    assert (await Refusing(DECLARED, body=[]).ask()).complete


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
