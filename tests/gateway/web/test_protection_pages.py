"""Protection rules and quotas on pages: made, changed and ended by who may, and what they do."""

from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from gateway.namespaces.protection import ProtectionRule

from .browsing import Fields, Site, elements, links_in, open_site, path_of, text_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

RULES = "/team/app/-/settings/protection_rules"
TAG = [("kind", "tag"), ("pattern", "v.*"), ("push", "maintainer"), ("delete", "owner")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with open_site(tmp_path_factory.mktemp("site") / "data") as site:
        await site.rest.surface.push_image("team/app/web", "v1")
        yield site


async def stored(site: Site) -> Sequence[ProtectionRule]:
    place = await site.rest.services.directory.find_project_place("team/app")
    assert place is not None
    return await site.rest.services.native.protection_rules.list_of(place.project.id)


async def test_a_rule_is_made_counts_is_changed_and_deleted(site: Site) -> None:
    browser, developer = await site.browser("maintainer"), await site.browser("developer")
    assert "There is no rule." in text_of(await browser.get(RULES))
    assert path_of(await browser.post(RULES, TAG)) == f"{RULES}?done=created"
    [rule] = await stored(site)
    tags = await developer.get(await site.address_of("team/app/web"))
    assert "It is protected by a rule: owners and above may delete it." in text_of(tags)
    page = await browser.get(f"{RULES}?done=created")
    chosen = [e.attributes["value"] for e in elements(page) if e.tag == "option" and "selected" in e.attributes]
    assert "counts from the next request on" in text_of(page) and chosen.count("owner") == 1
    await browser.post(f"{RULES}/{rule.id}", [("push", "admin"), ("delete", "admin")], status=303)
    assert [one.delete and one.delete.word for one in await stored(site)] == ["admin"]
    [link] = [link for link in links_in(page) if link.endswith("/delete")]
    assert "Delete this protection rule?" in text_of(await browser.get(link))
    assert path_of(await browser.post(link)) == f"{RULES}?done=deleted"
    assert await stored(site) == []


async def test_a_rule_for_repositories_names_whole_paths(site: Site) -> None:
    browser = await site.browser("maintainer")
    fields = [("kind", "repository"), ("pattern", "team/app/release*"), ("push", "owner"), ("delete", "")]
    await browser.post(RULES, fields, status=303)
    [rule] = await stored(site)
    assert (rule.pattern, rule.delete) == ("/release*", None)
    assert "team/app/release*" in text_of(await browser.get(RULES))
    again = await browser.post(RULES, fields)
    assert again.status == 422
    await browser.post(f"{RULES}/{rule.id}/delete", status=303)


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ([("kind", "repository"), ("pattern", "other/*"), ("push", "owner")], 422, "matches nothing in project"),
        ([("kind", "repository"), ("pattern", "team/app/*")], 422, "names who may push to them"),
        ([("kind", "tag"), ("pattern", "("), *TAG[2:]], 422, "This did not work."),
        ([("kind", "x"), ("pattern", "a")], 400, "names no kind"),
        ([("kind", "tag"), ("pattern", "a"), ("push", "x")], 400, "names no level"),
    ],
)
async def test_a_wrong_rule_is_refused_with_its_reason(site: Site, fields: Fields, status: int, said: str) -> None:
    answer = await (await site.browser("maintainer")).post(RULES, fields)
    assert answer.status == status and said in text_of(answer)
    if status == 422:
        typed = [e.attributes["value"] for e in elements(answer) if e.attributes.get("name") == "pattern"]
        assert fields[1][1] in typed
    assert await stored(site) == []


async def test_owners_alone_make_and_end_immutable_tags(site: Site) -> None:
    fields = [("kind", "immutable"), ("pattern", "v[0-9]+")]
    browser, root = await site.browser("maintainer"), await site.browser("root")
    refused = await browser.post(RULES, fields)
    assert refused.status == 403 and "Owners make and delete rules for immutable tags." in text_of(refused)
    await root.post(RULES, fields, status=303)
    [rule] = await stored(site)
    assert "Owners of the project make rules for immutable tags." in text_of(await browser.get(RULES))
    for path in (f"{RULES}/{rule.id}/delete", f"{RULES}/{rule.id}"):
        assert (await browser.post(path)).status == 403
    await root.post(f"{RULES}/{rule.id}/delete", status=303)


@pytest.mark.parametrize(("place", "who"), [("/team/app/-", "maintainer"), ("/groups/team/-", "root")])
async def test_a_quota_is_shown_and_changed_by_administrators_alone(site: Site, place: str, who: str) -> None:
    address, root = f"{place}/settings/quota", await site.browser("root")
    shown = text_of(await (await site.browser(who)).get(address))
    assert "Quotanone of this" in shown and "Stored" in shown
    assert path_of(await root.post(address, [("quota", "10 GiB")])) == f"{address}?saved=yes"
    page = await root.get(address)
    assert "of 10.0 GiB" in text_of(page)
    assert "10GiB" in [e.attributes.get("value") for e in elements(page) if e.attributes.get("name") == "quota"]
    wrong = await root.post(address, [("quota", "10%")])
    assert wrong.status == 422 and "is no size" in text_of(wrong)
    if who != "root":
        refused = await (await site.browser(who)).post(address, [("quota", "")])
        assert refused.status == 403 and "Administrators of the server change quotas." in text_of(refused)
    await root.post(address, [("quota", "")], status=303)
    assert "Quotanone of this" in text_of(await root.get(address))
