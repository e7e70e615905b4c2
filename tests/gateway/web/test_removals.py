"""Removal and restoring of tags and repositories by pages."""

from collections.abc import AsyncIterator
from functools import partial

import pytest
import pytest_asyncio

from gateway.audit.event import EventKind, Subject, Surface
from gateway.db import projects, protections
from gateway.namespaces.protection import ProtectionKind, ProtectionLevel
from tests.gateway.asgi import Exchange
from tests.gateway.v2.pushing import NOW

from .browsing import Browser, Site, elements, links_in, open_site, path_of, text_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAMES = ["v1", "v2", "v3", "v4"]


@pytest_asyncio.fixture(loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with open_site(tmp_path_factory.mktemp("site") / "data") as site:
        await site.rest.surface.push_image("team/app/web", *NAMES)
        yield site


async def tags_of(site: Site) -> list[str]:
    id = await site.rest.id_of("team/app/web")
    answer = await site.rest.get(f"/projects/team%2Fapp/registry/repositories/{id}/tags")
    return [tag["name"] for tag in answer]


async def remove(browser: Browser, address: str, *tags: str, confirmed: bool = True) -> Exchange:
    fields = [("tag", tag) for tag in tags] + ([("confirmed", "yes")] if confirmed else [])
    return await browser.post(f"{address}/remove_tags", fields)


async def test_tags_are_removed_after_a_confirmation(site: Site) -> None:
    browser, address = await site.browser("developer"), await site.address_of("team/app/web")
    asked = await remove(browser, address, "v1", "v2", confirmed=False)
    assert "Remove 2 tags of team/app/web?" in text_of(asked)
    assert await tags_of(site) == NAMES
    fields = [
        (str(element.attributes["name"]), str(element.attributes["value"]))
        for element in elements(asked)
        if element.attributes.get("name") in ("tag", "confirmed")
    ]
    done = await browser.post(f"{address}/remove_tags", fields)
    assert "2 tags removed" in text_of(done)
    assert await tags_of(site) == ["v3", "v4"]
    [first, second] = site.rest.noted(EventKind.DELETE)
    assert (first.surface, first.subject, first.tag, first.user) == (Surface.PAGES, Subject.TAG, "v1", "developer")
    assert second.tag == "v2"


async def test_one_tag_is_removed_by_its_own_button_whatever_is_marked(site: Site) -> None:
    browser, address = await site.browser("developer"), await site.address_of("team/app/web")
    await browser.post(f"{address}/remove_tags", [("tag", "v1"), ("tag", "v2"), ("only", "v4"), ("confirmed", "yes")])
    assert await tags_of(site) == ["v1", "v2", "v3"]


async def test_a_removed_tag_is_found_again_and_restored(site: Site) -> None:
    browser, address = await site.browser("developer"), await site.address_of("team/app/web")
    await remove(browser, address, "v1")
    searched = await browser.get(f"{address}?search=v1")
    assert f"{address}/tags/v1" in links_in(searched)
    page = await browser.get(f"{address}/tags/v1")
    assert "This tag was removed" in text_of(page) and "It can be restored at least until" in text_of(page)
    answer = await browser.post(f"{address}/tags/v1/restore")
    assert path_of(answer) == f"{address}/tags/v1?restored=yes"
    assert await tags_of(site) == NAMES
    assert "The tag is restored." in text_of(await browser.get(f"{address}/tags/v1?restored=yes"))


async def test_a_moved_tag_points_to_a_digest_of_its_history_again(site: Site) -> None:
    former = (await site.rest.surface.call("GET", "team/app/web/manifests/v1")).headers["docker-content-digest"]
    await site.rest.surface.push_image("team/app/web", "v1", text="two")
    browser, address = await site.browser("developer"), await site.address_of("team/app/web")
    assert former in [e.attributes.get("value") for e in elements(await browser.get(f"{address}/tags/v1"))]
    await browser.post(f"{address}/tags/v1/restore", [("digest", former)], status=303)
    now = (await site.rest.surface.call("GET", "team/app/web/manifests/v1")).headers["docker-content-digest"]
    assert now == former
    wrong = await browser.post(f"{address}/tags/v1/restore", [("digest", "sha256:x")])
    assert wrong.status == 400
    unknown = await browser.post(f"{address}/tags/v1/restore", [("digest", f"sha256:{'0' * 64}")])
    assert unknown.status == 409 and "has no manifest" in text_of(unknown)


async def test_a_protected_tag_stays_and_the_others_go(site: Site) -> None:
    place = await site.rest.services.directory.find_project_place("team/app")
    assert place is not None
    async with site.rest.database() as database:
        await database.transact(
            partial(
                protections.create,
                project=place.project,
                kind=ProtectionKind.TAG,
                pattern="v3",
                push=ProtectionLevel.MAINTAINER,
                delete=ProtectionLevel.MAINTAINER,
                now=NOW,
            )
        )
    browser, address = await site.browser("developer"), await site.address_of("team/app/web")
    page = await browser.get(address)
    assert "It is protected by a rule: maintainers and above may delete it." in text_of(page)
    [mark] = [e for e in elements(page) if e.attributes.get("name") == "tag" and e.attributes["value"] == "v3"]
    assert "disabled" in mark.attributes
    done = await remove(browser, address, "v3", "v4", "gone")
    assert "1 tag removed" in text_of(done) and "2 tags could not be removed" in text_of(done)
    assert await tags_of(site) == ["v1", "v2", "v3"]


@pytest.mark.parametrize(("who", "status"), [("reporter", 403), ("stranger", 404), ("developer", 200), ("root", 200)])
async def test_tags_are_removed_by_developers(site: Site, who: str, status: int) -> None:
    answer = await remove(await site.browser(who), await site.address_of("team/app/web"), "v1")
    assert answer.status == status
    assert ("v1" in await tags_of(site)) == (status != 200)


@pytest.mark.parametrize("tags", [[], ["../x"], ["a" * 129], [f"t{number}" for number in range(201)]])
async def test_what_names_no_tags_removes_none(site: Site, tags: list[str]) -> None:
    answer = await remove(await site.browser("developer"), await site.address_of("team/app/web"), *tags)
    assert answer.status in (400, 404)
    assert await tags_of(site) == NAMES


async def test_a_repository_is_deleted_by_whoever_types_its_path_and_restored(site: Site) -> None:
    browser, address = await site.browser("maintainer"), await site.address_of("team/app/web")
    assert "team/app/web" in text_of(await browser.get(f"{address}/delete"))
    wrong = await browser.post(f"{address}/delete", [("confirmation", "team/app")])
    assert wrong.status == 422 and "not the path" in text_of(wrong)
    assert await tags_of(site) == NAMES
    answer = await browser.post(f"{address}/delete", [("confirmation", "team/app/web")])
    listed = await browser.get(path_of(answer))
    assert "team/app/web" in text_of(listed)
    await browser.get(address, 404)
    [event] = site.rest.noted(EventKind.DELETE)
    assert (event.surface, event.subject, event.path) == (Surface.PAGES, Subject.REPOSITORY, "team/app/web")
    [form] = [e for e in elements(listed) if e.tag == "form" and str(e.attributes.get("action")).endswith("/restore")]
    restored = await browser.post(str(form.attributes["action"]))
    assert path_of(restored) == f"{address}?restored=yes"
    assert await tags_of(site) == NAMES


@pytest.mark.parametrize(("who", "status"), [("developer", 403), ("stranger", 404)])
async def test_repositories_are_deleted_and_restored_by_maintainers(site: Site, who: str, status: int) -> None:
    browser, address = await site.browser(who), await site.address_of("team/app/web")
    await browser.get(f"{address}/delete", status)
    await browser.get("/team/app/container_registry/deleted", status)
    for path, fields in ((f"{address}/delete", [("confirmation", "team/app/web")]), (f"{address}/restore", [])):
        assert (await browser.post(path, fields)).status == status
    assert await tags_of(site) == NAMES


async def test_a_tag_is_restored_by_those_alone_who_may_push_to_its_repository(site: Site) -> None:
    browser, address = await site.browser("developer"), await site.address_of("team/app/web")
    await remove(browser, address, "v1", "v2")
    async with site.rest.database() as database, database.write() as connection:
        project = await projects.get(connection, "team/app")
        create = partial(protections.create, connection, project, ProtectionKind.REPOSITORY, now=NOW)
        await create("", push=ProtectionLevel.OWNER)  # the one at the project's own path
    assert (await browser.post(f"{address}/tags/v1/restore")).status == 303
    async with site.rest.database() as database, database.write() as connection:
        create = partial(protections.create, connection, project, ProtectionKind.REPOSITORY, now=NOW)
        await create("/w*", push=ProtectionLevel.MAINTAINER)
    refused = await browser.post(f"{address}/tags/v2/restore")
    assert refused.status == 403 and "repository team/app/web is protected" in text_of(refused).lower()
    assert await tags_of(site) == ["v1", "v3", "v4"]
