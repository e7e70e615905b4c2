"""The caches of groups by the REST API: lists, purges and savings, of what two groups pulled from one upstream."""

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from cache.index.admin import CacheAdmin
from cache.oci.names import RepositoryName
from cache.values import ImageKey
from gateway.api.group_caches import TOO_SOON
from gateway.audit.event import EventKind, Subject
from gateway.db import groups
from gateway.maintenance.group_cache import EvictedImage, ExpiredImage, GroupCache
from gateway.maintenance.group_purges import GroupPurger
from gateway.namespaces.group import Group
from tests.gateway.api.rest import URL, Rest, open_rest
from tests.gateway.asgi import Exchange

pytestmark = pytest.mark.asyncio(loop_scope="module")

HUB, TEAM = "/groups/hub/dependency_proxy", "/groups/team/dependency_proxy"
LINK = 'rel="next"'


@pytest_asyncio.fixture(loop_scope="module")
async def rest(tmp_path: Path) -> AsyncIterator[Rest]:
    async with open_rest(tmp_path / "data") as rest:
        yield rest


async def pull(rest: Rest, group: str, image: str, who: str = "reporter") -> None:
    """Pull a manifest that is cached through a group."""
    name, _, tag = image.partition(":")
    pulled = await rest.surface.call("GET", f"{group}/dependency_proxy/containers/{name}/manifests/{tag}", who=who)
    assert (pulled.status, pulled.headers["x-cache"]) == (200, "HIT")
    rest.services.group_usage.flush()


async def cached(rest: Rest, *images: str) -> None:
    """Cache images of Docker Hub that strangers may pull, and pull them through the group `team`."""
    for image in images:
        name, _, tag = image.partition(":")
        await rest.surface.cache_manifest(f"library/{name}", tag)
        await pull(rest, "team", image)


async def names(rest: Rest, path: str = TEAM, **query: Any) -> list[str]:
    return [image["name"] for image in await rest.get(f"{path}/images", who="reporter", **query)]


def told(answer: Exchange) -> Any:
    return json.loads(answer.body)


def key_of(rest: Rest, group: Group, name: str) -> ImageKey:
    return ImageKey(rest.services.upstreams.source(group, "docker.io"), RepositoryName(name))


async def group_of(rest: Rest, path: str) -> Group:
    found = await rest.services.directory.find_group(path)
    assert found is not None
    return found


def is_cached(rest: Rest, group: Group, name: str) -> bool:
    key = key_of(rest, group, name)
    return bool(CacheAdmin(rest.services.folder.index).linked(key.source, key.name))


async def purged(rest: Rest) -> None:
    """Do what a process of the server does in the background."""
    database = rest.services.native.uploads.native.database
    purger = GroupPurger(database, GroupCache.of(rest.services), rest.services.clock, lambda *_: None)
    await purger.purge()


async def test_a_list_tells_what_the_group_pulled_and_how_a_pull_would_be_served(rest: Rest) -> None:
    digest = await rest.surface.cache_manifest("library/alpine", "3.20")
    assert await names(rest) == []
    await pull(rest, "team", "alpine:3.20")
    await pull(rest, "team", "docker.io/library/alpine:3.20")
    [image] = await rest.get(f"{TEAM}/images", who="reporter")
    path = "team/dependency_proxy/containers/library/alpine:3.20"
    assert (image["name"], image["upstream"], image["tag"]) == ("library/alpine:3.20", "docker.io", "3.20")
    assert (image["path"], image["location"]) == (path, f"{URL.removeprefix('http://')}/{path}")
    assert (image["digest"], image["pulls"], image["hits"], image["last_outcome"]) == (digest, 2, 2, "HIT")
    assert image["size"] > 0 and image["pinned"] is False
    assert (image["state"], image["last_pull_at"] >= image["created_at"]) == ("fresh", True)
    for name in ("alpine%3A3.20", "docker.io%2Flibrary%2Falpine:3.20"):
        shown = await rest.get(f"{TEAM}/images/{name}", who="reporter")
        assert shown | {"reason": image["reason"]} == image  # which tells the age in seconds
    assert await names(rest, HUB) == []
    assert (await rest.call("GET", f"{HUB}/images/alpine:3.20", who="reporter")).status == 404


