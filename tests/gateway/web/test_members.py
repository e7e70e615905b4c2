"""Members of projects and groups: who is shown, and who may add, change and remove whom."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.namespaces.role import Role

from .browsing import Site, elements, links_in, open_site, path_of, text_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROJECT, GROUP = "/team/app/-/project_members", "/groups/team/-/group_members"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with open_site(tmp_path_factory.mktemp("site") / "data") as site:
        yield site


def id_of(site: Site, name: str) -> int:
    return site.rest.surface.people[name].id


async def role_of(site: Site, name: str, path: str = "team/app") -> Role | None:
    """The role that somebody has by the members of a place itself."""
    found = await site.rest.services.directory.tree.members_of(path, site.rest.services.clock(), inherited=False)
    return next((one.member.role for one in found if one.user.name == name), None)


async def test_inherited_members_are_shown_with_where_they_come_from(site: Site) -> None:
    page = await (await site.browser("developer")).get(PROJECT)
    text = text_of(page)
    assert "This project has no members of its own." in text and "Add a member" not in text
    assert text.count("Maintainer team") == 1 and GROUP in links_in(page)
    filtered = text_of(await (await site.browser("developer")).get(f"{PROJECT}?search=repo"))
    assert "reporter" in filtered and "maintainer" not in filtered


@pytest.mark.parametrize(("place", "who", "path"), [(PROJECT, "maintainer", "team/app"), (GROUP, "root", "team")])
async def test_a_member_is_added_changed_and_removed(site: Site, place: str, who: str, path: str) -> None:
    browser, id = await site.browser(who), id_of(site, "newcomer")
    fields = [("username", "Newcomer"), ("role", "reporter"), ("expires_at", "2999-02-01")]
    assert path_of(await browser.post(place, fields)) == f"{place}?done=added"
    assert await role_of(site, "newcomer", path) is Role.REPORTER
    page = await browser.get(place)
    fields_of_row = [e for e in elements(page) if e.attributes.get("form") == f"member-{id}"]
    assert [e.attributes["value"] for e in fields_of_row if e.tag == "input"] == ["2999-02-01"]
    changed = await browser.post(f"{place}/{id}", [("role", "developer"), ("expires_at", "")])
    assert path_of(changed) == f"{place}?done=changed"
    assert await role_of(site, "newcomer", path) is Role.DEVELOPER
    assert "Remove newcomer from" in text_of(await browser.get(f"{place}/{id}/remove"))
    assert path_of(await browser.post(f"{place}/{id}/remove")) == f"{place}?done=removed"
    assert await role_of(site, "newcomer", path) is None


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ([("username", "nobody"), ("role", "reporter")], "There is no user 'nobody'."),
        ([("username", "newcomer"), ("role", "reporter"), ("expires_at", "2001-01-01")], "is not in the future"),
        ([("username", "developer"), ("role", "guest")], "would take nothing away"),
    ],
)
async def test_what_is_refused_says_why_and_keeps_what_was_typed(
    site: Site, fields: list[tuple[str, str]], said: str
) -> None:
    answer = await (await site.browser("maintainer")).post(PROJECT, fields)
    assert answer.status == 422 and said in text_of(answer)
    typed = {e.attributes.get("name"): e.attributes.get("value") for e in elements(answer) if e.tag == "input"}
    assert typed["username"] == fields[0][1]


async def test_nobody_gives_or_takes_a_role_above_the_own_one(site: Site) -> None:
    root, browser, id = await site.browser("root"), await site.browser("maintainer"), id_of(site, "newcomer")
    await root.post(PROJECT, [("username", "newcomer"), ("role", "owner")], status=303)
    offered = [e.attributes.get("value") for e in elements(await browser.get(PROJECT)) if e.tag == "option"]
    assert "owner" not in offered
    for path, fields in (
        (PROJECT, [("username", "stranger"), ("role", "owner")]),
        (f"{PROJECT}/{id}", [("role", "guest")]),
        (f"{PROJECT}/{id}/remove", []),
    ):
        answer = await browser.post(path, fields)
        assert answer.status == 403 and "is above your own here" in text_of(answer)
    assert await role_of(site, "newcomer") is Role.OWNER and await role_of(site, "stranger") is None
    await root.post(f"{PROJECT}/{id}/remove", status=303)


async def test_everybody_may_leave(site: Site) -> None:
    root, id = await site.browser("root"), id_of(site, "newcomer")
    await root.post(PROJECT, [("username", "newcomer"), ("role", "guest")], status=303)
    browser = await site.browser("newcomer")
    assert f"{PROJECT}/{id}/remove" in links_in(await browser.get(PROJECT))
    await browser.get(f"{PROJECT}/{id_of(site, 'developer')}/remove", 403)
    assert path_of(await browser.post(f"{PROJECT}/{id}/remove")) == "/"
    await browser.get(PROJECT, 404)


async def test_a_form_without_a_role_changes_nothing(site: Site) -> None:
    browser = await site.browser("maintainer")
    assert (await browser.post(PROJECT, [("username", "stranger"), ("role", "x")])).status == 400
    assert (await browser.post(f"{PROJECT}/{id_of(site, 'stranger')}", [("role", "guest")])).status == 404
    assert await role_of(site, "stranger") is None
