"""Admin: the state of the server, its audit log, and users, for administrators alone."""

import re
from collections.abc import AsyncIterator
from functools import partial

import pytest
import pytest_asyncio

from gateway.db import collection_state
from tests.gateway.asgi import Exchange

from .browsing import PASSWORD, Browser, Site, elements, links_in, open_site, path_of, text_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGES = ["/admin", "/admin/users", "/admin/audit"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with open_site(tmp_path_factory.mktemp("site") / "data") as site:
        await site.rest.surface.push_image("team/app/web", "v1")
        yield site


@pytest_asyncio.fixture(loop_scope="module")
async def root(site: Site) -> Browser:
    return await site.browser("root")


def id_of(site: Site, name: str) -> int:
    return site.rest.surface.people[name].id


async def test_the_pages_are_for_administrators_who_have_a_link_to_them(site: Site, root: Browser) -> None:
    assert "/admin" in links_in(await root.get("/"))
    other = await site.browser("maintainer")
    assert "/admin" not in links_in(await other.get("/"))
    for path in PAGES:
        assert (await root.get(path)).headers["cache-control"] == "no-store"
        assert "for administrators of this server" in text_of(await other.get(path, 403))
        assert path_of(await site.stranger().get(path, 303)).startswith("/users/sign_in?next=")


async def test_the_overview_tells_disk_upstreams_collection_and_keys(site: Site, root: Browser) -> None:
    page = await root.get("/admin")
    said = text_of(page)
    assert re.search(r"Free[\d.]+ \w+ of [\d.]+ \w+", said) and re.search(r"Cache[\d.]+ \w+: \d", said)
    assert re.search(r"docker.io\s+No failure", said)
    assert "signing tokens" in said and "Garbage collection has stopped" not in said
    assert any(e.tag == "progress" for e in elements(page))
    database = site.rest.services.native.uploads.native.database
    await database.transact(partial(collection_state.stop, reason="much was deleted", now=site.rest.services.clock()))
    assert "Garbage collection has stopped. Much was deleted." in text_of(await root.get("/admin"))
    await database.transact(collection_state.go_on)


async def test_the_audit_log_is_filtered_and_shown_page_by_page(
    site: Site, root: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, tokens = await site.browser("maintainer"), "/-/profile/personal_access_tokens"
    for name in ("first", "second"):
        await browser.post(tokens, [("name", name), ("scope", "api")])
    site.rest.services.audit.flush()
    said = text_of(await root.get("/admin/audit?event=create&user=maintainer"))
    assert said.index("(second)") < said.index("(first)") and "user 'maintainer'" in said
    for query in ("event=create&path=team/lib", "user=nobody", "event=move"):
        assert "No event fits" in text_of(await root.get(f"/admin/audit?{query}")), query
    monkeypatch.setattr("gateway.web.admin_pages.EVENTS", 1)
    first = await root.get("/admin/audit?event=create&user=maintainer")
    [following] = [str(e.attributes["href"]) for e in elements(first) if e.attributes.get("rel") == "next"]
    assert "(second)" in text_of(first) and "(first)" in text_of(await root.get(following))
    for wrong in ("event=x", "path=A%20b", "since=x", "since=2999-01-01"):
        assert (await root.get(f"/admin/audit?{wrong}", 422)).status == 422
    assert "(second)" in text_of(await root.get("/admin/audit?user=maintainer&after=nonsense"))


async def test_a_user_is_made_found_and_signs_in(site: Site, root: Browser) -> None:
    fields = [("username", "newborn"), ("email", "New@Example.com"), ("password", PASSWORD), ("external", "yes")]
    made = await root.post("/admin/users", fields)
    assert "The user is made." in text_of(await root.get(path_of(made)))
    assert "newborn" in text_of(await root.get("/admin/users?search=new%40example.com"))
    assert "newborn" in text_of(await root.get("/admin/users?show=external"))
    assert "newborn" not in text_of(await root.get("/admin/users?show=admins"))
    await site.browser("newborn")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ([("username", "")], "name"),
        ([("username", "root")], "exists already"),
        ([("username", "x"), ("password", "short")], "at least 8"),
        ([("username", "x"), ("email", "nonsense")], "e-mail address"),
    ],
)
async def test_a_user_that_is_refused_says_why_and_keeps_what_was_typed(
    root: Browser, fields: list[tuple[str, str]], said: str
) -> None:
    refused = await root.post("/admin/users", fields, status=422)
    [problem] = [e for e in elements(refused) if e.attributes.get("role") == "alert"]
    assert said in "".join(problem.text)
    typed = [e.attributes.get("value") for e in elements(refused) if e.attributes.get("name") == "username"]
    assert typed == [dict(fields)["username"]] and "short" not in [e.attributes.get("value") for e in elements(refused)]


async def test_a_user_is_blocked_given_rights_and_deleted_by_name(site: Site, root: Browser) -> None:
    await root.post("/admin/users", [("username", "passer-by"), ("password", PASSWORD)])
    [user] = [
        int(found[1])
        for link in links_in(await root.get("/admin/users?search=passer"))
        if (found := re.fullmatch(r"/admin/users/(\d+)/delete", link))
    ]
    visitor = await site.browser("passer-by")
    assert (await root.post(f"/admin/users/{user}/block")).status == 303
    await visitor.get("/-/profile", 303)
    assert (await site.stranger().sign_in("passer-by")).status == 422
    assert (await root.post(f"/admin/users/{user}/unblock")).status == 303
    visitor = await site.browser("passer-by")
    await root.post(f"/admin/users/{user}/rights", [("admin", "yes")])
    await visitor.get("/admin")
    await root.post(f"/admin/users/{user}/rights")
    await visitor.get("/admin", 403)
    assert "is not the name" in text_of(await root.post(f"/admin/users/{user}/delete", [("confirmation", "x")]))
    gone = await root.post(f"/admin/users/{user}/delete", [("confirmation", "passer-by")])
    assert "The user is deleted." in text_of(await root.get(path_of(gone)))
    await visitor.get("/-/profile", 303)
    await root.get(f"/admin/users/{user}/delete", 404)


async def test_nobody_blocks_or_deletes_the_own_account(site: Site, root: Browser) -> None:
    own = id_of(site, "root")
    for form in ("block", "rights", "delete"):
        refused: Exchange = await root.post(f"/admin/users/{own}/{form}", [("confirmation", "root")])
        assert refused.status == 403 and "let another administrator do it" in text_of(refused)
    await root.get("/admin")


async def test_nobody_else_changes_users(site: Site) -> None:
    other, user = await site.browser("maintainer"), id_of(site, "reporter")
    for form in ("", f"/{user}/block", f"/{user}/unblock", f"/{user}/rights", f"/{user}/delete"):
        fields = [("username", "x"), ("admin", "yes"), ("confirmation", "reporter")]
        assert (await other.post(f"/admin/users{form}", fields)).status == 403, form
    assert (await site.rest.services.users.get(user)).admin is False
