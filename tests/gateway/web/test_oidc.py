"""Signing in by an issuer: who gets which account, and whose response is accepted."""

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import pytest_asyncio

from gateway.audit.event import EventKind
from gateway.auth.oidc_sign_in import OidcSignIn
from gateway.db.user_lists import UserFilter, UserOrder
from gateway.db.windows import ListWindow
from gateway.directory.identity_administration import IdentityAdministration
from gateway.namespaces.user import UserChanges
from gateway.v2.opener import RegistryOptions
from gateway.web.options import WebOptions
from gateway.wiring.app import create_app
from tests.gateway.asgi import Exchange
from tests.gateway.v2.pushing import ROOTS
from tests.parts.canaries import remember
from tests.parts.certs import Authority
from tests.parts.issuer import Issuer

from .browsing import URL, Browser, Site, links_in, open_site, path_of, text_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

LINK = "/users/oidc/staff"
REFUSED = "Signing in did not work: begin again"


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    issuer = Issuer(Authority(tmp_path_factory.mktemp("authority"))).start()
    yield issuer
    issuer.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> AsyncIterator[Site]:
    folder: Path = tmp_path_factory.mktemp("site")
    secret = folder / "secret"
    secret.write_text(remember("the secret of the client") + "\n")
    rule = {"claims": {"groups": "staff"}, "account": True}
    table = issuer.settings(rule, client_id="registry", client_secret_file=str(secret))
    async with open_site(folder / "data", oidc={"staff": table}) as site:
        yield site


@pytest.fixture(autouse=True)
def member_of_staff(issuer: Issuer) -> None:
    issuer.person = {"sub": "person-1", "preferred_username": "Ada.Lovelace", "groups": ["staff"]}


async def begun(site: Site, next_path: str = "/") -> tuple[Browser, dict[str, str]]:
    """A browser that was led to the issuer, and what it was sent with."""
    browser = site.stranger()
    answer = await browser.get(f"{LINK}?{urlencode({'next': next_path})}", 303)
    return browser, dict(parse_qsl(urlsplit(answer.headers["location"]).query))


async def back(browser: Browser, issuer: Issuer, query: dict[str, str], **changed: str) -> Exchange:
    """The response to the browser that the issuer leads back."""
    sent = {"code": issuer.grant(query), "state": query["state"], "iss": issuer.url, **changed}
    return await browser.get(f"{LINK}/callback?{urlencode(sent)}", None)


async def signed_in(site: Site, issuer: Issuer, **person: Any) -> Browser:
    issuer.person = {"sub": "person-1", "preferred_username": "Ada.Lovelace", "groups": ["staff"], **person}
    browser, query = await begun(site)
    answer = await back(browser, issuer, query)
    assert answer.status == 303, text_of(answer)
    return browser


async def name_in(browser: Browser) -> str:
    """The name of who is signed in."""
    return re.search(r"User name([\w-]+)", text_of(await browser.get("/-/profile")))[1]  # type: ignore[index]


async def test_a_link_of_the_sign_in_page_begins_and_the_response_leads_back(site: Site, issuer: Issuer) -> None:
    page = await site.stranger().get("/users/sign_in?next=%2Fteam")
    assert f"{LINK}?next=/team" in links_in(page)
    browser, query = await begun(site, "/help")
    assert (query["response_type"], query["client_id"], query["code_challenge_method"]) == ("code", "registry", "S256")
    assert query["redirect_uri"] == f"{URL}{LINK}/callback"
    assert {len(query[name]) for name in ("state", "nonce", "code_challenge")} == {43}
    assert path_of(await back(browser, issuer, query)) == "/help"
    assert await name_in(browser) == "ada-lovelace"
    sent = issuer.redeemed[-1]
    assert sent["authorization"].startswith("Basic ") and "client_secret" not in sent
    [event] = site.rest.noted(EventKind.CREATE)
    assert (event.path, event.target, event.user) == ("ada-lovelace", f"{issuer.url} person-1", None)
    assert await name_in(await signed_in(site, issuer)) == "ada-lovelace"
    assert len(site.rest.noted(EventKind.CREATE)) == 1


async def test_an_account_is_that_of_issuer_and_subject_whatever_the_name_and_the_address(
    site: Site, issuer: Issuer
) -> None:
    root = site.rest.surface.people["root"]
    await site.rest.services.users.update(root.id, UserChanges(email="root@example.com"))
    first = {"sub": "person-2", "preferred_username": "root", "email": "root@example.com", "email_verified": True}
    browser = await signed_in(site, issuer, **first)
    assert await name_in(browser) == "root-2"
    assert "Administrator" not in text_of(await browser.get("/-/profile"))
    renamed = await signed_in(site, issuer, sub="person-2", preferred_username="somebody.else")
    assert await name_in(renamed) == "root-2"
    odd = await signed_in(site, issuer, sub="person-3", preferred_username="../team/é")
    assert await name_in(odd) == "team-2", "a group has the other name"
    assert await name_in(await signed_in(site, issuer, sub="person-4", preferred_username="***")) == "user"


