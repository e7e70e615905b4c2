"""Groups, projects and repositories that are made, renamed, moved and deleted on pages, and who may do that."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.namespaces.node import Visibility

from .browsing import Fields, Site, elements, links_in, open_site, path_of, text_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

GROUP, PROJECT = "/-/new/group", "/-/new/project"
PRIVATE = ("visibility", "private")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with open_site(tmp_path_factory.mktemp("site") / "data") as site:
        yield site


async def exists(site: Site, *paths: str) -> list[bool]:
    """Which groups and projects there are."""
    found = await site.rest.services.directory.tree.places_at(paths)
    return [path in found for path in paths]


async def test_a_project_is_made_in_a_group_and_in_ones_own_namespace(site: Site) -> None:
    browser = await site.browser("developer")
    assert f"{PROJECT}?in=team" in links_in(await browser.get("/team"))
    form = await browser.get(f"{PROJECT}?in=team")
    assert ("above", "team") in [(e.attributes.get("name"), e.attributes.get("value")) for e in elements(form)]
    made = await browser.post(PROJECT, [("above", "Team"), ("name", "Fresh"), PRIVATE])
    assert path_of(made) == "/team/fresh"
    assert path_of(await browser.post(PROJECT, [("above", "developer"), ("name", "own"), PRIVATE])) == "/developer/own"
    assert "Push an image" in text_of(await browser.get("/developer/own"))


async def test_groups_are_made_by_owners_and_at_the_top_by_administrators(site: Site) -> None:
    root, browser = await site.browser("root"), await site.browser("maintainer")
    assert path_of(await root.post(GROUP, [("name", "top"), ("visibility", "public")])) == "/top"
    assert path_of(await root.post(GROUP, [("above", "top"), ("name", "below"), PRIVATE])) == "/top/below"
    for above, said in (("", "Administrators alone create groups at the top"), ("team", "may not")):
        refused = await browser.post(GROUP, [("above", above), ("name", "mine"), PRIVATE])
        assert refused.status == 403 and said in text_of(refused)
    assert GROUP not in "".join(links_in(await browser.get("/"))) and GROUP in links_in(await root.get("/"))
    assert await exists(site, "top", "top/below", "mine", "team/mine") == [True, True, False, False]


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ([("above", "nowhere"), ("name", "x"), PRIVATE], 422, "There is nothing at “nowhere”"),
        ([("above", "closed"), ("name", "x"), PRIVATE], 422, "There is nothing at “closed”"),
        ([("above", "team"), ("name", "app"), PRIVATE], 422, "The path has already been taken."),
        ([("above", "team"), ("name", "a/b c"), PRIVATE], 422, "This did not work."),
        ([("above", "team"), ("name", "x"), ("visibility", "public")], 422, "public"),
        ([("above", "open"), ("name", "x"), PRIVATE], 403, "developers of group 'open'"),
        ([("above", "team"), ("name", "x")], 400, "names no visibility"),
    ],
)
async def test_a_project_that_is_refused_says_why_and_keeps_what_was_typed(
    site: Site, fields: Fields, status: int, said: str
) -> None:
    answer = await (await site.browser("maintainer")).post(PROJECT, fields)
    assert answer.status == status and said.lower() in text_of(answer).lower()
    if status == 422:
        typed = {e.attributes.get("name"): e.attributes.get("value") for e in elements(answer) if e.tag == "input"}
        assert (typed["above"], typed["name"]) == (fields[0][1], fields[1][1])


async def test_a_project_gets_another_path_and_another_place_and_is_deleted(site: Site) -> None:
    root, browser = await site.browser("root"), await site.browser("maintainer")
    await root.post(PROJECT, [("above", "team"), ("name", "going"), PRIVATE], status=303)
    renamed = await browser.post("/team/going/-/settings/path", [("path", "gone")])
    assert path_of(renamed) == "/team/gone/edit?done=moved"
    page = await browser.get("/team/gone/edit?done=moved")
    assert "It is team/gone now." in text_of(page) and "Owners transfer and delete the project." in text_of(page)
    assert path_of(await browser.get("/team/going", 303)) == "/team/gone"
    for path, fields in (("transfer", [("above", "team/sub")]), ("delete", [("confirmation", "team/gone")])):
        assert (await browser.post(f"/team/gone/-/settings/{path}", fields)).status == 403
    moved = await root.post("/team/gone/-/settings/transfer", [("above", "team/sub")])
    assert path_of(moved) == "/team/sub/gone/edit?done=moved"
    delete = "/team/sub/gone/-/settings/delete"
    wrong = await root.post(delete, [("confirmation", "team/gone")])
    assert wrong.status == 422 and "is not the path of the project" in text_of(wrong)
    assert path_of(await root.post(delete, [("confirmation", "team/sub/gone")])) == "/team/sub?deleted=yes"
    assert await exists(site, "team/sub/gone") == [False]
    assert "It is deleted." in text_of(await root.get("/team/sub?deleted=yes"))


async def test_a_group_is_shown_renamed_moved_and_deleted_when_it_is_empty(site: Site) -> None:
    root = await site.browser("root")
    await root.post(GROUP, [("name", "crew"), PRIVATE], status=303)
    await root.post(PROJECT, [("above", "crew"), ("name", "app"), PRIVATE], status=303)
    assert (
        path_of(await root.post("/groups/crew/-/edit", [("visibility", "public")])) == "/groups/crew/-/edit?done=saved"
    )
    place = await site.rest.services.directory.find_group_place("crew")
    assert place is not None and place.group.visibility is Visibility.PUBLIC
    await root.post("/groups/crew/-/settings/path", [("path", "staff")], status=303)
    moved = await root.post("/groups/staff/-/settings/transfer", [("above", "open")])
    assert path_of(moved) == "/groups/open/staff/-/edit?done=moved"
    held = await root.post("/groups/open/staff/-/settings/delete", [("confirmation", "open/staff")])
    assert held.status == 422 and "open/staff/app" in text_of(held)
    await root.post("/open/staff/app/-/settings/delete", [("confirmation", "open/staff/app")], status=303)
    gone = await root.post("/groups/open/staff/-/settings/delete", [("confirmation", "open/staff")])
    assert path_of(gone) == "/open?deleted=yes" and await exists(site, "open/staff") == [False]


@pytest.mark.parametrize(
    ("page", "field", "value", "said"),
    [
        ("/team/app/-/settings/path", "path", "lib", "is the path of a project"),
        ("/team/app/-/settings/path", "path", "", "This did not work."),
        ("/team/app/-/settings/transfer", "above", "nowhere", "There is nothing at “nowhere”"),
        ("/groups/team/-/settings/transfer", "above", "team/sub", "cannot move below itself"),
        ("/groups/team/-/settings/path", "path", "open", "is the path of a group"),
        ("/groups/team/sub/-/edit", "visibility", "public", "public"),
    ],
)
async def test_a_change_that_is_refused_says_why_and_changes_nothing(
    site: Site, page: str, field: str, value: str, said: str
) -> None:
    answer = await (await site.browser("root")).post(page, [(field, value)])
    assert answer.status == 422 and said in text_of(answer)
    assert await exists(site, "team/app", "team/sub", "team") == [True, True, True]


async def test_a_repository_is_renamed_and_moved_to_another_project(site: Site) -> None:
    name, browser = "team/app/web", await site.browser("maintainer")
    await site.rest.surface.push_image(name, "v1")
    page = f"{await site.address_of(name)}/move"
    assert page in links_in(await browser.get(await site.address_of(name)))
    id = page.split("/")[-2]
    assert name in [e.attributes.get("value") for e in elements(await browser.get(page))]
    renamed = await browser.post(page, [("path", "team/app/site")])
    assert path_of(renamed) == f"/team/app/container_registry/{id}?moved=yes"
    moved = await browser.post(page, [("path", "team/lib/site")])
    assert path_of(moved) == f"/team/lib/container_registry/{id}?moved=yes"
    text = text_of(await browser.get(path_of(moved)))
    assert "team/lib/site" in text and "The repository has this path now." in text


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("team/app/API", 422, "This did not work."),
        ("nowhere/app", 422, "lies in no project that you may see"),
        ("closed/secret/web", 422, "lies in no project that you may see"),
        ("open/shown/web", 403, "You may not do this"),
        ("team/app/there", 422, "has this path already"),
    ],
)
async def test_a_move_that_is_refused_says_why(site: Site, path: str, status: int, said: str) -> None:
    browser = await site.browser("maintainer")
    await site.rest.surface.push_image("team/app/there", "v1")
    answer = await browser.post(f"{await site.address_of('team/app/there')}/move", [("path", path)])
    assert answer.status == status and said in text_of(answer)
