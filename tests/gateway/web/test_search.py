"""Search and home: what is found by which words, and that nothing tells of what a visitor may not see."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.namespaces.project import RegistryAccess

from .browsing import Browser, Site, elements, links_in, open_site, text_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

NONE = "None that you may see"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with open_site(tmp_path_factory.mktemp("site") / "data") as site:
        member = {"user_id": site.rest.surface.people["maintainer"].id, "access_level": 30}
        made = await site.rest.send_json("POST", "/projects/open%2Fshown/members", member, who="root")
        assert made.status == 201
        push = site.rest.surface.push_image
        await push("team/app/web", "v1.0", "v1.1", "V1")
        await push("team/lib", "v1.0", text="another")
        await push("open/shown", "v2", "v1.9", text="shown")
        yield site


def found(page: object) -> list[str]:
    """The addresses of the tags and images that a page has found."""
    return [link for link in links_in(page) if "/container_registry/" in link and "?" not in link]  # type: ignore[arg-type]


async def search(browser: Browser, words: str) -> list[str]:
    return [link.rpartition("/tags/")[2] for link in found(await browser.get(f"/search?q={words}")) if "/tags/" in link]


async def test_tags_are_found_by_the_beginning_of_their_names(site: Site) -> None:
    browser = await site.browser("reporter")
    assert await search(browser, "v1") == ["v1.9", "v1.0", "v1.0"], "the first one of each repository"
    assert f"{await site.address_of('team/app/web')}?search=v1" in links_in(await browser.get("/search?q=v1"))
    assert await search(browser, "v1.1") == ["v1.1"]
    assert await search(browser, "v1.0") == ["v1.0", "v1.0"]
    assert await search(browser, "V1") == ["V1"]
    assert await search(browser, "1.0") == [] and await search(browser, "v1%25") == []


async def test_only_tags_of_what_a_visitor_may_pull_are_found(site: Site) -> None:
    for browser in (site.stranger(), await site.browser("stranger")):
        assert await search(browser, "v1") == ["v1.9"]
        assert await search(browser, "v1.1") == []
        assert "no tag begins with it" in text_of(await browser.get("/search?q=v1.1"))


async def test_an_image_is_found_by_its_whole_digest(site: Site) -> None:
    digest = await site.rest.surface.push_image("team/app/web", text="without a tag")
    browser, address = await site.browser("reporter"), await site.address_of("team/app/web")
    assert found(await browser.get(f"/search?q={digest}")) == [address]
    tagged = await site.rest.surface.push_image("team/app/web", "b", "a", text="with two")
    for words in (tagged, f"registry.example/team/app/web@{tagged}", f"%20{tagged}%20"):
        assert found(await browser.get(f"/search?q={words}")) == [f"{address}/tags/a"]
    hidden = await (await site.browser("stranger")).get(f"/search?q={tagged}")
    absent = await (await site.browser("stranger")).get(f"/search?q=sha256:{'0' * 64}")
    assert text_of(hidden).replace(tagged, "") == text_of(absent).replace(f"sha256:{'0' * 64}", "")
    assert found(await browser.get(f"/search?q={tagged[:30]}")) == []


async def test_home_shows_what_was_published_last_of_what_a_visitor_may_pull(site: Site) -> None:
    await site.rest.surface.push_image("team/lib", "newest", text="newest")
    seen = found(await (await site.browser("reporter")).get("/"))
    assert seen[0] == f"{await site.address_of('team/lib')}/tags/newest" and len(seen) == 3
    assert [link.partition("/container")[0] for link in found(await site.stranger().get("/"))] == ["/open/shown"]


async def test_what_is_off_or_deleted_is_not_found(site: Site) -> None:
    services, root = site.rest.services, await site.browser("root")
    place = await services.directory.find_project_place("open/shown")
    assert place is not None
    form = [("visibility", "public"), ("container_registry_access_level", RegistryAccess.DISABLED.value)]
    await root.post("/open/shown/edit", form, status=303)
    assert await search(root, "v1.9") == []
    await root.post("/open/shown/edit", [form[0], ("container_registry_access_level", "enabled")], status=303)
    assert await search(root, "v1.9") == ["v1.9"]
    address = await site.address_of("open/shown")
    await root.post(f"{address}/delete", [("confirmation", "open/shown")], status=303)
    assert await search(root, "v1.9") == []
    assert "/open/shown" not in " ".join(found(await root.get("/")))


async def test_the_key_of_the_search_has_a_switch(site: Site) -> None:
    browser = await site.browser("reporter")
    for path in ("/-/profile", "/search?q=v1"):
        assert any("data-key-switch" in e.attributes for e in elements(await browser.get(path)))
