"""Rate limits: each user, each token of nobody and each address has its own, and their memory is bounded."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from gateway.api.errors import RATE_LIMITS, RateExceeded
from gateway.api.rate_limits import RateLimits, RateOptions
from gateway.auth.principal import ANONYMOUS, Principal, PrincipalKind
from gateway.namespaces.user import User
from gateway.v2.opener import RegistryOptions
from gateway.wiring.app import create_app
from gateway.wiring.from_settings import api_options
from tests.gateway.api.rest import URL, Rest, open_rest
from tests.gateway.asgi import Client, Exchange, scope_of
from tests.gateway.v2.pushing import NOW, ROOTS

START = 1_700_000_000.0


class Clock:
    now = START

    def __call__(self) -> float:
        return self.now


def person(id: int) -> Principal:
    user = User(id, f"user{id}", None, False, False, False, None, None, NOW)
    return Principal(PrincipalKind.USER, user.name, user)


def request_from(address: str = "192.0.2.7") -> Request:
    return Request({"type": "http", "client": (address, 1), "headers": []})


def admitted(limits: RateLimits, principal: Principal = ANONYMOUS, address: str = "192.0.2.7") -> bool:
    try:
        limits.admit(request_from(address), principal)
    except RateExceeded:
        return False
    return True


def test_requests_beyond_the_limit_wait_for_the_end_of_the_minute() -> None:
    clock = Clock()
    limits = RateLimits(RateOptions(3, 2), clock)
    assert [admitted(limits, person(1)) for _ in range(5)] == [True] * 3 + [False] * 2
    assert [admitted(limits) for _ in range(3)] == [True, True, False]
    clock.now += 59.9
    assert not admitted(limits, person(1))
    clock.now += 0.1
    assert admitted(limits, person(1)) and admitted(limits)


def test_a_clock_that_was_put_back_keeps_nobody_out() -> None:
    clock = Clock()
    limits = RateLimits(RateOptions(1, 1), clock)
    assert admitted(limits, person(1)) and not admitted(limits, person(1))
    clock.now -= 3600
    assert admitted(limits, person(1))


def test_the_headers_say_what_is_left_and_when_the_next_ones_are_taken() -> None:
    clock = Clock()
    limits, request = RateLimits(RateOptions(2, 0), clock), request_from()
    limits.admit(request, person(1))
    assert request.scope[RATE_LIMITS] == {
        "RateLimit-Limit": "2",
        "RateLimit-Name": "throttle_authenticated_api",
        "RateLimit-Observed": "1",
        "RateLimit-Remaining": "1",
        "RateLimit-Reset": str(int(START) + 60),
    }
    clock.now += 10.5
    limits.admit(request, person(1))
    with pytest.raises(RateExceeded) as refused:
        limits.admit(request, person(1))
    assert refused.value.headers == {"Retry-After": "50"}
    assert request.scope[RATE_LIMITS]["RateLimit-Remaining"] == "0"


def test_each_user_and_address_has_a_limit_of_its_own() -> None:
    limits = RateLimits(RateOptions(1, 1), Clock())
    assert admitted(limits, person(1)) and admitted(limits, person(2))
    assert admitted(limits) and admitted(limits, address="192.0.2.8")
    assert not admitted(limits, replace(person(1), kind=PrincipalKind.PERSONAL_TOKEN)), "by whichever token"
    assert admitted(limits, address="2001:db8:1:2::1")
    assert not admitted(limits, address="2001:db8:1:2:ffff::9"), "any address of its network"
    assert admitted(limits, address="2001:db8:1:3::1")
    assert not admitted(limits, address="::ffff:192.0.2.7"), "the address of IPv4"


def test_clients_behind_a_proxy_that_tells_nobody_apart_are_not_limited_and_neither_is_anybody_with_zero() -> None:
    limits = RateLimits(RateOptions(0, 1), Clock())
    assert all(admitted(limits, address="127.0.0.1") for _ in range(5))
    assert all(admitted(limits, person(1)) for _ in range(5))


def test_many_addresses_take_no_more_memory_than_is_kept() -> None:
    limits = RateLimits(RateOptions(1, 1), Clock(), kept=10)
    for number in range(1000):
        admitted(limits, address=f"198.51.{number // 256}.{number % 256}")
    assert len(limits._windows) == 10


# At the surface


@pytest.fixture
async def rest(tmp_path: Path) -> AsyncIterator[Rest]:
    async with open_rest(tmp_path / "data") as rest:
        yield rest


class Limited:
    """One app with limits: three requests of a user, two of an address."""

    def __init__(self, rest: Rest) -> None:
        options = api_options(URL, URL, rates=RateOptions(3, 2))
        self._app = create_app(rest.services, ROOTS, RegistryOptions(open_proxy=True), rest=options)
        self._rest = rest

    async def get(self, path: str, who: str | None = None, token: str = "", address: str = "192.0.2.7") -> Exchange:
        secret = self._rest.tokens[who] if who is not None else token
        scope: Any = scope_of("GET", f"/api/v4{path}", [("PRIVATE-TOKEN", secret)] if secret else [])
        scope["client"] = (address, 1)
        return await Client(scope, [b""]).request(self._app)

    async def graphql(self, who: str) -> Exchange:
        """Send a document."""
        body = b'{"query": "{ currentUser { username } }"}'
        sent = [("PRIVATE-TOKEN", self._rest.tokens[who]), ("Content-Type", "application/json")]
        scope: Any = scope_of("POST", "/api/graphql", [*sent, ("Content-Length", str(len(body)))])
        return await Client(scope, [body]).request(self._app)


async def test_a_user_is_told_of_the_limit_and_refused_beyond_it(rest: Rest) -> None:
    limited = Limited(rest)
    answers = [await limited.get(path, "developer") for path in ("/version", "/users/999999", "/version", "/version")]
    assert [answer.status for answer in answers] == [200, 404, 200, 429]
    assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0"]
    last = answers[-1]
    assert int(last.headers["retry-after"]) in range(1, 61) and last.headers["ratelimit-limit"] == "3"
    assert json.loads(last.body)["message"].startswith("429 Too Many Requests - at most 3 requests a minute")
    assert (await limited.get("/version", "reporter")).status == 200


async def test_requests_by_graphql_count_with_those_by_rest(rest: Rest) -> None:
    limited = Limited(rest)
    answers = [await limited.graphql("developer"), await limited.get("/version", "developer")]
    answers += [await limited.graphql("developer"), await limited.graphql("developer")]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert (await limited.get("/version", "developer")).status == 429


async def test_an_address_that_guesses_tokens_is_refused_and_a_user_there_is_not(rest: Rest) -> None:
    limited = Limited(rest)
    answers = [await limited.get("/version", token=f"rgpat-wrong{number}") for number in range(4)]
    assert [answer.status for answer in answers] == [401, 401, 429, 429]
    assert (await limited.get("/groups")).status == 429
    assert (await limited.get("/version", "developer")).status == 200
    assert (await limited.get("/groups", address="192.0.2.8")).status == 200
