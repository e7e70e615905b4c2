"""My tokens, and Settings > General of a project."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.namespaces.node import Visibility
from gateway.namespaces.project import RegistryAccess

from .browsing import Site, elements, links_in, open_site, path_of, text_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKENS = "/-/profile/personal_access_tokens"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with open_site(tmp_path_factory.mktemp("site") / "data") as site:
        yield site


async def test_a_token_is_made_shown_once_and_works(site: Site) -> None:
    browser = await site.browser("reporter")
    made = await browser.post(TOKENS, [("name", "for my laptop"), ("scope", "read_api"), ("scope", "nonsense")])
    [secret] = [str(e.attributes["value"]) for e in elements(made) if e.attributes.get("id") == "new-token"]
    assert made.headers["cache-control"] == "no-store"
    answer = await site.rest.call("GET", "/projects/team%2Fapp", who=None, headers=[("PRIVATE-TOKEN", secret)])
    assert answer.status == 200
    listed = await browser.get(TOKENS)
    assert "for my laptop" in text_of(listed) and secret not in listed.body.decode()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ([("name", "x")], "scope"),
        ([("name", ""), ("scope", "api")], "name"),
        ([("name", "x"), ("scope", "api"), ("expires_at", "2001-01-01")], "future"),
        ([("name", "x"), ("scope", "api"), ("expires_at", "nonsense")], "2030-01-31"),
        ([("name", "x"), ("scope", "api"), ("expires_at", "2999-01-01")], "latest"),
    ],
)
async def test_a_token_that_is_refused_says_why_and_keeps_what_was_typed(
    site: Site, fields: list[tuple[str, str]], said: str
) -> None:
    answer = await (await site.browser("reporter")).post(TOKENS, fields)
    assert answer.status == 422 and said in text_of(answer)
    typed = {e.attributes.get("name"): e.attributes.get("value") for e in elements(answer) if e.tag == "input"}
    assert typed["name"] == dict(fields)["name"]


async def test_a_token_is_revoked_after_a_confirmation(site: Site) -> None:
    browser = await site.browser("developer")
    await browser.post(TOKENS, [("name", "short-lived"), ("scope", "api")])
    [link] = [link for link in links_in(await browser.get(TOKENS)) if "/revoke" in link][:1]
    assert "Revoke the token short-lived?" in text_of(await browser.get(link))
    assert path_of(await browser.post(link)) == f"{TOKENS}?revoked=yes"
    assert "short-lived" not in text_of(await browser.get(TOKENS))
    assert "short-lived" in text_of(await browser.get(f"{TOKENS}?show=ended"))


async def test_nobody_sees_or_revokes_the_token_of_another_user(site: Site) -> None:
    owner, other = await site.browser("maintainer"), await site.browser("root")
    await owner.post(TOKENS, [("name", "mine"), ("scope", "api")])
    link = next(link for link in links_in(await owner.get(TOKENS)) if "/revoke" in link)
    assert "mine" not in text_of(await other.get(TOKENS))
    await other.get(link, 404)
    assert (await other.post(link)).status == 404
    assert "mine" in text_of(await owner.get(TOKENS))


async def test_settings_change_visibility_and_who_may_use_the_registry(site: Site) -> None:
    browser = await site.browser("maintainer")
    page = await browser.get("/team/app/edit")
    for words in ("Everyone With Access", "Only Project Members", "Save changes"):
        assert words in text_of(page)
    chosen = [e.attributes["value"] for e in elements(page) if "checked" in e.attributes]
    assert chosen == ["private", "enabled"]
    fields = [("visibility", "private"), ("container_registry_access_level", "private")]
    assert path_of(await browser.post("/team/app/edit", fields)) == "/team/app/edit?done=saved"
    place = await site.rest.services.directory.find_project_place("team/app")
    assert place is not None
    assert (place.project.visibility, place.project.registry) == (Visibility.PRIVATE, RegistryAccess.PRIVATE)
    owner, public = await site.browser("root"), [("visibility", "public"), fields[1]]
    refused = await browser.post("/team/app/edit", public)
    assert refused.status == 403 and "Owners change the visibility of a project." in text_of(refused)
    wider = await owner.post("/team/app/edit", public)
    assert wider.status == 422 and "public" in text_of(wider)
    for wrong in ([], [("visibility", "x"), fields[1]]):
        assert (await browser.post("/team/app/edit", wrong)).status == 400


@pytest.mark.parametrize(("who", "status"), [("developer", 403), ("reporter", 403), ("stranger", 404)])
async def test_settings_are_for_maintainers(site: Site, who: str, status: int) -> None:
    browser = await site.browser(who)
    await browser.get("/team/lib/edit", status)
    fields = [("visibility", "private"), ("container_registry_access_level", "disabled")]
    assert (await browser.post("/team/lib/edit", fields)).status == status
    place = await site.rest.services.directory.find_project_place("team/lib")
    assert place is not None and place.project.registry is RegistryAccess.ENABLED