async def test_a_list_is_searched_sorted_and_cut(rest: Rest) -> None:
    await cached(rest, "alpine:3.20", "busybox:1", "caddy:2")
    await pull(rest, "team", "alpine:3.20")
    assert await names(rest, search="BUSY") == ["library/busybox:1"]
    assert await names(rest, order_by="last_pull_at", sort="desc") == [
        "library/alpine:3.20",
        "library/caddy:2",
        "library/busybox:1",
    ]
    first = await rest.call("GET", f"{TEAM}/images", who="reporter", per_page=2, page=1)
    assert first.headers["x-total"] == "3" and first.headers["x-next-page"] == "2"
    assert await names(rest, per_page=2, page=2) == ["library/caddy:2"]
    taken, query = list[str](), "pagination=keyset&per_page=1&order_by=pulls&sort=desc"
    while query:
        answer = await rest.call("GET", f"{TEAM}/images?{query}", who="reporter")
        assert answer.status == 200, answer.body
        taken += [image["name"] for image in told(answer)]
        link = answer.headers.get("link") or ""
        query = link.partition("?")[2].partition(">")[0] if LINK in link else ""
    assert sorted(taken) == await names(rest) and taken[0] == "library/alpine:3.20"


@pytest.mark.parametrize("values", [[], [1, 2, 3, 4, 5], ["a"], [None, *"abcd"], [10**400, *"abcd"], [[], *"abcd"]])
async def test_a_cursor_that_no_page_gave_is_refused(rest: Rest, values: list[object]) -> None:
    cursor = base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")
    query = f"pagination=keyset&order_by=pulls&cursor={cursor}"
    refused = await rest.call("GET", f"{TEAM}/images?{query}", who="reporter")
    assert (refused.status, told(refused)) == (400, {"error": "cursor is invalid"})


async def test_a_purge_of_one_group_takes_nothing_from_others(rest: Rest) -> None:
    await cached(rest, "alpine:3.20", "busybox:1")
    await pull(rest, "hub", "alpine:3.20")
    team = await group_of(rest, "team")
    assert (await rest.get(f"{TEAM}/cache", who="root"))["status"] == "none"
    accepted = await rest.call("DELETE", f"{TEAM}/cache", who="root")
    assert (accepted.status, told(accepted)) == (202, 202)
    assert (await rest.get(f"{TEAM}/cache", who="root"))["status"] == "scheduled"
    again = await rest.call("DELETE", f"{TEAM}/cache", who="root")
    assert (again.status, told(again)) == (409, {"message": TOO_SOON})
    await purged(rest)
    progress = await rest.get(f"{TEAM}/cache", who="root")
    assert (progress["status"], progress["images"], progress["purged"], progress["shared"]) == ("finished", 2, 2, 1)
    assert await names(rest) == [] and await names(rest, HUB) == ["library/alpine:3.20"]
    assert is_cached(rest, team, "library/alpine") and not is_cached(rest, team, "library/busybox")
    assert (await rest.call("DELETE", f"{TEAM}/cache", who="root")).status == 409
    [event] = rest.noted(EventKind.EVICT)
    assert (event.subject, event.path, event.user) == (Subject.GROUP, "team", "root")


async def test_a_purge_goes_on_where_it_was_interrupted_and_spares_what_is_pulled_later(rest: Rest) -> None:
    await cached(rest, "alpine:3.20", "busybox:1", "caddy:2")
    team, cache = await group_of(rest, "team"), GroupCache.of(rest.services)
    await rest.call("DELETE", f"{TEAM}/cache", who="root")
    requested = (await rest.get(f"{TEAM}/cache", who="root"))["requested_at"]
    cache.evict(team.id, key_of(rest, team, "library/busybox"), "by the process that was killed then")
    await cached(rest, "busybox:1")
    await purged(rest)
    progress = await rest.get(f"{TEAM}/cache", who="root")
    assert (progress["requested_at"], progress["status"], progress["purged"]) == (requested, "finished", 2)
    assert await names(rest) == ["library/busybox:1"]


