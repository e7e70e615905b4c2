"""Signing in and out: sessions, their cookies and their ends, and the change of a password."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.db import web_sessions
from gateway.db.engine import Database
from gateway.directory import web_sessions as web_sessions_module
from gateway.directory.web_sessions import IDLE, LONGEST, NOTED_EVERY, WebSessions
from gateway.namespaces.credentials import hash_secret
from gateway.namespaces.user import UserChanges
from gateway.web.options import SignIn, WebOptions
from gateway.web.visit import local_path

from .browsing import HOST, PASSWORD, Browser, Site, elements, open_site, path_of, text_of, token_in

pytestmark = pytest.mark.asyncio(loop_scope="module")

SESSION, GUARD = "registry_session_8080", "registry_sign_in_8080"
OTHER = "another good password"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with open_site(tmp_path_factory.mktemp("site") / "data") as site:
        yield site


async def is_signed_in(browser: Browser) -> bool:
    answer = await browser.get("/-/profile", None)
    assert answer.status in (200, 303)
    return answer.status == 200


async def test_a_user_signs_in_and_is_led_back(site: Site) -> None:
    browser = site.stranger()
    asked = await browser.get("/-/profile", 303)
    assert path_of(asked) == "/users/sign_in?next=%2F-%2Fprofile"
    answer = await browser.sign_in("reporter", next_path="/-/profile")
    assert (answer.status, path_of(answer)) == (303, "/-/profile")
    assert "reporter" in text_of(await browser.get("/-/profile"))


async def test_the_cookie_of_a_session_is_out_of_reach_of_scripts_and_of_other_sites(site: Site) -> None:
    [line] = [line for line in (await site.stranger().sign_in("reporter")).headers.all("set-cookie") if SESSION in line]
    assert {"HttpOnly", "Path=/", "SameSite=lax"} <= set(line.split("; "))


async def test_the_database_holds_no_secret_of_a_session(site: Site) -> None:
    browser = await site.browser("reporter")
    secret = browser.cookies[SESSION]
    async with site.rest.database() as database:
        stored = await database.query(lambda connection: web_sessions.find_by_hash(connection, hash_secret(secret)))
    assert stored is not None
    for file in site.rest.services.folder.data.glob("gateway.db*"):
        assert secret.encode() not in file.read_bytes()


async def test_a_login_begins_a_session_of_a_new_id_and_ends_the_one_before(site: Site) -> None:
    former = (await site.browser("reporter")).cookies[SESSION]
    browser = site.stranger()
    token = token_in(await browser.get("/users/sign_in"))
    browser.cookies[SESSION] = former
    answer = await browser.post("/users/sign_in", [("username", "maintainer"), ("password", PASSWORD)], token=token)
    assert answer.status == 303 and browser.cookies[SESSION] != former
    assert "maintainer" in text_of(await browser.get("/-/profile"))
    assert not await is_signed_in(Browser(site.app, {SESSION: former}))


async def test_the_sign_in_form_is_that_of_this_browser(site: Site) -> None:
    token = token_in(await site.stranger().get("/users/sign_in"))
    other = site.stranger()
    await other.get("/users/sign_in")
    fields = [("username", "maintainer"), ("password", PASSWORD)]
    for browser in (other, Browser(site.app, {GUARD: "fixed-by-somebody"}), site.stranger()):
        answer = await browser.post("/users/sign_in", fields, token=token)
        assert answer.status == 403 and SESSION not in browser.cookies


async def test_a_session_that_somebody_has_set_is_none(site: Site) -> None:
    assert not await is_signed_in(Browser(site.app, {SESSION: "chosen-by-somebody"}))
    assert not await is_signed_in(Browser(site.app, {SESSION: "x" * 5000}))


@pytest.mark.parametrize("name", ["reporter", "nobody-has-this-name"])
async def test_a_wrong_password_shows_the_same_page_for_every_name(site: Site, name: str) -> None:
    answer = await site.stranger().sign_in(name, "wrong password")
    assert answer.status == 422 and "set-cookie" in answer.headers
    assert "The user name or the password is wrong." in text_of(answer)


async def test_wrong_passwords_count_with_those_of_the_registry(site: Site) -> None:
    answers = [await site.stranger().sign_in("newcomer", f"wrong {number}") for number in range(20)]
    [delayed, *_] = [answer for answer in answers if answer.status == 429]
    assert int(delayed.headers["retry-after"]) > 0 and "again" in text_of(delayed)


async def test_a_token_does_not_sign_in(site: Site) -> None:
    answer = await site.stranger().sign_in("maintainer", site.rest.tokens["maintainer"])
    assert answer.status == 422 and "use the password" in text_of(answer)


async def test_signing_out_ends_the_session_and_not_only_the_cookie(site: Site) -> None:
    browser = await site.browser("reporter")
    kept = Browser(site.app, dict(browser.cookies))
    assert (await browser.post("/users/sign_out")).status == 303
    assert SESSION not in browser.cookies
    assert not await is_signed_in(kept)


async def test_signing_out_everywhere_ends_the_sessions_of_all_browsers(site: Site) -> None:
    browsers = [await site.browser("reporter") for _ in range(3)]
    stranger = await site.browser("maintainer")
    await browsers[0].post("/users/sign_out_everywhere", status=303)
    assert not any([await is_signed_in(browser) for browser in browsers])
    assert await is_signed_in(stranger)


async def test_a_password_is_changed_by_whoever_knows_the_old_one(site: Site) -> None:
    browser, elsewhere = await site.browser("developer"), await site.browser("developer")
    fields = {"current_password": "wrong", "new_password": OTHER, "repeated_password": OTHER}
    refused = await browser.post("/-/profile/password", list(fields.items()))
    assert refused.status == 422 and "The current password is wrong." in text_of(refused)
    assert await is_signed_in(elsewhere)
    before, fields["current_password"] = browser.cookies[SESSION], PASSWORD
    short = await browser.post("/-/profile/password", list({**fields, "repeated_password": "other"}.items()))
    assert short.status == 422 and "differ" in text_of(short)
    answer = await browser.post("/-/profile/password", list(fields.items()))
    assert path_of(answer) == "/-/profile?changed=password"
    assert browser.cookies[SESSION] != before
    assert await is_signed_in(browser) and not await is_signed_in(elsewhere)
    assert (await site.stranger().sign_in("developer", OTHER)).status == 303
    assert (await site.stranger().sign_in("developer", PASSWORD)).status == 422


async def test_whoever_is_blocked_is_signed_out(site: Site) -> None:
    user = await site.rest.services.users.create("blocked", UserChanges())
    hashed = site.rest.surface.people["reporter"].id
    known = await site.rest.services.users.get(hashed)
    await site.rest.services.users.update(user.id, UserChanges(password_hash=known.password_hash))
    browser = await site.browser("blocked")
    await site.rest.services.users.update(user.id, UserChanges(blocked=True))
    assert not await is_signed_in(browser)
    await site.rest.services.users.update(user.id, UserChanges(blocked=False))
    assert not await is_signed_in(browser)


async def test_a_change_of_rights_gives_the_session_a_new_id(site: Site) -> None:
    user = await site.rest.services.users.create("rising", UserChanges())
    known = await site.rest.services.users.get(site.rest.surface.people["reporter"].id)
    await site.rest.services.users.update(user.id, UserChanges(password_hash=known.password_hash))
    browser = await site.browser("rising")
    former = browser.cookies[SESSION]
    await site.rest.services.users.update(user.id, UserChanges(admin=True))
    assert await is_signed_in(browser)
    assert browser.cookies[SESSION] != former
    assert not await is_signed_in(Browser(site.app, {SESSION: former}))


async def test_sessions_end_when_nobody_uses_them_and_after_a_week(site: Site) -> None:
    user = await site.rest.services.users.get(site.rest.surface.people["maintainer"].id)
    async with site.rest.database() as database:
        now = site.rest.services.clock()
        clock = [now]
        sessions = WebSessions(database, lambda: clock[0])
        begun = await sessions.begin(user)
        clock[0] = now + IDLE - timedelta(seconds=1)
        assert await sessions.find(begun.secret) is not None
        clock[0] += IDLE
        assert await sessions.find(begun.secret) is None
        clock[0] = now
        lasting = await sessions.begin(user)
        while clock[0] < now + LONGEST - IDLE:
            clock[0] += IDLE - NOTED_EVERY
            assert await sessions.find(lasting.secret) is not None
        clock[0] = now + LONGEST
        assert await sessions.find(lasting.secret) is None
        clock[0] = now - timedelta(days=1)
        assert await sessions.find(lasting.secret) is None, "a session of the future would last longer"


async def test_a_user_has_so_many_sessions_and_the_one_used_longest_ago_ends(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_sessions_module, "MOST", 2)
    users = [
        await site.rest.services.users.get(site.rest.surface.people[name].id) for name in ("maintainer", "developer")
    ]
    async with site.rest.database() as database:
        now = site.rest.services.clock()
        clock = [now]
        sessions = WebSessions(database, lambda: clock[0])
        await sessions.end_all(users[0].id)  # those of other tests
        other, first, second = [await sessions.begin(user) for user in (users[1], users[0], users[0])]
        clock[0] += NOTED_EVERY
        assert await sessions.find(first.secret) is not None
        third = await sessions.begin(users[0])
        kept = [await sessions.find(session.secret) is not None for session in (other, first, second, third)]
        assert kept == [True, True, False, True]


async def test_ended_sessions_are_deleted_at_the_next_login(site: Site) -> None:
    user = await site.rest.services.users.get(site.rest.surface.people["maintainer"].id)
    async with site.rest.database() as database:
        now = site.rest.services.clock()
        old = await WebSessions(database, lambda: now - LONGEST - timedelta(hours=1)).begin(user)
        await WebSessions(database, lambda: now).begin(user)
        assert await _stored(database, old.secret) is None


async def _stored(database: Database, secret: str) -> web_sessions.StoredSession | None:
    return await database.query(lambda connection: web_sessions.find_by_hash(connection, hash_secret(secret)))


async def test_a_use_of_a_session_announces_no_change(site: Site) -> None:
    user = await site.rest.services.users.get(site.rest.surface.people["maintainer"].id)
    async with site.rest.database() as database:
        now = site.rest.services.clock()
        begun = await WebSessions(database, lambda: now - IDLE + timedelta(hours=1)).begin(user)
        stored = await _stored(database, begun.secret)
        assert await WebSessions(database, lambda: now).find(begun.secret) is not None
        used = await _stored(database, begun.secret)
    assert stored is not None and used == replace(stored, used_at=now)


@pytest.mark.parametrize(
    "path",
    ["//evil.example", "/\\evil.example", "\\/evil.example", "https://evil.example", "/%0d%0aSet-Cookie:x", "/\t/evil"],
)
async def test_a_login_leads_to_no_other_host(site: Site, path: str) -> None:
    answer = await site.stranger().sign_in("maintainer", next_path=path)
    assert answer.status == 303 and not path_of(answer).startswith(("//", "/\\"))


@pytest.mark.parametrize(
    ("given", "led"),
    [
        *[("/team/app?sort=name", "/team/app?sort=name"), ("", "/"), ("//evil", "/"), ("/\\evil", "/"), ("evil", "/")],
        *[("javascript:alert(1)", "/"), ("/a\nb", "/"), ("/a\\b", "/"), ("/" + "a" * 3000, "/"), ("/é", "/")],
    ],
)
async def test_the_next_page_is_a_path_of_this_host(given: str, led: str) -> None:
    assert local_path(given) == led


@pytest.mark.parametrize(
    ("url", "insecure", "expected"),
    [
        ("https://registry.example.com", False, SignIn.SECURE),
        ("http://127.0.0.1:8080", False, SignIn.PLAIN),
        ("http://localhost", False, SignIn.PLAIN),
        ("http://registry.example.com", False, SignIn.REFUSED),
        ("http://registry.example.com", True, SignIn.PLAIN),
        ("http://localhost.example.com", False, SignIn.REFUSED),
    ],
)
async def test_people_sign_in_by_https_or_on_loopback(url: str, insecure: bool, expected: SignIn) -> None:
    assert WebOptions(url, "registry", timedelta(1), insecure).sign_in is expected


async def test_by_http_beyond_loopback_nobody_signs_in_and_the_page_says_why(tmp_path: Path) -> None:
    options = WebOptions("http://registry.example.com", "registry.example.com", timedelta(days=1))
    async with open_site(tmp_path / "data", options) as site:
        page = await site.stranger().get("/users/sign_in")
        assert "insecure_login = true" in text_of(page)
        assert not [e for e in elements(page) if e.attributes.get("type") == "password"]
        answer = await site.stranger().post(
            "/users/sign_in", [("username", "reporter"), ("password", PASSWORD)], token="", origin=f"http://{HOST}"
        )
        assert answer.status == 403 and "set-cookie" not in answer.headers


async def test_by_https_the_cookie_is_of_this_host_alone(tmp_path: Path) -> None:
    options = WebOptions("https://registry.example.com", "registry.example.com", timedelta(days=1))
    async with open_site(tmp_path / "data", options) as site:
        browser = site.stranger()
        form = await browser.get("/users/sign_in")
        fields = [("username", "reporter"), ("password", PASSWORD)]
        answer = await browser.post("/users/sign_in", fields, token=token_in(form), origin=options.url)
        lines = answer.headers.all("set-cookie")
        assert answer.status == 303 and len(lines) == 2
        for line in lines:
            assert line.startswith("__Host-") and {"Secure", "HttpOnly", "Path=/"} <= set(line.split("; "))
            assert "domain" not in line.lower()
        plain = await browser.post("/users/sign_out", token="", origin=f"http://{HOST}")
        assert plain.status == 403


async def test_cookies_mean_nothing_to_the_registry_and_the_rest_api(site: Site) -> None:
    browser = await site.browser("maintainer")
    for path in ("/v2/team/app/tags/list", "/api/v4/projects/team%2Fapp", "/v2/"):
        with_cookie, without = await browser.get(path, None), await site.stranger().get(path, None)
        assert (with_cookie.status, with_cookie.body) == (without.status, without.body)
