"""The Container Registry of projects and groups, Tag Details, and what a visitor may see of them."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
import pytest_asyncio

from cache.oci.media_types import OCI_INDEX
from cache.oci.names import Tag
from gateway.db import manifests, tags
from gateway.namespaces.project import Project, RegistryAccess
from tests.gateway.v2.pushing import NOW, image
from tests.parts.images import digest_of

from .browsing import Site, elements, links_in, open_site, path_of, text_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

MANY = 120


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with open_site(tmp_path_factory.mktemp("site") / "data") as site:
        surface = site.rest.surface
        await surface.push_image("team/app", "root-tag")
        await surface.push_image("team/app/web", "v1", "v2", text="web")
        await surface.push_image("team/lib/tool", "v1")
        await push_as_root(site, "closed/secret", "hidden-tag")
        await push_as_root(site, "open/shown/image", "v1")
        yield site


async def push_as_root(site: Site, name: str, tag: str) -> None:
    surface = site.rest.surface
    config, layer = [await surface.push_blob(name, content, who="root") for content in (b"config", b"layer")]
    assert (await surface.put_manifest(name, tag, image(config, layer), who="root")).status == 201


async def test_a_stranger_sees_what_is_public_and_is_led_back_after_signing_in(site: Site) -> None:
    stranger = site.stranger()
    home = text_of(await stranger.get("/"))
    assert "open/shown" in home and "team" not in home and "closed" not in home
    assert "open/shown/image" in text_of(await stranger.get("/open/shown/container_registry"))
    for path in ("/team/app", "/team/app/container_registry", "/closed/secret", "/no/such", "/groups/team"):
        answer = await stranger.get(path, 303)
        assert path_of(answer) == f"/users/sign_in?next={path.replace('/', '%2F')}"


async def test_what_is_hidden_looks_like_what_is_not_there(site: Site) -> None:
    browser = await site.browser("maintainer")
    pages = [await browser.get(path, 404) for path in ("/closed/secret", "/closed/nothing", "/closed", "/nothing")]
    pages.append(await browser.get("/closed/secret/container_registry", 404))
    assert len({page.body for page in pages}) == 1


async def test_members_see_their_groups_and_projects(site: Site) -> None:
    browser = await site.browser("reporter")
    home = await browser.get("/")
    assert {"/team", "/team/app", "/team/lib", "/open/shown"} <= set(links_in(home))
    assert "closed" not in text_of(home)
    group = await browser.get("/team")
    assert {"/team/app", "/team/lib", "/team/sub"} <= set(links_in(group))


async def test_the_search_finds_what_may_be_seen_alone(site: Site) -> None:
    browser = await site.browser("reporter")
    found = links_in(await browser.get("/search?q=APP"))
    assert {"/team/app", await site.address_of("team/app/web")} <= set(found) and "/team/lib" not in found
    assert await site.address_of("team/lib/tool") in links_in(await browser.get("/search?q=tool"))
    for who in (None, "reporter"):
        visitor = site.stranger() if who is None else browser
        for sought in ("secret", "closed", "%25", "_", "\\"):
            links = links_in(await visitor.get(f"/search?q={sought}"))
            assert "closed" not in " ".join(link for link in links if not link.startswith("/users/sign_in"))
    assert links_in(await site.stranger().get("/search?q=image")).count(await site.address_of("open/shown/image")) == 1
    assert path_of(await browser.get("/search?q=", 303)) == "/"


async def test_the_registry_of_a_project_lists_its_repositories_with_figures(site: Site) -> None:
    page = await (await site.browser("reporter")).get("/team/app/container_registry")
    text = text_of(page)
    assert "2 image repositories" in text and "Cleanup is not scheduled" in text
    assert "the root repository of the project" in text
    fields = [e.attributes["value"] for e in elements(page) if e.tag == "input" and "data-copy" in e.attributes]
    assert "127.0.0.1:8080/team/app/web" in fields
    assert await site.address_of("team/app/web") in links_in(page)


async def test_an_empty_registry_says_how_to_push(site: Site) -> None:
    await site.rest.services.directory.tree.create_project("team/empty", lambda project: project, None, NOW)
    page = await (await site.browser("developer")).get("/team/empty/container_registry")
    fields = [e.attributes["value"] for e in elements(page) if e.tag == "input" and "data-copy" in e.attributes]
    host = "127.0.0.1:8080"
    assert fields == [
        f"docker login {host}",
        f"docker build -t {host}/team/empty .",
        f"docker push {host}/team/empty",
    ]


async def test_the_registry_is_searched_and_sorted_by_its_address(site: Site) -> None:
    browser = await site.browser("reporter")
    found = await browser.get("/team/app/container_registry?search=web")
    assert "team/app/web" in text_of(found) and "the root repository" not in text_of(found)
    assert "No image repository" in text_of(await browser.get("/team/app/container_registry?search=zzz"))
    newest = links_in(await browser.get("/team/app/container_registry?sort=created"))
    web, root = await site.address_of("team/app/web"), await site.address_of("team/app")
    assert newest.index(web) < newest.index(root)
    listed = links_in(await browser.get("/team/app/container_registry?sort=nonsense&after=%00"))
    assert {web, root} <= set(listed)


async def test_the_registry_of_a_group_lists_what_may_be_pulled_below_it(site: Site) -> None:
    page = await (await site.browser("reporter")).get("/groups/team/-/container_registries")
    wanted = {await site.address_of(name) for name in ("team/app", "team/app/web", "team/lib/tool")}
    assert wanted <= set(links_in(page))
    shown = await (await site.browser("stranger")).get("/groups/open/-/container_registries")
    assert await site.address_of("open/shown/image") in links_in(shown)
    await (await site.browser("stranger")).get("/groups/team/-/container_registries", 404)


async def test_a_registry_that_is_off_is_gone_from_the_menu_and_says_why_to_who_may_enable_it(site: Site) -> None:
    place = await site.rest.services.directory.find_project_place("team/lib")
    assert place is not None

    async def switch(access: RegistryAccess) -> None:
        def change(project: Project) -> Project:
            return replace(project, registry=access)

        await site.rest.services.native.update_project(place.project.id, change)

    await switch(RegistryAccess.DISABLED)
    try:
        maintainer, reporter = await site.browser("maintainer"), await site.browser("reporter")
        assert "/team/lib/container_registry" not in links_in(await maintainer.get("/team/lib"))
        told = await maintainer.get("/team/lib/container_registry", 404)
        assert "is off" in text_of(told) and "Settings > General" in text_of(told)
        hidden = await reporter.get("/team/lib/container_registry", 404)
        assert "is off" not in text_of(hidden)
    finally:
        await switch(RegistryAccess.ENABLED)


async def test_tags_are_listed_newest_first_or_by_name_and_searched(site: Site) -> None:
    browser, address = await site.browser("reporter"), await site.address_of("team/app/web")
    page = await browser.get(address)
    assert "2 tags" in text_of(page) and f"{address}/tags/v1" in links_in(page)
    for sort, names in (("name", ["v1", "v2"]), ("name_desc", ["v2", "v1"])):
        links = links_in(await browser.get(f"{address}?sort={sort}"))
        assert [link.rpartition("/")[2] for link in links if "/tags/" in link] == names
    found = links_in(await browser.get(f"{address}?search=V2"))
    assert f"{address}/tags/v2" in found and f"{address}/tags/v1" not in found
    assert "No tag has" in text_of(await browser.get(f"{address}?search=zzz"))


@pytest.mark.parametrize("sort", ["published", "oldest", "name", "name_desc"])
async def test_all_tags_of_a_long_list_are_reached_by_its_pages(site: Site, sort: str) -> None:
    surface = site.rest.surface
    await surface.push_image("team/lib/long", "t")
    id = await site.rest.id_of("team/lib/long")
    async with site.rest.database() as database, database.write() as connection:
        stored = await tags.find_details(connection, id, Tag("t"))
        assert stored is not None
        number = await manifests.find_number(connection, id, stored.digest)
        assert number is not None
        for index in range(MANY):
            moment = NOW + timedelta(seconds=index // 7)
            await tags.point(connection, id, Tag(f"tag-{index}"), number, moment, "ada")
    browser, address = await site.browser("reporter"), await site.address_of("team/lib/long")
    seen, following = list[str](), f"{address}?sort={sort}"
    while following:
        page = await browser.get(following)
        links = links_in(page)
        seen += [link.rpartition("/")[2] for link in links if link.startswith(f"{address}/tags/")]
        nexts = [e.attributes["href"] for e in elements(page) if e.attributes.get("rel") == "next"]
        following = (nexts[0] or "") if nexts else ""
    assert len(seen) == len(set(seen)) == MANY + 1


async def test_a_tag_shows_its_image_and_how_to_pull_it(site: Site) -> None:
    surface, name = site.rest.surface, "team/app/detailed"
    run = {"Labels": {"source": "https://example.com/x", "plain": "ftp://x"}, "Env": ["A=1"], "Cmd": ["run", "it"]}
    history = [{"created_by": "COPY everything"}, {"created_by": "CMD run", "empty_layer": True}]
    document = {"os": "linux", "architecture": "arm64", "variant": "v8", "config": run, "history": history}
    config = await surface.push_blob(name, json.dumps(document).encode())
    layer = await surface.push_blob(name, b"x" * 3000)
    raw = image(config, layer)
    await surface.put_manifest(name, "v1", raw)
    page = await (await site.browser("reporter")).get(f"{await site.address_of(name)}/tags/v1")
    text = text_of(page)
    assert "linux/arm64/v8" in text and "COPY everything" in text and "A=1" in text and "run it" in text
    fields = [e.attributes["value"] for e in elements(page) if e.tag == "input" and "data-copy" in e.attributes]
    assert digest_of(raw) in fields and config in fields
    assert f"docker pull 127.0.0.1:8080/{name}:v1" in fields
    assert f"FROM 127.0.0.1:8080/{name}@{digest_of(raw)}" in fields
    [outside] = [e for e in elements(page) if e.tag == "a" and "example.com" in (e.attributes["href"] or "")]
    assert outside.attributes["rel"] == "noopener nofollow"
    assert "ftp://x" not in links_in(page) and "ftp://x" in text


async def test_an_index_shows_its_platforms_and_the_image_of_each(site: Site) -> None:
    surface, name = site.rest.surface, "team/app/multi"
    entries = []
    for architecture in ("amd64", "arm64"):
        document = {"os": "linux", "architecture": architecture, "config": {"User": f"user-of-{architecture}"}}
        config = await surface.push_blob(name, json.dumps(document).encode())
        raw = image(config, await surface.push_blob(name, architecture.encode()))
        await surface.put_manifest(name, digest_of(raw), raw)
        platform = {"os": "linux", "architecture": architecture}
        entries.append({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest_of(raw)})
        entries[-1] |= {"size": len(raw), "platform": platform}  # type: ignore[dict-item]
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    await surface.put_manifest(name, "all", index, headers=[("Content-Type", OCI_INDEX)])
    browser, address = await site.browser("reporter"), await site.address_of(name)
    assert "linux/amd64, linux/arm64" in text_of(await browser.get(address))
    page = text_of(await browser.get(f"{address}/tags/all"))
    assert "user-of-amd64" in page and "linux/arm64" in page
    other = text_of(await browser.get(f"{address}/tags/all?image={entries[1]['digest']}"))
    assert "user-of-arm64" in other and "user-of-amd64" not in other
    wrong = text_of(await browser.get(f"{address}/tags/all?image=sha256:{'0' * 64}"))
    assert "user-of-amd64" in wrong


@pytest.mark.parametrize("content", [b"no document", b"[]", b"{}", b'{"config": 7, "history": {}, "os": []}', b"\xff"])
async def test_a_config_that_is_none_is_no_fault(site: Site, content: bytes) -> None:
    surface, name = site.rest.surface, "team/app/odd"
    raw = image(await surface.push_blob(name, content), await surface.push_blob(name, b"layer"))
    await surface.put_manifest(name, "v1", raw)
    page = await (await site.browser("reporter")).get(f"{await site.address_of(name)}/tags/v1")
    assert "Layers" in text_of(page)


async def test_what_refers_to_an_image_is_listed(site: Site) -> None:
    surface, name = site.rest.surface, "team/app/signed"
    digest = await surface.push_image(name, "v1")
    subject = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1}
    config, layer = await surface.push_blob(name, b"{}"), await surface.push_blob(name, b"signature")
    raw = image(config, layer, subject=subject, artifactType="application/vnd.example.signature")
    await surface.put_manifest(name, digest_of(raw), raw)
    page = text_of(await (await site.browser("reporter")).get(f"{await site.address_of(name)}/tags/v1"))
    assert "application/vnd.example.signature" in page


async def test_a_repository_of_another_project_is_not_found_below_this_one(site: Site) -> None:
    id = await site.rest.id_of("closed/secret")
    browser = await site.browser("maintainer")
    for path in (f"/team/app/container_registry/{id}", f"/team/app/container_registry/{id}/tags/hidden-tag"):
        await browser.get(path, 404)
    for text in ("0", "x", "99999", "9" * 30, "-1", "%31"):
        await browser.get(f"/team/lib/container_registry/{text}", 404)


async def test_guests_of_the_registry_cannot_remove_and_are_told_why(site: Site) -> None:
    browser, address = await site.browser("reporter"), await site.address_of("team/app/web")
    page = await browser.get(address)
    assert "Developers and above may remove tags." in text_of(page)
    assert not [e for e in elements(page) if e.attributes.get("name") == "tag"]
    assert "Developers and above may remove tags." in text_of(await browser.get(f"{address}/tags/v1"))


async def test_paths_are_found_in_any_capitals_and_with_a_slash_at_the_end(site: Site) -> None:
    browser = await site.browser("reporter")
    assert (await browser.get("/Team/App/container_registry/")).status == 200
    for path in ("/team//app", "/team/app/", "/./team", "/team/%00", "/team/..%2fapp", "/" + "a" * 3000):
        assert (await browser.get(path, None)).status in (200, 303, 404)


@pytest.mark.parametrize(
    "path", ["/team/dependency_proxy/containers/x", "/team/dependency_proxy", "/groups/team/virtual_registries"]
)
async def test_the_name_of_an_image_of_an_upstream_is_no_page(site: Site, path: str) -> None:
    await (await site.browser("reporter")).get(path, 404)


async def test_clients_that_are_no_browsers_get_the_errors_that_they_read(site: Site) -> None:
    for path in ("/nothing", "/v1/search", "/team/app"):
        answer = await site.stranger().get(path, 404, accept="*/*")
        assert answer.error["code"] == "UNSUPPORTED"


async def test_an_unknown_method_is_told_which_there_are(site: Site) -> None:
    answer = await (await site.browser("reporter")).post("/help")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