async def test_a_purge_frees_what_nothing_else_needs(rest: Rest) -> None:
    await cached(rest, "alpine:3.20")
    digest = await rest.surface.cache_blob("library/alpine", b"a layer")
    file = next(rest.services.folder.blobs.rglob(digest.removeprefix("sha256:")))
    await rest.call("DELETE", f"{TEAM}/cache", who="root")
    await purged(rest)
    assert (await rest.get(f"{TEAM}/cache", who="root"))["freed_bytes"] > len(b"a layer")
    assert not file.exists()


async def test_a_pinned_image_stays_cached_and_listed(rest: Rest) -> None:
    await cached(rest, "alpine:3.20", "busybox:1")
    team = await group_of(rest, "team")
    pinned = key_of(rest, team, "library/alpine")
    CacheAdmin(rest.services.folder.index).pin(pinned.source, pinned.name, "3.20")
    answer = await rest.call("DELETE", f"{TEAM}/images/alpine", who="root")
    assert told(answer)["pinned"] == ["3.20"]
    await rest.call("DELETE", f"{TEAM}/cache", who="root")
    await purged(rest)
    [image] = await rest.get(f"{TEAM}/images", who="reporter")
    assert (image["name"], image["pinned"]) == ("library/alpine:3.20", True)


async def test_one_image_is_evicted_where_no_other_group_pulled_it(rest: Rest) -> None:
    await cached(rest, "alpine:3.20", "busybox:1", "busybox:2")
    await pull(rest, "hub", "alpine:3.20")
    team = await group_of(rest, "team")
    shared = await rest.call("DELETE", f"{TEAM}/images/docker.io%2Flibrary%2Falpine", who="root")
    assert (shared.status, told(shared)) == (200, {"tags": 0, "freed_bytes": 0, "shared": True, "pinned": []})
    assert is_cached(rest, team, "library/alpine")
    one = await rest.call("DELETE", f"{TEAM}/images/busybox:1", who="root")
    assert (told(one)["tags"], told(one)["shared"]) == (1, False)
    assert await names(rest) == ["library/busybox:2"]
    for gone in ("alpine", "caddy", "busybox:1%40sha256"):
        assert (await rest.call("DELETE", f"{TEAM}/images/{gone}", who="root")).status in (400, 404)
    assert (await rest.call("DELETE", f"{TEAM}/images/quay.example%2Fx", who="root")).status == 404
    told_of = [(event.path, event.tag) for event in rest.noted(EventKind.EVICT)]
    below = "team/dependency_proxy/containers/library"
    assert told_of == [(f"{below}/alpine", None), (f"{below}/busybox", "1")]


async def test_what_was_not_pulled_for_long_expires_and_what_later_pulls_need_stays(rest: Rest) -> None:
    await cached(rest, "alpine:3.19", "busybox:1")
    team, cache = await group_of(rest, "team"), GroupCache.of(rest.services)
    await rest.surface.cache_manifest("library/alpine", "3.20")  # the same content by another tag
    before = rest.services.clock()
    await pull(rest, "team", "alpine:3.20")
    expired = {image.image.name.text: image for image in cache.expired(team.id, before)}
    assert {name: [str(one) for one in image.expired] for name, image in expired.items()} == {
        "library/alpine": ["3.19"],
        "library/busybox": ["1"],
    }
    for image in expired.values():
        assert isinstance(image, ExpiredImage)
        assert isinstance(cache.evict_expired(team.id, image, "it was not pulled for long"), EvictedImage)
    assert await names(rest) == ["library/alpine:3.20"]
    assert is_cached(rest, team, "library/alpine") and not is_cached(rest, team, "library/busybox")
    assert cache.expired(team.id, before - timedelta(days=1)) == []


