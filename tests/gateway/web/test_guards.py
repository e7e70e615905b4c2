"""What guards every page: the headers, the origin and the token of forms, and what is shown of pushed names."""

import json
import re
from collections.abc import AsyncIterator
from urllib.parse import urlencode

import pytest
import pytest_asyncio

from tests.gateway.asgi import Exchange
from tests.gateway.v2.pushing import URL, image
from tests.parts.images import digest_of

from .browsing import HOST, Browser, Site, elements, open_site, text_of
from .listing import every_route

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAYLOADS = [
    *("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'-alert(1)-'", "{{7*7}}", "{% raw %}"),
    *("</textarea><svg onload=alert(1)>", "javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,<script>"),
    *("<a href=javascript:alert(1)>x</a>", "&lt;script&gt;", "\u202e\u2066<b>", "' onmouseover='alert(1)", "]]><x>"),
    *('http://example.com/" onclick=alert(1) x="', "https://example.com/<script>", "<!--", "--><script>1</script>"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with open_site(tmp_path_factory.mktemp("site") / "data") as site:
        await site.rest.surface.push_image("team/app/web", "v1")
        yield site


def every_form() -> list[str]:
    """The patterns of all routes that change something."""
    return [route.pattern for route in every_route() if route.method != "GET"]


def every_page() -> list[str]:
    return [route.pattern for route in every_route() if route.method == "GET"]


async def path_at(site: Site, pattern: str) -> str:
    id = await site.rest.id_of("team/app/web")
    pattern = f"{pattern}?image=alpine" if pattern.endswith("/image") else pattern
    text = pattern.replace("{project:path}", "team/app").replace("{group:path}", "team").replace("{tag}", "v1")
    text = text.replace("{issuer}", "none")
    return text.replace("{topic}", "tokens").replace("{id}", str(id) if "container_registry" in pattern else "1")


def check_page(answer: Exchange) -> None:
    """Check the headers of a page."""
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    own = f"{HOST}/static/"
    assert policy == {
        **dict.fromkeys(("script-src", "style-src", "img-src"), own),
        "default-src": "'none'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"


def check_content(answer: Exchange) -> None:
    """Check that a page runs nothing, and requests nothing from elsewhere."""
    for element in elements(answer):
        assert not any(name.startswith("on") or name == "style" for name in element.attributes), element
        assert element.tag not in ("style", "iframe", "object", "embed", "base", "foreignObject", "use")
        if element.tag in ("script", "img", "link"):
            address = element.attributes.get("src") or element.attributes.get("href") or ""
            assert address.startswith("/static/"), element
        if element.tag == "form" and element.attributes.get("method") != "dialog":
            assert (element.attributes["action"] or "").startswith("/"), element
        if element.tag == "a":
            assert re.match(r"/|#|\?|https?://", element.attributes["href"] or ""), element


@pytest.mark.parametrize("pattern", every_page())
@pytest.mark.parametrize("who", [None, "maintainer"])
async def test_every_page_has_the_headers_and_runs_nothing(site: Site, pattern: str, who: str | None) -> None:
    browser = site.stranger() if who is None else await site.browser(who)
    answer = await browser.get(await path_at(site, pattern), None)
    assert answer.status in (200, 303, 403, 404)
    check_page(answer)
    check_content(answer)
    if who is not None:
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("pattern", every_form())
async def test_no_form_is_accepted_without_the_token_of_the_session(site: Site, pattern: str) -> None:
    browser, other = await site.browser("root"), await site.browser("maintainer")
    path = await path_at(site, pattern)
    for token in ("", "x", "é", await other.token()):
        assert (await browser.post(path, token=token)).status == 403


@pytest.mark.parametrize("pattern", every_form())
@pytest.mark.parametrize("origin", [None, "null", "https://evil.example", f"{URL}.evil.example", "http://127.0.0.1:9"])
async def test_no_form_is_accepted_from_another_origin(site: Site, pattern: str, origin: str | None) -> None:
    browser = await site.browser("root")
    answer = await browser.post(await path_at(site, pattern), token=await browser.token(), origin=origin)
    assert answer.status == 403 and "not valid any more" in text_of(answer)


@pytest.mark.parametrize("pattern", [pattern for pattern in every_form() if pattern != "/users/sign_in"])
async def test_strangers_who_send_a_form_are_led_to_the_sign_in_page(site: Site, pattern: str) -> None:
    answer = await site.stranger().post(await path_at(site, pattern), token="x")
    assert (answer.status, answer.headers["location"]) == (303, "/users/sign_in")


async def test_the_forms_of_these_tests_change_something_with_token_and_origin(site: Site) -> None:
    browser = await site.browser("maintainer")
    path = f"{await site.address_of('team/app/web')}/remove_tags"
    assert (await browser.post(path, [("tag", "v1"), ("confirmed", "yes")])).status == 200
    assert (await browser.post(path.replace("remove_tags", "tags/v1/restore"))).status == 303


async def test_a_form_of_another_type_is_refused(site: Site) -> None:
    browser = await site.browser("maintainer")
    for media_type in ("text/plain", "multipart/form-data; boundary=x", "application/json"):
        assert (await browser.post("/users/sign_out", media_type=media_type)).status == 400


@pytest.mark.parametrize("path", ["/v2/", "/v2/team/app/tags/list", "/api/v4/version", "/jwt/auth", "/-/health", "/v2"])
async def test_what_is_no_page_is_shown_by_no_browser(site: Site, path: str) -> None:
    answer = await site.stranger().get(path, None)
    assert answer.headers.all("x-content-type-options") == ["nosniff"]
    assert answer.headers.all("content-security-policy") == ["default-src 'none'; sandbox"]


async def test_what_was_pushed_is_shown_by_no_browser(site: Site) -> None:
    surface = site.rest.surface
    page = await surface.push_blob("team/app/web", b"<script>alert(1)</script>")
    for path in (f"team/app/web/blobs/{page}", "team/app/web/manifests/v1"):
        answer = await surface.call("GET", path)
        assert answer.status == 200 and answer.headers.all("x-content-type-options") == ["nosniff"]
        assert answer.headers.all("content-security-policy") == ["default-src 'none'; sandbox"]
        assert "html" not in answer.headers["content-type"]


def config_with(text: str) -> bytes:
    run = {"Labels": {text: text, "url": text}, "Env": [text], "Cmd": [text], "User": text, "WorkingDir": text}
    step = {"created_by": text, "comment": text, "created": text}
    return json.dumps(
        {"os": text, "architecture": text, "author": text, "created": text, "config": run, "history": [step]}
    ).encode()


@pytest.mark.parametrize("payload", PAYLOADS)
async def test_what_an_image_says_is_shown_as_text(site: Site, payload: str) -> None:
    surface, name = site.rest.surface, "team/app/web"
    config = await surface.push_blob(name, config_with(payload))
    layer = await surface.push_blob(name, b"layer")
    raw = image(config, layer)
    assert (await surface.put_manifest(name, "payload", raw)).status == 201
    sbom = image(config, layer, artifactType="application/vnd.example.sbom", annotations={payload: payload})
    await surface.put_manifest(name, digest_of(sbom), sbom)
    browser = await site.browser("maintainer")
    plain = await browser.get(f"{await site.address_of(name)}/tags/v1")
    shown = await browser.get(f"{await site.address_of(name)}/tags/payload")
    check_content(shown)
    assert payload.split()[0] in text_of(shown)
    known = {(element.tag, *sorted(element.attributes)) for element in elements(plain)}
    extra = {(element.tag, *sorted(element.attributes)) for element in elements(shown)} - known
    assert {tag for tag, *_ in extra} <= {"table", "thead", "tbody", "tr", "th", "td", "h3", "pre", "code", "a", "div"}


@pytest.mark.parametrize("payload", PAYLOADS)
async def test_what_a_visitor_types_is_shown_as_text(site: Site, payload: str) -> None:
    browser = await site.browser("maintainer")
    query = urlencode({"search": payload, "sort": payload, "after": payload, "q": payload})
    for path in ("/", "/search", "/team/app/container_registry", await site.address_of("team/app/web")):
        answer = await browser.get(f"{path}?{query}")
        check_content(answer)
    made = await browser.post("/-/profile/personal_access_tokens", [("name", payload), ("scope", "read_api")])
    check_content(made)
    assert made.status in (200, 422), "what is not printable names no token"
    check_content(await browser.get("/-/profile/personal_access_tokens"))
    settings, token = "/team/app/-/settings", await browser.token()
    for path, fields in (
        ("/team/app/-/project_members", [("username", payload), ("role", "guest")]),
        (f"{settings}/deploy_tokens", [("name", payload), ("username", payload), ("scope", "read_registry")]),
        (f"{settings}/protection_rules", [("kind", "tag"), ("pattern", payload), ("push", "admin"), ("delete", "")]),
        (f"{settings}/quota", [("quota", payload)]),
        (f"{settings}/path", [("path", payload)]),
        ("/-/new/project", [("above", payload), ("name", payload), ("visibility", "private")]),
    ):
        answer = await browser.post(path, fields, token=token)
        assert answer.status in (200, 422), (path, answer.status)
        check_content(answer)
    check_content(await browser.get(f"{settings}/deploy_tokens"))
    check_content(await site.stranger().sign_in(payload, "wrong"))


async def test_a_strange_host_is_not_repeated_in_the_policy(site: Site) -> None:
    for host in ("evil.example; script-src *", "a b", "x" * 400, "evil\tx"):
        answer = await Browser(site.app, host=host).get("/help")
        assert "script-src 'self';" in answer.headers["content-security-policy"]


async def test_the_table_of_pages_has_each_route_once(site: Site) -> None:
    names = [route.name for route in every_route()]
    assert len(names) == len(set(names))
