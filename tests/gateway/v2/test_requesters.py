"""What a request begins at an upstream is of its client: a person, or the site of an address without a name."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from cache.runtime.fair_queue import NOBODY, Requester
from cache.runtime.on_behalf import current_requester
from gateway.auth.principal import ANONYMOUS, Principal
from gateway.v2.endpoint import Endpoint
from gateway.v2.pull import Pull
from tests.gateway.v2.pushing import PushSurface, open_surface

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def surface(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PushSurface]:
    async with open_surface(tmp_path_factory.mktemp("requesters") / "data") as surface:
        yield surface


async def test_a_request_acts_on_behalf_of_its_client(surface: PushSurface, monkeypatch: pytest.MonkeyPatch) -> None:
    acting: list[Requester] = []

    async def noted(pull: Pull, request: Request, endpoint: Endpoint, principal: Principal) -> ASGIApp:
        acting.append(current_requester())
        return Response()

    monkeypatch.setattr(Pull, "list_tags", noted)
    for who in (ANONYMOUS, surface.person("developer")):
        await surface.call("GET", "hub/dependency_proxy/containers/alpine/tags/list", who=who)
    assert [requester.group for requester in acting] == ["127.0.0.1", surface.people["developer"].id]
    assert current_requester() == NOBODY
