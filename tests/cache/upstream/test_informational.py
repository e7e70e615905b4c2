"""Informational responses of upstreams (RFC 9110, section 15.2): a few are read over, a flood of them is refused."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from cache.upstream.egress import Egress, body, body_blocking
from cache.upstream.errors import Unavailable
from cache.upstream.kept_connections import INFORMATIONAL_LIMIT
from cache.upstream.reach import Reach
from tests.parts.certs import Authority
from tests.parts.liar import Liar
from tests.parts.lies import Lie

HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </style>; rel=preload\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def hinted(count: int, *, later: bool = False) -> Lie:
    """Sends informational responses before the final one."""
    return Lie(silent=True, later=later, surplus=HINT * count + OK)


@pytest.fixture
async def egress(authority: Authority) -> AsyncIterator[Egress]:
    egress = Egress(Reach(private_addresses=True, ca_file=authority.ca_file))
    yield egress
    await egress.close()


@pytest.fixture(params=["liar", "tls_liar"])
def upstream(request: pytest.FixtureRequest) -> Liar:
    found: Liar = request.getfixturevalue(request.param)
    return found


async def content(egress: Egress, url: str, *, threaded: bool) -> bytes | None:
    if not threaded:
        return await body(await egress.send("GET", url, {}), 100, 20)
    return await asyncio.to_thread(lambda: body_blocking(egress.send_blocking("GET", url, {}), 100, 20))


@pytest.mark.parametrize("threaded", [False, True], ids=["task", "thread"])
@pytest.mark.parametrize("later", [False, True], ids=["new", "kept"])
async def test_a_few_informational_responses_are_read_over_and_more_are_refused(
    egress: Egress, upstream: Liar, threaded: bool, later: bool
) -> None:
    url = f"{upstream.url}/v2/"
    if later:  # over a connection that has served a request
        await content(egress, url, threaded=threaded)
    upstream.behave("/v2/", hinted(INFORMATIONAL_LIMIT, later=later))
    assert await content(egress, url, threaded=threaded) == b"ok"
    upstream.behave("/v2/", hinted(100_000))
    with pytest.raises(Unavailable, match="RemoteProtocolError"):
        await content(egress, url, threaded=threaded)
