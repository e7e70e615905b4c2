"""Addresses of clients behind reverse proxies."""

import tracemalloc
from ipaddress import ip_network

import pytest
from starlette.types import Receive, Scope, Send

from gateway.http.client_address import ClientAddress, Network, forwarded_address
from tests.gateway.asgi import scope_of

TRUSTED: list[Network] = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.9"], "192.0.2.1"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1", "203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("::ffff:10.0.0.1", ["203.0.113.9:1234"], "203.0.113.9"),
        ("fd00::1", ["[2001:db8::1]:80"], "2001:db8::1"),
        ("10.0.0.1", [], None),
        ("10.0.0.1", ["10.0.0.2"], None),
        ("10.0.0.1", ["203.0.113.9, unknown"], None),
        ("10.0.0.1", ["203.0.113.9,"], None),
        ("10.0.0.1", ["x" * 1000], None),
        ("unix", ["203.0.113.9"], None),
    ],
)
def test_the_client_is_the_last_that_no_trusted_proxy_has(peer: str, forwarded: list[str], address: str | None) -> None:
    assert forwarded_address(peer, forwarded, TRUSTED) == address


@pytest.mark.parametrize(
    ("trusted", "peer", "client", "known"),
    [
        (TRUSTED, "10.0.0.1", ("203.0.113.9", 0), "203.0.113.9"),
        (TRUSTED, "192.0.2.1", ("192.0.2.1", 5), "192.0.2.1"),
        ([], "10.0.0.1", ("10.0.0.1", 5), None),
    ],
)
async def test_an_app_sees_the_client_and_whether_it_is_known(
    trusted: list[Network], peer: str, client: tuple[str, int], known: str | None
) -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    scope = {**scope_of("GET", "/", [("X-Forwarded-For", "203.0.113.9")]), "client": (peer, 5)}
    await ClientAddress(app, trusted, "known")(scope, None, None)  # type: ignore[arg-type]
    assert (seen[0]["client"], seen[0].get("known")) == (client, known)


async def test_what_a_client_writes_before_the_entry_of_a_proxy_takes_no_memory() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    addressed = ClientAddress(app, TRUSTED, "known")
    tracemalloc.start()
    try:
        for number in range(500):
            written = f"{number} {'x' * 20_000}, 203.0.113.9"
            scope = {**scope_of("GET", "/", [("X-Forwarded-For", written)]), "client": ("10.0.0.1", 5)}
            await addressed(scope, None, None)  # type: ignore[arg-type]
            assert seen.pop()["known"] == "203.0.113.9"
        assert tracemalloc.get_traced_memory()[0] < 2_000_000
    finally:
        tracemalloc.stop()


async def test_an_address_that_the_limit_cuts_off_is_not_read() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    written = "203.0.113.9" + ", 10.0.0.2" * 102  # the last 1024 bytes begin within the first address
    scope = {**scope_of("GET", "/", [("X-Forwarded-For", written)]), "client": ("10.0.0.1", 5)}
    await ClientAddress(app, TRUSTED, "known")(scope, None, None)  # type: ignore[arg-type]
    assert "known" not in seen[0]
