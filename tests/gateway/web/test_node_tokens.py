"""Access tokens and deploy tokens of projects and groups: made, shown once, used, and revoked."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.db import credentials
from gateway.namespaces.credential_rules import find_ending
from gateway.namespaces.credentials import hash_secret
from tests.gateway.asgi import Exchange

from .browsing import Site, elements, links_in, open_site, path_of, text_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

ACCESS, DEPLOY = "settings/access_tokens", "settings/deploy_tokens"
PLACES = [("/team/app/-", "maintainer"), ("/groups/team/-", "root")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with open_site(tmp_path_factory.mktemp("site") / "data") as site:
        yield site


def secret_of(page: Exchange) -> str:
    """The secret that a page shows."""
    [secret] = [str(e.attributes["value"]) for e in elements(page) if e.attributes.get("id") == "new-token"]
    assert page.headers["cache-control"] == "no-store"
    return secret


@pytest.mark.parametrize(("base", "who"), PLACES)
async def test_an_access_token_is_made_shown_once_used_and_revoked(site: Site, base: str, who: str) -> None:
    browser, page = await site.browser(who), f"{base}/{ACCESS}"
    made = await browser.post(page, [("name", "ci"), ("role", "reporter"), ("scope", "read_api")], status=200)
    secret = secret_of(made)

    async def status() -> int:
        return (
            await site.rest.call("GET", "/projects/team%2Fapp", who=None, headers=[("PRIVATE-TOKEN", secret)])
        ).status

    assert await status() == 200
    listed = await browser.get(page)
    assert "ciReporterread_api" in text_of(listed) and secret not in listed.body.decode()
    [link] = [link for link in links_in(listed) if link.endswith("/revoke")]
    assert "Revoke the access token ci?" in text_of(await browser.get(link))
    assert path_of(await browser.post(link)) == f"{page}?revoked=yes"
    assert await status() == 401
    assert "cinone any more" in text_of(await browser.get(f"{page}?show=ended"))


@pytest.mark.parametrize(("base", "who"), PLACES)
async def test_a_deploy_token_is_made_shown_once_used_and_revoked(site: Site, base: str, who: str) -> None:
    browser, page = await site.browser(who), f"{base}/{DEPLOY}"
    fields = [("name", "cluster"), ("username", f"puller-{who}"), ("scope", "read_registry")]
    secret = secret_of(await browser.post(page, fields, status=200))

    async def is_valid() -> bool:
        async with site.rest.database() as database, database.read() as connection:
            found = await credentials.find_by_hash(connection, hash_secret(secret))
            return found is not None and find_ending(found[1], site.rest.services.clock()) is None

    assert await is_valid()
    listed = await browser.get(page)
    assert f"clusterpuller-{who}read_registry" in text_of(listed) and secret not in listed.body.decode()
    [link] = [link for link in links_in(listed) if link.endswith("/revoke")]
    assert "Revoke the deploy token cluster?" in text_of(await browser.get(link))
    assert path_of(await browser.post(link)) == f"{page}?revoked=yes"
    assert "cluster" not in text_of(await browser.get(page)) and not await is_valid()


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        (ACCESS, [("name", "x"), ("role", "reporter")], "scope"),
        (ACCESS, [("name", "x"), ("role", "reporter"), ("scope", "api"), ("expires_at", "2001-01-01")], "future"),
        (DEPLOY, [("name", "x"), ("scope", "api")], "scope"),
        (DEPLOY, [("name", "x"), ("username", "ä"), ("scope", "read_registry")], "is not a user name"),
    ],
)
async def test_a_token_that_is_refused_says_why_and_keeps_what_was_typed(
    site: Site, kind: str, fields: list[tuple[str, str]], said: str
) -> None:
    answer = await (await site.browser("maintainer")).post(f"/team/app/-/{kind}", fields)
    assert answer.status == 422 and said in text_of(answer)
    typed = {e.attributes.get("name"): e.attributes.get("value") for e in elements(answer) if e.tag == "input"}
    assert typed["name"] == "x"


async def test_nobody_makes_or_ends_an_access_token_above_the_own_role(site: Site) -> None:
    page, root, browser = f"/team/app/-/{ACCESS}", await site.browser("root"), await site.browser("maintainer")
    fields = [("name", "high"), ("role", "owner"), ("scope", "api")]
    refused = await browser.post(page, fields)
    assert refused.status == 403 and "above your own" in text_of(refused)
    secret_of(await root.post(page, fields, status=200))
    link = next(link for link in links_in(await browser.get(page)) if link.endswith("/revoke"))
    assert (await browser.post(link)).status == 403
    await root.post(link, status=303)


@pytest.mark.parametrize("kind", [ACCESS, DEPLOY])
async def test_no_token_of_another_place_is_shown_or_ended(site: Site, kind: str) -> None:
    root, browser = await site.browser("root"), await site.browser("maintainer")
    fields = [("name", "theirs"), ("role", "reporter"), ("scope", "read_registry")]
    secret_of(await root.post(f"/closed/secret/-/{kind}", fields, status=200))
    [link] = [link for link in links_in(await root.get(f"/closed/secret/-/{kind}")) if link.endswith("/revoke")]
    own = link.replace("/closed/secret/", "/team/app/")
    await browser.get(own, 404)
    assert (await browser.post(own)).status == 404
    assert "theirs" in text_of(await root.get(f"/closed/secret/-/{kind}"))
