"""Tags of a repository: the list by offset and by keyset, and one of them with its image."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from cache.oci.media_types import OCI_INDEX, OCI_MANIFEST
from tests.gateway.api.rest import REPOSITORIES, URL, Rest, open_rest
from tests.gateway.v2.pushing import image
from tests.parts.images import digest_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

APP = f"/projects/team%2Fapp{REPOSITORIES}"
ALL = ["V1", "a", "b", "v1", "v10", "v2"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rest(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rest]:
    async with open_rest(tmp_path_factory.mktemp("rest") / "data") as rest:
        await rest.surface.push_image("team/app/web", *ALL)
        await rest.surface.push_image("team/lib/tool", "v1")
        yield rest


async def tags_of(rest: Rest, name: str = "team/app/web") -> str:
    return f"{APP}/{await rest.id_of(name)}/tags"


async def test_tags_are_listed_in_byte_order(rest: Rest) -> None:
    listed = await rest.get(await tags_of(rest))
    assert [tag["name"] for tag in listed] == ALL
    assert listed[0] == {"name": "V1", "path": "team/app/web:V1", "location": "127.0.0.1:8080/team/app/web:V1"}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"sort": "desc"}, ALL[::-1]),
        ({"per_page": 2, "page": 3}, ["v10", "v2"]),
        ({"per_page": 4, "page": 2, "sort": "desc"}, ["a", "V1"]),
        ({"search": "v1"}, ["V1", "v1", "v10"]),
        ({"search": "v1", "per_page": 1, "page": 2}, ["v1"]),
        ({"pagination": "keyset", "last": "b", "per_page": 2}, ["v1", "v10"]),
        ({"pagination": "keyset", "last": "b", "sort": "desc"}, ["a", "V1"]),
        ({"pagination": "keyset", "last": "bb"}, ["v1", "v10", "v2"]),
        ({"last": "b", "per_page": 1}, ["V1"]),
    ],
)
async def test_tags_are_cut_into_pages(rest: Rest, parameters: dict[str, object], expected: list[str]) -> None:
    assert [tag["name"] for tag in await rest.get(await tags_of(rest), **parameters)] == expected


async def test_a_page_of_a_keyset_links_to_the_next_one_alone(rest: Rest) -> None:
    path = await tags_of(rest)
    answer = await rest.call("GET", path, pagination="keyset", per_page=4, sort="asc")
    expected = f"{URL}/api/v4{path}?pagination=keyset&sort=asc&last=v1&per_page=4"
    assert answer.headers["link"] == f'<{expected}>; rel="next"'
    assert answer.headers.get("x-total") is None and answer.headers.get("x-page") is None
    last = await rest.call("GET", path, pagination="keyset", last="v10")
    assert last.headers.get("link") is None


@pytest.mark.parametrize("sort", ["asc", "desc"])
async def test_tags_are_listed_by_when_they_were_published(rest: Rest, sort: str) -> None:
    name = "team/app/dated"
    for number, tag in enumerate(["c", "a", "d", "b"]):
        await rest.surface.push_image(name, tag, text=str(number))
    await rest.surface.push_image(name, "a", text="again")
    expected = ["c", "d", "b", "a"] if sort == "asc" else ["a", "b", "d", "c"]
    path, dated = await tags_of(rest, name), {"order_by": "published_at", "sort": sort}
    assert [tag["name"] for tag in await rest.get(path, **dated)] == expected
    assert [tag["name"] for tag in await rest.get(path, per_page=2, page=2, **dated)] == expected[2:]
    found, target = [], f"{path}?order_by=published_at&sort={sort}&pagination=keyset&per_page=1"
    while target:
        answer = await rest.call("GET", target)
        found += [tag["name"] for tag in json.loads(answer.body)]
        link = answer.headers.get("link")
        target = link[1:].partition(">")[0].removeprefix(f"{URL}/api/v4") if link else ""
    assert found == expected
    await rest.call("DELETE", f"/projects/team%2Fapp{REPOSITORIES}/{await rest.id_of(name)}")


@pytest.mark.parametrize("cursor", ["x", "1", "~a", "1~", f"{10**17}999~a", "-1~a", "1~a/b"])
async def test_a_cursor_that_is_none_is_refused(rest: Rest, cursor: str) -> None:
    wanted = {"order_by": "published_at", "pagination": "keyset", "cursor": cursor}
    assert await rest.get(await tags_of(rest), 400, **wanted) == {"error": "cursor is invalid"}


async def test_the_total_is_that_of_the_search(rest: Rest) -> None:
    answer = await rest.call("GET", await tags_of(rest), search="V1", per_page=2)
    assert (answer.headers["x-total"], answer.headers["x-total-pages"]) == ("3", "2")


async def test_a_repository_of_another_project_is_not_found(rest: Rest) -> None:
    for id in (await rest.id_of("team/lib/tool"), 0, 999_999, 10**17):
        found = await rest.get(f"{APP}/{id}/tags", 404)
        assert found == {"message": "404 Repository Not Found"}
    assert await rest.get(f"{APP}/x/tags", 400) == {"error": "repository_id is invalid"}
    assert await rest.get(f"{APP}/{10**19}/tags", 400) == {"error": "repository_id is invalid"}


async def test_a_tag_is_shown_with_its_image(rest: Rest) -> None:
    shown = await rest.get(f"{await tags_of(rest)}/v10")
    raw = image(digest_of(b"config of one"), digest_of(b"layer of one"))
    revision = digest_of(b"config of one").removeprefix("sha256:")
    assert shown == {
        "name": "v10",
        "path": "team/app/web:v10",
        "location": "127.0.0.1:8080/team/app/web:v10",
        "revision": revision,
        "short_revision": revision[:9],
        "digest": digest_of(raw),
        "created_at": shown["created_at"],
        "published_at": shown["published_at"],
        "media_type": OCI_MANIFEST,
        "total_size": 10,
    }
    assert shown["created_at"].endswith("+00:00") and len(shown["created_at"]) == 29


async def test_a_tag_keeps_its_creation_when_it_moves(rest: Rest) -> None:
    path = await tags_of(rest)
    before = await rest.get(f"{path}/a")
    await rest.surface.push_image("team/app/web", "a", text="other")
    after = await rest.get(f"{path}/a")
    assert after["created_at"] == before["created_at"] and after["published_at"] > before["published_at"]
    assert after["digest"] != before["digest"]


async def test_the_size_of_an_index_counts_each_layer_of_its_images_once(rest: Rest) -> None:
    name = "team/app/many"
    shared, config = await rest.surface.push_blob(name, b"shared"), await rest.surface.push_blob(name, b"config")
    children = []
    for text in (b"one", b"two"):
        layer = await rest.surface.push_blob(name, text)
        raw = image(config, shared, layer)
        assert (await rest.surface.put_manifest(name, digest_of(raw), raw)).status == 201
        children.append({"mediaType": OCI_MANIFEST, "digest": digest_of(raw), "size": len(raw)})
    inner = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}).encode()
    outer = {"mediaType": OCI_INDEX, "digest": digest_of(inner), "size": len(inner)}
    whole = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [outer, children[0]]}).encode()
    typed = {"headers": [("Content-Type", OCI_INDEX)]}
    assert (await rest.surface.put_manifest(name, "inner", inner, **typed)).status == 201
    assert (await rest.surface.put_manifest(name, "outer", whole, **typed)).status == 201
    for tag in ("inner", "outer"):
        shown = await rest.get(f"{await tags_of(rest, name)}/{tag}")
        assert (shown["total_size"], shown["media_type"]) == (30, OCI_INDEX)
        assert shown["revision"] is None and shown["short_revision"] is None


@pytest.mark.parametrize("tag", ["absent", "v1.json", "v1%2F", "%2e%2e", "a%20b", "sha256:abc", "a" * 129])
async def test_an_unknown_tag_is_not_found(rest: Rest, tag: str) -> None:
    assert await rest.get(f"{await tags_of(rest)}/{tag}", 404) == {"message": "404 Tag Not Found"}


async def test_tags_with_dots_have_no_format(rest: Rest) -> None:
    await rest.surface.push_image("team/app/dots", "v10.0.0", "latest.json")
    for tag in ("v10.0.0", "latest.json"):
        assert (await rest.get(f"{await tags_of(rest, 'team/app/dots')}/{tag}"))["name"] == tag