async def test_a_policy_purges_what_was_not_pulled_for_its_days_once_a_day(rest: Rest) -> None:
    await cached(rest, "alpine:3.20")
    policy = await rest.send_json("PUT", f"{TEAM}/image_ttl_policy", {"enabled": True, "ttl": 1}, who="root")
    assert policy.status == 200
    days, told_of = [0], list[tuple[str, list[str]]]()

    def note(group: Group, expired: ExpiredImage, evicted: EvictedImage) -> None:
        told_of.append((group.path, [str(reference) for reference in expired.expired]))

    database, cache = rest.services.native.uploads.native.database, GroupCache.of(rest.services)
    purger = GroupPurger(database, cache, lambda: rest.services.clock() + timedelta(days=days[0]), note)
    await purger.apply_policies()
    assert await names(rest) == ["library/alpine:3.20"] and told_of == []
    days[0] = 2
    await purger.apply_policies()
    assert await names(rest) == [] and told_of == [("team", ["3.20"])]
    assert (await rest.get(f"{TEAM}/image_ttl_policy", who="root"))["completed_at"] is not None
    await cached(rest, "alpine:3.20")
    await purger.apply_policies()  # which is not due before another day has passed
    assert await names(rest) == ["library/alpine:3.20"]
    rest.services.group_usage.note_pull(
        999_999,
        key_of(rest, await group_of(rest, "team"), "x").source,
        RepositoryName("x"),
        "1",
        "HIT",
        rest.services.clock(),
    )
    rest.services.group_usage.flush()
    await purger.tidy()
    assert rest.services.group_usage.tenants() == [(await group_of(rest, "team")).id]


async def test_savings_tell_what_was_pulled_and_not_fetched_by_the_day(rest: Rest) -> None:
    await cached(rest, "alpine:3.20")
    content = b"a layer"
    digest = await rest.surface.cache_blob("library/alpine", content)
    blob = await rest.surface.call("GET", f"team/dependency_proxy/containers/alpine/blobs/{digest}", who="reporter")
    assert blob.body == content
    rest.services.group_usage.flush()
    savings, today = await rest.get(f"{TEAM}/savings", who="reporter"), rest.services.clock().date().isoformat()
    [day] = savings["days"]
    assert (day["day"], day["pulls"], day["hit_rate"], day["saved_pulls"]) == (today, 2, 1.0, 1)
    assert day["sent_bytes"] == day["saved_bytes"] > len(content) and day["fetched_bytes"] == 0
    assert savings["total"] == {name: value for name, value in day.items() if name != "day"}
    assert (await rest.get(f"{TEAM}/savings?from=2020-01-01&to=2020-02-01", who="reporter"))["days"] == []
    for query in ("from=2020-02-01&to=2020-01-01", "from=2020-01-01", "from=x", "from=2018-01-01&to=2020-01-01"):
        assert (await rest.call("GET", f"{TEAM}/savings?{query}", who="reporter")).status == 400, query
    assert (await rest.get(f"{HUB}/savings?to=0001-01-02", who="reporter"))["days"] == []


async def test_a_group_whose_proxy_is_off_has_no_cache(rest: Rest) -> None:
    async with rest.database() as database, database.write() as connection:
        group = await groups.get(connection, "closed")
        await groups.update(connection, replace(group, proxy_enabled=False))
    for method, path in (("DELETE", "cache"), ("GET", "cache"), ("GET", "images"), ("GET", "savings")):
        answer = await rest.call(method, f"/groups/closed/dependency_proxy/{path}", who="root")
        assert answer.status == 404 and "is off" in told(answer)["message"]


async def test_a_tag_is_refreshed_only_where_the_group_pulled_it(rest: Rest) -> None:
    await rest.surface.cache_manifest("library/alpine", "3.20")
    assert (await rest.call("POST", f"{TEAM}/images/alpine:3.20/refresh", who="root")).status == 404
    digest = f"sha256:{'0' * 64}"
    refused = await rest.call("POST", f"{TEAM}/images/alpine%40{digest}/refresh", who="root")
    assert refused.status == 400 and "name a tag" in told(refused)["message"]


@pytest.mark.parametrize("path", ["cache", "images/alpine"])
async def test_only_owners_purge(rest: Rest, path: str) -> None:
    await cached(rest, "alpine:3.20")
    for who, status in (("maintainer", 403), ("stranger", 404), (None, 401)):
        assert (await rest.call("DELETE", f"{TEAM}/{path}", who=who)).status == status
    for who, status in (("stranger", 404), (None, 401)):
        assert (await rest.call("GET", f"{TEAM}/images", who=who)).status == status
