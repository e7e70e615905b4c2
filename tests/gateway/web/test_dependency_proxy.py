"""Dependency proxy of a group: its images, why each is served as it is, what is changed, and what it saved."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
import pytest_asyncio

from cache.index.admin import CacheAdmin
from cache.index.happenings import Happening, HappeningKind, HappeningLog
from cache.oci.names import RepositoryName
from cache.policy.gate import Gate
from gateway.audit.event import EventKind
from gateway.db import groups
from gateway.inspection.client_files import Client
from tests.gateway.api.test_group_caches import cached, group_of, is_cached, key_of, pull, purged

from .browsing import HOST, Site, elements, links_in, open_site, path_of, text_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEAM = "/groups/team/-/dependency_proxy"
ALPINE = [("image", "docker.io/library/alpine:3.20")]
SHOWN = f"{TEAM}/image?image=alpine:3.20"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with open_site(tmp_path_factory.mktemp("site") / "data") as site:
        yield site


def values(page: object, label: str) -> list[str | None]:
    """The values of the fields with a label."""
    return [e.attributes.get("value") for e in elements(page) if e.attributes.get("aria-label") == label]  # type: ignore[arg-type]


async def test_a_group_without_images_shows_how_to_pull_the_first_one(site: Site) -> None:
    page = await (await site.browser("reporter")).get(TEAM)
    assert "Nothing is cached for this group yet" in text_of(page)
    prefix = f"{HOST}/team/dependency_proxy/containers"
    assert values(page, "image prefix") == [prefix]
    assert values(page, "command to pull") == [f"docker pull {prefix}/alpine:latest"]
    assert TEAM in links_in(await (await site.browser("reporter")).get("/team"))


async def test_the_list_says_what_was_pulled_and_how_a_pull_would_be_served(site: Site) -> None:
    await cached(site.rest, "alpine:3.20", "busybox:1")
    await pull(site.rest, "team", "alpine:3.20")
    browser = await site.browser("reporter")
    page = await browser.get(f"{TEAM}?sort=pulls")
    said = text_of(page)
    assert re.search(r"library/alpine:3.20\s?docker.io Fresh [\d.]+ B 2 2 just now HIT", said), said
    assert said.index("library/alpine") < said.index("library/busybox")
    assert "library/busybox" not in text_of(await browser.get(f"{TEAM}?search=alpine"))
    assert "No cached image of this group has “nothing”" in text_of(await browser.get(f"{TEAM}?search=nothing"))
    for query in ("sort=nonsense", "after=nonsense", "after="):
        assert "library/alpine" in text_of(await browser.get(f"{TEAM}?{query}"))


async def test_long_lists_are_shown_page_by_page(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.web.proxy_pages.PAGE", 1)
    browser, shown, address = await site.browser("reporter"), list[str](), f"{TEAM}?sort=name"
    for _ in range(2):
        page = await browser.get(address)
        shown += re.findall(r"library/\w+", text_of(page))
        following = [e.attributes["href"] for e in elements(page) if e.attributes.get("rel") == "next"]
        address = (following or [""])[0] or ""
    assert shown == ["library/alpine", "library/busybox"] and not address


async def test_an_image_is_explained_in_the_words_of_the_command(site: Site) -> None:
    team, clock = await group_of(site.rest, "team"), site.rest.services.clock
    log, key = HappeningLog(site.rest.services.folder.usage), key_of(site.rest, team, "library/alpine")
    log.note(Happening(HappeningKind.REFUSED, clock(), key.source, key.name, "3.20", "the upstream is tired", times=3))
    log.note(Happening(HappeningKind.EVICTED, clock(), key.source, key.name, "3.20", "room was needed", 1234))
    log.flush()
    said = text_of(await (await site.browser("reporter")).get(SHOWN))
    for words in (
        "served without a request to the upstream",
        "1 of 1 blobs",
        "group team has no gate",
        "3 times in all: the upstream is tired.",
        "room was needed",
        "fetched by the next pull",
    ):
        assert words in said, (words, said)


async def test_what_the_group_has_not_pulled_is_explained_to_administrators_alone(site: Site) -> None:
    await site.rest.surface.cache_manifest("library/caddy", "2")
    address = f"{TEAM}/image?image=caddy:2"
    page = await (await site.browser("reporter")).get(address, 404)
    assert "This group has not pulled this image" in text_of(page)
    assert "fetched by the next pull" in text_of(await (await site.browser("root")).get(address))
    for wrong, status in (("", 400), ("quay.example/x", 404), ("A", 400), ("x:!", 400)):
        await (await site.browser("reporter")).get(f"{TEAM}/image?image={wrong}", status)


async def test_administrators_pin_images_and_drop_their_pins(site: Site) -> None:
    root, owner = await site.browser("root"), await site.browser("reporter")
    assert "Pin" not in [e.text[0] for e in elements(await owner.get(SHOWN)) if e.tag == "button" and e.text]
    admin, team = CacheAdmin(site.rest.services.folder.index), await group_of(site.rest, "team")
    key = key_of(site.rest, team, "library/alpine")
    pinned = await root.post(f"{TEAM}/image/pin", ALPINE)
    assert "The content is pinned" in text_of(await root.get(path_of(pinned)))
    assert admin.pins(key.source, key.name) == {"3.20"}
    assert "Pinned" in text_of(await owner.get(TEAM))
    evicted = await root.post(f"{TEAM}/image/evict", [*ALPINE, ("confirmed", "yes")])
    assert "Nothing was evicted" in text_of(evicted)
    assert path_of(await root.post(f"{TEAM}/image/unpin", ALPINE)).endswith("&done=unpinned")
    assert admin.pins(key.source, key.name) == set()
    assert (await root.post(f"{TEAM}/image/unpin", ALPINE)).status == 400
    noted = [(event.target, event.former, event.outcome) for event in site.rest.noted(EventKind.UPDATE)]
    assert noted == [("3.20", None, "pinned in the cache"), ("3.20", "pinned in the cache", None)]


async def test_a_tag_is_refreshed_only_where_the_group_pulled_it(site: Site) -> None:
    root = await site.browser("root")
    refused = await root.post(f"{TEAM}/image/refresh", [("image", "caddy:2")])
    assert refused.status == 404 and "has not pulled" in text_of(refused)
    team = await group_of(site.rest, "team")
    [pointer] = CacheAdmin(site.rest.services.folder.index).pointers(
        key_of(site.rest, team, "library/alpine").source, RepositoryName("library/alpine")
    )
    refused = await root.post(f"{TEAM}/image/refresh", [("image", f"alpine@{pointer.target.digest}")])
    assert refused.status == 400 and "Refresh a tag" in text_of(refused)


async def test_the_gate_tells_what_it_would_refuse(site: Site) -> None:
    root = await site.browser("root")
    assert "This group has no gate" in text_of(await root.get(f"{TEAM}/gate"))
    async with site.rest.database() as database, database.write() as connection:
        team = await groups.get(connection, "team")
        gate = Gate(deny=("*/busybox",), cooldown=timedelta(days=0))
        await groups.update(connection, replace(team, gate=gate))
    said = text_of(await root.get(f"{TEAM}/gate"))
    assert "Of the last 2 images that this group pulled, the gate refuses 1 now." in said
    assert "docker.io/library/busybox:1" in said and "docker.io/library/alpine" not in said
    assert "The gateRefuses it" in text_of(await root.get(f"{TEAM}/image?image=busybox:1"))
    async with site.rest.database() as database, database.write() as connection:
        await groups.update(connection, team)
    await (await site.browser("maintainer")).get(f"{TEAM}/gate", 403)


async def test_an_image_is_evicted_after_a_confirmation(site: Site) -> None:
    root, team = await site.browser("root"), await group_of(site.rest, "team")
    busybox = [("image", "busybox:1")]
    asked = await root.post(f"{TEAM}/image/evict", busybox, status=200)
    assert "Evict library/busybox:1?" in text_of(asked) and is_cached(site.rest, team, "library/busybox")
    done = await root.post(f"{TEAM}/image/evict", [*busybox, ("confirmed", "yes")], status=200)
    assert "docker.io/library/busybox:1 is evicted, which freed" in text_of(done)
    assert not is_cached(site.rest, team, "library/busybox")
    [event] = site.rest.noted(EventKind.EVICT)[-1:]
    assert (event.path, event.tag, event.user) == ("team/dependency_proxy/containers/library/busybox", "1", "root")


async def test_the_savings_are_pictures_with_a_table(site: Site) -> None:
    browser = await site.browser("reporter")
    for over, days in (("day", 1), ("week", 7), ("month", 30), ("nonsense", 7)):
        page = await browser.get(f"{TEAM}/savings?over={over}")
        found = elements(page)
        pictures = [e.attributes for e in found if e.tag == "svg"]
        assert len(pictures) == 3 and all(one["role"] == "img" and one["aria-label"] for one in pictures)
        assert sum(e.tag == "g" for e in found) == 3 * days
        assert sum(e.tag == "tr" for e in found) == 1 + days
        assert re.search(r"Hit rate100.0 % Pulls saved\d+ Bytes saved", text_of(page))
    empty = await (await site.browser("root")).get("/groups/closed/-/dependency_proxy/savings")
    assert "Nothing was pulled through this group in this time" in text_of(empty)


async def test_every_client_has_a_file_or_the_reason_why_not(site: Site) -> None:
    browser = await site.browser("reporter")
    page = await browser.get(f"{TEAM}/clients")
    files = {e.attributes["id"]: "".join(e.text) for e in elements(page) if e.tag == "textarea"}
    assert f"{HOST}/team/dependency_proxy/containers/docker.io" in files["file-podman"]
    assert {f"file-{client.value}" for client in Client} - set(files) == {"file-docker"}
    assert "Dockerd requests names without a prefix from a mirror, which needs its own address" in text_of(page)
    strict = await browser.get(f"{TEAM}/clients?upstream=docker.io&no_fallback=yes")
    assert "BuildKit asks docker.io itself for what a mirror refuses, and has no setting against it" in text_of(strict)


async def test_the_cache_is_purged_in_the_background_once_an_hour(site: Site) -> None:
    root, team = await site.browser("root"), await group_of(site.rest, "team")
    assert path_of(await root.post(f"{TEAM}/purge")) == f"{TEAM}/purge"
    waiting = await root.get(f"{TEAM}/purge")
    assert "A purge is under way" in text_of(waiting)
    assert any(e.attributes.get("data-reload") for e in elements(waiting))
    again = await root.post(f"{TEAM}/purge")
    assert again.status == 409 and "at most once an hour" in text_of(again)
    await purged(site.rest)
    said = text_of(await root.get(f"{TEAM}/purge"))
    assert "The last purge" in said and "Images1" in said
    assert not is_cached(site.rest, team, "library/alpine")


@pytest.mark.parametrize(("who", "status"), [("maintainer", 403), ("stranger", 404)])
async def test_only_owners_change_the_cache(site: Site, who: str, status: int) -> None:
    browser = await site.browser(who)
    for form in ("image/refresh", "image/evict", "image/pin", "image/unpin", "purge"):
        assert (await browser.post(f"{TEAM}/{form}", ALPINE)).status == status, form
    await browser.get(f"{TEAM}/purge", status)


async def test_a_group_whose_proxy_is_off_says_so(site: Site) -> None:
    async with site.rest.database() as database, database.write() as connection:
        group = await groups.get(connection, "closed")
        await groups.update(connection, replace(group, proxy_enabled=False))
    page = await (await site.browser("root")).get("/groups/closed/-/dependency_proxy", 404)
    assert "The dependency proxy of this group is off" in text_of(page)
