"""AccessLog: the id of a request, its line in the log, and the response to an exception that nobody caught."""

import asyncio
import re
from collections.abc import MutableMapping, Sequence
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.testing import capture_logs

from cache.upstream.loops import GATEWAY_PREFIX, LOOP_HEADER
from gateway.http.access_log import AccessLog
from gateway.http.errors import not_found, unexpected_response
from gateway.http.own_hosts import OwnHosts
from gateway.http.own_requests import OwnRequests
from gateway.http.request_id import new_request_id
from tests.gateway.asgi import Client, Exchange, scope_of

THIS = f"{GATEWAY_PREFIX}{7:016x}"
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
        found = await Client(scope_of(method, target, headers)).request(AccessLog(app, unexpected_response))
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


def test_own_ids_sort_by_time() -> None:
    made = [new_request_id(second) for second in (1_000_000_000, 1_700_000_000, 1_700_000_000.001, 4_000_000_000)]
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
        "refusal": None,
        "reason": None,
        "project": None,
        "received": 0,
        "principal": None,
    }


@pytest.mark.parametrize(
    ("app", "headers", "status", "refusal"),
    [
        (OwnRequests(pong, THIS), [(LOOP_HEADER, f"a, {THIS}")], 508, "loop"),
        (OwnHosts(pong, lambda host: False), [("Host", "other.example")], 421, "host"),
        (not_found, [], 404, "unsupported"),
        (failing, [], 500, "fault"),
    ],
)
async def test_a_refusal_before_any_surface_has_its_reason_in_the_line(
    app: ASGIApp, headers: list[tuple[str, str]], status: int, refusal: str
) -> None:
    _, events = await logged(app, headers=headers)
    line = events[-1]
    assert (line["status"], line["refusal"], line["reason"] != "") == (status, refusal, True)
    assert line["log_level"] == ("warning" if status >= 500 else "info")
    assert "secret" not in line["reason"]


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
        task = asyncio.ensure_future(Client(scope_of("GET", "/v2/")).request(AccessLog(endless, unexpected_response)))
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
        await AccessLog(failing, unexpected_response)({"type": kind}, silent, silent)
    assert events == []


# Exceptions that nobody caught.


async def test_what_nobody_caught_is_answered_500_and_told_once() -> None:
    found, events = await logged(failing)
    assert (found.status, found.complete) == (500, True)
    assert found.error["code"] == "UNKNOWN"
    assert "log" in found.error["message"]
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
