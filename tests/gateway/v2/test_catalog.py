"""The list of repositories shows to each what may be pulled, page by page, and names nothing else."""

import asyncio
import json
from collections.abc import AsyncIterator, Collection
from urllib.parse import quote, urlencode, urlsplit

import pytest
import pytest_asyncio
from sqlalchemy import Engine, event
from starlette.requests import Request
from starlette.types import ASGIApp

from cache.oci.errors import Busy
from gateway.auth.principal import ANONYMOUS, Principal
from gateway.namespaces.reach import PullReach
from gateway.registry.native_store import NativeStore
from gateway.v2 import catalog
from gateway.v2.catalog import Catalog
from gateway.v2.opener import RegistryOptions, RepositoryOpener
from tests.gateway.asgi import scope_of
from tests.gateway.v2.pushing import URL, PushSurface, open_surface

pytestmark = pytest.mark.asyncio(loop_scope="module")

SEEN = {
    "root": ["closed/secret", "closed/secret/a", "open/shown", "open/shown/b", "team/app", "team/app/a", "team/lib/z"],
    "developer": ["open/shown", "open/shown/b", "team/app", "team/app/a", "team/lib/z"],
    "stranger": ["open/shown", "open/shown/b"],
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def surface(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PushSurface]:
    async with open_surface(tmp_path_factory.mktemp("catalog") / "data") as surface:
        for name in SEEN["root"]:
            await surface.push_blob(name, b"content", who="root")
        yield surface


async def pages(surface: PushSurface, who: str | Principal, target: str) -> tuple[list[list[str]], list[str]]:
    """Every page of the list from a target on, and the links between them."""
    found, links = [], []
    while target:
        answer = await surface.call("GET", target, who=who)
        assert answer.status == 200
        document = json.loads(answer.body)
        assert list(document) == ["repositories"]
        found.append(document["repositories"])
        link = answer.headers.get("link")
        target = ""
        if link is not None:
            parts = urlsplit(link[1:].partition(">")[0])
            target = f"{parts.path.removeprefix('/v2/')}?{parts.query}"
            links.append(parts.query)
    return found, links


@pytest.mark.parametrize("who", SEEN)
async def test_each_sees_what_may_be_pulled(surface: PushSurface, who: str) -> None:
    assert await pages(surface, who, "_catalog") == ([SEEN[who]], [])


async def test_who_is_not_logged_in_sees_what_is_public(surface: PushSurface) -> None:
    assert (await pages(surface, ANONYMOUS, "_catalog"))[0] == [SEEN["stranger"]]


@pytest.mark.parametrize("who", SEEN)
@pytest.mark.parametrize("count", [1, 2, 3])
async def test_pages_are_linked(surface: PushSurface, who: str, count: int) -> None:
    found, _ = await pages(surface, who, f"_catalog?n={count}")
    assert [name for page in found for name in page] == SEEN[who]
    assert all(len(page) <= count for page in found)


async def test_a_page_begins_after_any_text(surface: PushSurface) -> None:
    assert await pages(surface, "root", "_catalog?last=open/x") == ([SEEN["root"][4:]], [])
    assert await pages(surface, "root", "_catalog?n=0") == ([[]], [])


@pytest.mark.parametrize("at_once", [1, 2, 100])
@pytest.mark.parametrize("who", SEEN)
async def test_no_page_and_no_link_depends_on_what_is_hidden(
    surface: PushSurface, monkeypatch: pytest.MonkeyPatch, who: str, at_once: int
) -> None:
    monkeypatch.setattr(catalog, "PROJECTS_AT_ONCE", at_once)
    for last in ("", "a", "closed/secret", "closed/secret/a", "open", "open/shown-", "open/shown/b", "team/app!", "~"):
        expected = [name for name in SEEN[who] if name > last]
        answer = await surface.call("GET", f"_catalog?n=1&last={quote(last)}", who=who)
        assert json.loads(answer.body)["repositories"] == expected[:1]
        link = answer.headers.get("link")
        assert link == (
            f'<{URL}/v2/_catalog?{urlencode({"n": "1", "last": expected[0]})}>; rel="next"' if expected[1:] else None
        )


async def test_only_repositories_of_what_may_be_pulled_are_read(
    surface: PushSurface, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, read = surface.services.native, list[str]()
    listed = type(store).list_repositories

    async def note(store: NativeStore, project_ids: Collection[int], after: str, limit: int) -> list[str]:
        found = await listed(store, project_ids, after, limit)
        read.extend(found)
        return found

    monkeypatch.setattr(type(store), "list_repositories", note)
    assert (await pages(surface, "stranger", "_catalog"))[0] == [SEEN["stranger"]]
    assert read == SEEN["stranger"]


async def test_a_bearer_token_must_list_the_catalog(surface: PushSurface) -> None:
    narrow = surface.person("developer", {"team/app": "pull"})
    refused = await surface.call("GET", "_catalog", who=narrow)
    assert refused.status == 401
    assert refused.headers["www-authenticate"].endswith('scope="registry:catalog:*"')
    wide = surface.person("developer", {"registry:catalog": "*"})
    assert (await pages(surface, wide, "_catalog"))[0] == [SEEN["developer"]]


async def test_the_projects_of_a_page_are_read_together(surface: PushSurface) -> None:
    directory = surface.services.directory
    await pages(surface, "root", "_catalog")
    directory._drop_project(None)
    statements: list[str] = []
    event.listen(Engine, "before_cursor_execute", note := lambda *given: statements.append(given[2]))
    assert (await pages(surface, "root", "_catalog"))[0] == [SEEN["root"]]
    event.remove(Engine, "before_cursor_execute", note)
    assert len([statement for statement in statements if "FROM projects" in statement]) == 2


async def test_a_page_of_as_many_projects_takes_one_look(surface: PushSurface, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look is at all projects of the server."""
    store, looks = surface.services.native, list[int]()
    listed = type(store).list_projects

    async def note(
        store: NativeStore, reach: PullReach, after: str, limit: int, also: Collection[str] = ()
    ) -> list[tuple[int, str]]:
        looks.append(limit)
        return await listed(store, reach, after, limit, also)

    monkeypatch.setattr(type(store), "list_projects", note)
    monkeypatch.setattr(catalog, "PROJECTS_AT_ONCE", 1)
    answer = await surface.call("GET", "_catalog?n=2", who="root")
    assert json.loads(answer.body)["repositories"] == SEEN["root"][:2]
    assert looks == [4]


async def test_readers_take_turns_and_one_of_many_requests_keeps_nobody_else(
    surface: PushSurface, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One client requests a hundred pages at once: another reader has its own meanwhile."""
    reading, begun, going_on = list[Principal](), asyncio.Event(), asyncio.Event()
    read = Catalog._names

    async def held(self: Catalog, last: str, limit: int, principal: Principal) -> list[str]:
        reading.append(principal)
        begun.set()
        if principal.is_anonymous:
            await going_on.wait()
        return await read(self, last, limit, principal)

    monkeypatch.setattr(Catalog, "_names", held)
    monkeypatch.setattr(catalog, "READ_WAIT", 0.2)
    handler = Catalog(surface.services.native, RepositoryOpener(surface.services, RegistryOptions(open_proxy=True)))

    async def request(principal: Principal, address: str) -> ASGIApp:
        scope = scope_of("GET", "/v2/_catalog") | {"client": (address, 50_000)}
        return await handler.list_repositories(Request(scope), principal)

    flood = [asyncio.ensure_future(request(ANONYMOUS, "192.0.2.1")) for _ in range(100)]
    try:
        async with asyncio.timeout(30):
            await begun.wait()
            await request(surface.person("developer"), "192.0.2.2")
            assert reading.count(ANONYMOUS) == 1
            refused = await asyncio.gather(*flood[1:], return_exceptions=True)
        assert {type(one) for one in refused} == {Busy}
        going_on.set()
        await flood[0]
    finally:
        going_on.set()
        for one in flood:
            one.cancel()