async def test_whoever_no_rule_is_for_gets_no_account(site: Site, issuer: Issuer) -> None:
    issuer.person = {"sub": "person-9", "preferred_username": "visitor", "groups": ["guests"]}
    browser, query = await begun(site)
    refused = await back(browser, issuer, query)
    assert refused.status == 422 and REFUSED in text_of(refused)
    assert "visitor" not in [user.name for user in await people(site)]
    await browser.get("/-/profile", 303)


async def people(site: Site) -> list[Any]:
    users = site.rest.services.users
    return list((await users.list_part(UserFilter(), UserOrder.ID, ListWindow(100), counted=False)).rows)


@pytest.mark.parametrize(
    "changed",
    [{"state": "x"}, {"state": ""}, {"iss": "https://other.example"}, {"code": ""}, {"error": "access_denied"}],
)
async def test_a_response_that_is_wrong_is_refused(site: Site, issuer: Issuer, changed: dict[str, str]) -> None:
    browser, query = await begun(site)
    redeemed = len(issuer.redeemed)
    refused = await back(browser, issuer, query, **changed)
    assert refused.status == 422 and REFUSED in text_of(refused)
    assert len(issuer.redeemed) == redeemed


async def test_the_response_of_one_browser_signs_no_other_one_in(site: Site, issuer: Issuer) -> None:
    _, query = await begun(site)
    victim, own = await begun(site)
    for state in (query["state"], own["state"]):  # login CSRF, and an attacker's code with the state of the victim
        refused = await back(victim, issuer, query, state=state)
        assert refused.status == 422 and REFUSED in text_of(refused)
    refused = await back(site.stranger(), issuer, query)
    assert refused.status == 422


async def test_a_response_counts_once(site: Site, issuer: Issuer) -> None:
    browser, query = await begun(site)
    cookies = dict(browser.cookies)
    code = issuer.grant(query)
    assert (await back(browser, issuer, query, code=code)).status == 303
    again = Browser(site.app, cookies)
    assert (await back(again, issuer, query, code=code)).status == 422


@pytest.mark.parametrize(
    "claims",
    [{"nonce": "of another sign-in"}, {"nonce": None}, {"aud": "https://registry.example.com"}, {"iat": 1, "exp": 2}],
)
async def test_a_token_that_was_made_for_something_else_is_refused(
    site: Site, issuer: Issuer, claims: dict[str, Any]
) -> None:
    issuer.person = {"sub": "person-1", "groups": ["staff"], **claims}
    browser, query = await begun(site)
    refused = await back(browser, issuer, query)
    assert refused.status == 422 and REFUSED in text_of(refused)


async def test_a_visitor_is_led_back_to_this_host_alone(site: Site, issuer: Issuer) -> None:
    for path in ("//evil.example", "https://evil.example", "/" + "x" * 1500):
        browser, query = await begun(site, path)
        assert path_of(await back(browser, issuer, query)) == "/"


async def test_a_session_ends_with_its_user_and_with_its_issuer(site: Site, issuer: Issuer) -> None:
    browser = await signed_in(site, issuer, sub="person-5", preferred_username="leaver")
    services = site.rest.services
    identities = IdentityAdministration(services.native.uploads.native.database, services.clock)
    without = replace(services, oidc_sign_in=OidcSignIn((), identities, services.clock))
    other = create_app(without, ROOTS, RegistryOptions(open_proxy=True))
    await Browser(other, dict(browser.cookies)).get("/-/profile", 303)
    browser = await signed_in(site, issuer, sub="person-5")
    assert await name_in(browser) == "leaver"
    [user] = [user for user in await people(site) if user.name == "leaver"]
    await services.users.update(user.id, UserChanges(blocked=True))
    await browser.get("/-/profile", 303)
    issuer.person = {"sub": "person-5", "groups": ["staff"]}
    browser, query = await begun(site)
    assert "is blocked" in text_of(await back(browser, issuer, query))
    await services.users.update(user.id, UserChanges(blocked=False))
    browser = await signed_in(site, issuer, sub="person-5")
    await services.users.delete(user.id)
    await browser.get("/-/profile", 303)
    assert await services.oidc_sign_in.is_valid(999) is False


async def test_a_session_of_an_issuer_is_renewed_with_new_rights(site: Site, issuer: Issuer) -> None:
    browser = await signed_in(site, issuer, sub="person-6", preferred_username="riser")
    [user] = [user for user in await people(site) if user.name == "riser"]
    before = dict(browser.cookies)
    await site.rest.services.users.update(user.id, UserChanges(admin=True))
    assert "Administrator" in text_of(await browser.get("/-/profile"))
    assert browser.cookies != before
    assert "Administrator" in text_of(await browser.get("/-/profile"))


async def test_an_issuer_that_is_not_there_leads_nowhere(site: Site) -> None:
    for path in ("/users/oidc/other", "/users/oidc/other/callback?code=x&state=y"):
        await site.stranger().get(path, 404)


async def test_nobody_signs_in_by_http_beyond_loopback(site: Site) -> None:
    options = WebOptions("http://registry.example.com", "registry.example.com", timedelta(1))
    app = create_app(site.rest.services, ROOTS, RegistryOptions(open_proxy=True), pages=options)
    await Browser(app).get(LINK, 404)
