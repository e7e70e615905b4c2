"""The help pages, static files, and the formats of sizes and times."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from gateway.help.pages import topics
from gateway.web.formats import ago, plural, size
from gateway.web.help_pages import with_own_names
from gateway.web.options import WebOptions

from .browsing import Site, elements, links_in, open_site, text_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOW = datetime(2030, 1, 31, 12, tzinfo=UTC)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    options = WebOptions("https://images.test:8443", "images.test:8443", timedelta(days=1))
    async with open_site(tmp_path_factory.mktemp("site") / "data", options) as site:
        yield site


async def test_every_help_page_is_listed_and_shown_with_its_own_names(site: Site) -> None:
    browser = site.stranger()
    assert {f"/help/{topic}" for topic in topics()} <= set(links_in(await browser.get("/help")))
    for topic in topics():
        page = await browser.get(f"/help/{topic}")
        assert not re.search(r"registry\.example\.com|127\.0\.0\.1:8080", text_of(page)), topic
        assert not [e for e in elements(page) if "style" in e.attributes]


async def test_links_between_help_pages_lead_to_what_exists(site: Site) -> None:
    browser, anchors, links = site.stranger(), dict[str, set[str]](), list[str]()
    for topic in topics():
        page = await browser.get(f"/help/{topic}")
        anchors[topic] = {str(e.attributes["id"]) for e in elements(page) if "id" in e.attributes}
        own = [link for link in links_in(page) if "://" not in link]
        links += [link if link.startswith("/") else f"/help/{topic}{link}" for link in own]
    for link in links:
        path, _, anchor = link.partition("#")
        if path.startswith("/help/"):
            topic = path.removeprefix("/help/")
            assert topic in anchors, link
            assert not anchor or anchor in anchors[topic], link


async def test_an_unknown_topic_is_not_found(site: Site) -> None:
    for topic in ("nothing", "..%2fpages", "TOKENS", "%00"):
        await site.stranger().get(f"/help/{topic}", 404)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("docker login registry.example.com", "docker login images.test"),
        ("https://registry.example.com/v2/", "http://images.test/v2/"),
        ("curl http://127.0.0.1:8080/-/ready", "curl http://images.test/-/ready"),
        ("docker pull 127.0.0.1:8080/hub/x", "docker pull images.test/hub/x"),
        ("registry.example.com:8080/x", "images.test/x"),
        ("docker.mirror.example.com 127.0.0.1:80801", "docker.mirror.example.com 127.0.0.1:80801"),
    ],
)
async def test_examples_have_the_names_of_this_server(text: str, expected: str) -> None:
    assert with_own_names(text, WebOptions("http://images.test", "images.test", timedelta(1))) == expected


async def test_static_files_are_kept_for_a_year_at_addresses_of_their_content(site: Site) -> None:
    page = await site.stranger().get("/help")
    loaded = [e.attributes for e in elements(page) if e.tag in ("link", "script", "img")]
    addresses = {str(found.get("href") or found.get("src")) for found in loaded}
    assert len(addresses) == 3
    for address in addresses:
        answer = await site.stranger().get(address)
        assert "immutable" in answer.headers["cache-control"] and answer.headers["x-content-type-options"] == "nosniff"
        assert re.fullmatch(r"/static/[a-z]+-[0-9a-f]{16}\.(css|js|svg)", address)
    for path in ("/static/", "/static/pages.css", "/static/../app.py", "/static/%2e%2e/app.py"):
        await site.stranger().get(path, 404)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "size unknown"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.98 KiB"),
        (1536, "1.50 KiB"),
        (10**6, "977 KiB"),
        (10**8, "95.4 MiB"),
    ],
)
async def test_sizes_have_three_digits(count: int | None, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("past", "text"),
    [
        *[
            (timedelta(seconds=5), "just now"),
            (timedelta(minutes=1), "1 minute ago"),
            (timedelta(hours=5), "5 hours ago"),
        ],
        *[(timedelta(days=2), "2 days ago"), (timedelta(days=400), "1 year ago"), (-timedelta(days=1), "in 1 day")],
        (-timedelta(seconds=5), "in a moment"),
    ],
)
async def test_times_are_told_by_their_distance(past: timedelta, text: str) -> None:
    assert ago(NOW - past, NOW) == text


async def test_numbers_agree_with_their_nouns() -> None:
    assert [plural(count, "tag") for count in (0, 1, 2, 1200)] == ["0 tags", "1 tag", "2 tags", "1,200 tags"]
