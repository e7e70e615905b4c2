"""The API of GitLab's registry: repositories, tags from either end, images, and renames of projects."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from cache.oci.media_types import OCI_INDEX
from cache.oci.names import RepositoryName
from gateway.auth.principal import ANONYMOUS, AccessList, Principal
from gateway.v2.opener import RegistryOptions
from gateway.wiring.app import create_app
from tests.gateway.asgi import Client, Exchange, scope_of
from tests.parts.images import digest_of

from .pushing import CONFIG, LATER, ROOTS, URL, PushSurface, image, open_surface

WEB = "team/app/web"
BASE = "/gitlab/v1/repositories"
TAGS = f"{BASE}/{WEB}/tags/list/"


@pytest.fixture
async def surface(tmp_path: Any) -> AsyncIterator[PushSurface]:
    async with open_surface(tmp_path / "data") as surface:
        yield surface


async def call(
    surface: PushSurface,
    method: str,
    target: str,
    who: str | Principal = "maintainer",
    body: bytes = b"",
    headers: Sequence[tuple[str, str]] = (),
) -> Exchange:
    surface.presented.principal = surface.person(who) if isinstance(who, str) else who
    sent = [("Content-Length", str(len(body))), *headers] if body else list(headers)
    return await Client(scope_of(method, target, sent), [body]).request(
        create_app(surface.services, ROOTS, RegistryOptions(open_proxy=True))
    )


async def get(surface: PushSurface, target: str, status: int = 200, who: str | Principal = "maintainer") -> Any:
    answer = await call(surface, "GET", target, who)
    assert answer.status == status, answer.body
    return json.loads(answer.body) if status == 200 else answer.error


def bearer(surface: PushSurface, listed: Mapping[str, str], projects: Mapping[str, str] | None = None) -> Principal:
    """The maintainer by a Bearer token that lists these actions, and states these projects."""
    limits = AccessList({name: frozenset(words.split(",")) for name, words in listed.items()}, LATER, projects or {})
    return replace(surface.person("maintainer"), limits=limits)


def links(answer: Exchange) -> dict[str, str]:
    """The targets of the links of a response, below this server, by their relation."""
    found = {}
    for link in (answer.headers.get("link") or "").split(", "):
        target, _, relation = link.partition(">; rel=")
        if relation:
            assert target.startswith(f"<{URL}/")
            found[relation.strip('"')] = target.removeprefix(f"<{URL}")
    return found


# Which registry this is


async def test_the_base_shows_that_the_api_is_there(surface: PushSurface) -> None:
    answer = await call(surface, "GET", "/gitlab/v1/")
    assert (answer.status, answer.body) == (200, b"")
    refused = await call(surface, "GET", "/gitlab/v1/", ANONYMOUS)
    assert refused.status == 401 and refused.headers["www-authenticate"].startswith(f'Bearer realm="{URL}/jwt/auth"')
    ping = await surface.call("GET", "")
    assert ping.headers["gitlab-container-registry-features"] == "tag_delete"
    assert ping.headers["gitlab-container-registry-database-enabled"] == "true"
    assert ping.headers["gitlab-container-registry-version"]


@pytest.mark.parametrize(
    "path", ["/gitlab/v1", f"{BASE}/{WEB}", TAGS[:-1], f"{BASE}/{WEB}/tags/detail/v1", f"{TAGS[:-1]}?n=5&name=a%26b"]
)
async def test_a_path_without_its_slash_is_redirected(surface: PushSurface, path: str) -> None:
    answer = await call(surface, "GET", path, ANONYMOUS)
    path, _, query = path.partition("?")
    assert (answer.status, answer.headers["location"]) == (301, f"{URL}{path}/{query and f'?{query}'}")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/gitlab/v1/nothing/", 404, "UNSUPPORTED"),
        ("GET", "/gitlab/v2/", 404, "UNSUPPORTED"),
        ("GET", f"{BASE}/Team/App/", 400, "NAME_INVALID"),
        ("GET", f"{BASE}/team%2fapp/", 400, "NAME_INVALID"),
        ("GET", f"{BASE}/{WEB}/tags/detail/-/", 400, "TAG_INVALID"),
        ("POST", f"{BASE}/{WEB}/", 405, "UNSUPPORTED"),
        ("PATCH", TAGS, 405, "UNSUPPORTED"),
        ("GET", f"{BASE}/{WEB}/", 404, "NAME_UNKNOWN"),
        ("GET", TAGS, 404, "NAME_UNKNOWN"),
        ("GET", f"{BASE}/closed/secret/", 404, "NAME_UNKNOWN"),
        ("GET", f"{BASE}/hub/dependency_proxy/containers/alpine/", 404, "NAME_UNKNOWN"),
    ],
)
async def test_what_is_not_there_is_refused(
    surface: PushSurface, method: str, path: str, status: int, code: str
) -> None:
    answer = await call(surface, method, path)
    assert (answer.status, answer.error["code"]) == (status, code)


# Repositories


async def test_a_repository_is_shown_with_its_size(surface: PushSurface) -> None:
    await surface.push_image(WEB, "v1")
    await surface.push_image("team/app/api", "v1")
    shown = await get(surface, f"{BASE}/{WEB}/")
    assert (shown["name"], shown["path"]) == ("web", WEB) and set(shown) == {"name", "path", "created_at"}
    alone = await get(surface, f"{BASE}/{WEB}/?size=self")
    assert alone["size_precision"] == "default" and alone["size_bytes"] > 0
    project = await get(surface, f"{BASE}/team/app/?size=self_with_descendants")
    raw = image_bytes()
    assert project == {
        "name": "app",
        "path": "team/app",
        "size_bytes": alone["size_bytes"] + len(raw),  # the layers of both are the same
        "size_precision": "default",
    }
    assert (await get(surface, f"{BASE}/{WEB}/?size=all", 400))["code"] == "INVALID_QUERY_PARAMETER_VALUE"


def image_bytes() -> bytes:
    """The manifest of the image that `push_image` pushes."""
    return image(digest_of(b"config of one"), digest_of(b"layer of one"))


async def test_a_token_must_list_what_is_read(surface: PushSurface) -> None:
    await surface.push_image(WEB, "v1")
    assert await get(surface, f"{BASE}/{WEB}/", who=bearer(surface, {WEB: "pull"}))
    refused = await call(surface, "GET", f"{BASE}/{WEB}/", bearer(surface, {"team/app": "pull"}))
    assert refused.status == 401 and f'scope="repository:{WEB}:pull"' in refused.headers["www-authenticate"]
    wide = f"{BASE}/{WEB}/?size=self_with_descendants"
    refused = await call(surface, "GET", wide, bearer(surface, {WEB: "pull"}))
    asked = f'scope="repository:{WEB}:pull repository:{WEB}/*:pull"'
    assert refused.status == 401 and asked in refused.headers["www-authenticate"]
    assert await get(surface, wide, who=bearer(surface, {WEB: "pull", f"{WEB}/*": "pull"}))
    paths = f"/gitlab/v1/repository-paths/{WEB}/repositories/list/"
    refused = await call(surface, "GET", paths, bearer(surface, {WEB: "pull"}))
    assert refused.status == 401 and asked in refused.headers["www-authenticate"]
    assert await get(surface, paths, who=bearer(surface, {WEB: "pull", f"{WEB}/*": "pull"}))
    await surface.push_blob("open/shown", b"content", who="root")
    assert await get(surface, f"{BASE}/open/shown/", who=ANONYMOUS)


async def test_repositories_below_a_path_are_listed_that_have_tags(surface: PushSurface) -> None:
    for name in ("team/app/a", "team/app/b", "team/app"):
        await surface.push_image(name, "v1")
    await surface.push_blob("team/app/untagged", b"content")
    await surface.push_image("team/lib/other", "v1")
    target, names = "/gitlab/v1/repository-paths/team/app/repositories/list/?n=2", list[str]()
    while target:
        answer = await call(surface, "GET", target)
        names += [one["path"] for one in json.loads(answer.body)]
        target = links(answer).get("next", "")
    assert names == ["team/app", "team/app/a", "team/app/b"]


# Tags


@pytest.fixture
async def tagged(surface: PushSurface) -> PushSurface:
    """Five tags of the repository, of which `b` has moved to another image."""
    for name in ("a", "b", "c", "d-rc", "e"):
        await surface.push_image(WEB, name)
    await surface.push_image(WEB, "b", text="two")
    return surface


async def test_a_tag_is_described(tagged: PushSurface) -> None:
    found = {one["name"]: one for one in await get(tagged, TAGS)}
    first, moved = found["a"], found["b"]
    assert set(first) == {"name", "digest", "config_digest", "media_type", "size_bytes", "created_at", "published_at"}
    assert first["size_bytes"] == 10 and first["published_at"] == first["created_at"]
    assert moved["updated_at"] == moved["published_at"] and moved["digest"] != first["digest"]


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("name", ["a", "b", "c", "d-rc", "e"]),
        ("-name", ["e", "d-rc", "c", "b", "a"]),
        ("published_at", ["a", "c", "d-rc", "e", "b"]),
        ("-published_at", ["b", "e", "d-rc", "c", "a"]),
    ],
)
@pytest.mark.parametrize("count", [1, 2, 5])
async def test_pages_lead_forth_and_back(tagged: PushSurface, sort: str, expected: list[str], count: int) -> None:
    target, pages, back = f"{TAGS}?{urlencode({'n': count, 'sort': sort})}", list[list[str]](), list[list[str]]()
    while True:
        answer = await call(tagged, "GET", target)
        pages.append([one["name"] for one in json.loads(answer.body)])
        if "next" not in links(answer):
            break
        target = links(answer)["next"]
    assert [name for page in pages for name in page] == expected
    while "previous" in links(answer):
        answer = await call(tagged, "GET", links(answer)["previous"])
        back.append([one["name"] for one in json.loads(answer.body)])
        if not back[-1]:
            break
    assert back == pages[-2::-1] if len(pages) > 1 else back == []


async def test_tags_are_searched(tagged: PushSurface) -> None:
    assert [one["name"] for one in await get(tagged, f"{TAGS}?name=RC")] == ["d-rc"]
    assert [one["name"] for one in await get(tagged, f"{TAGS}?name_exact=c")] == ["c"]
    assert await get(tagged, f"{TAGS}?name_exact=rc") == []


async def test_links_keep_the_query(tagged: PushSurface) -> None:
    answer = await call(tagged, "GET", f"{TAGS}?n=1&name=.&sort=-name")
    assert links(answer) == {}
    answer = await call(tagged, "GET", f"{TAGS}?n=1&sort=-name&referrers=true")
    query = dict(parse_qsl(urlsplit(links(answer)["next"]).query))
    assert query == {"n": "1", "sort": "-name", "referrers": "true", "last": "e"}


async def test_referrers_are_shown_where_they_are_wanted(tagged: PushSurface) -> None:
    digest = {one["name"]: one["digest"] for one in await get(tagged, TAGS)}["a"]
    subject = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 10}
    kinds = {}
    for kind in ("application/x.sig", "application/x.sbom"):
        kinds[kind] = await tagged.push_image(WEB, text=kind, artifactType=kind, subject=subject)
    found = {one["name"]: one for one in await get(tagged, f"{TAGS}?referrers=true")}
    assert found["a"]["referrers"] == [{"artifactType": kind, "digest": kinds[kind]} for kind in kinds]
    assert found["b"]["referrers"] == []
    some = await get(tagged, f"{TAGS}?name_exact=a&referrers=true&referrer_type=application/x.sbom,x")
    assert [one["artifactType"] for one in some[0]["referrers"]] == ["application/x.sbom"]
    assert "referrers" not in (await get(tagged, TAGS))[0]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("n=x", "INVALID_QUERY_PARAMETER_TYPE"),
        ("n=1.5", "INVALID_QUERY_PARAMETER_TYPE"),
        ("n=0", "INVALID_QUERY_PARAMETER_VALUE"),
        ("n=-1", "INVALID_QUERY_PARAMETER_VALUE"),
        ("n=1001", "INVALID_QUERY_PARAMETER_VALUE"),
        ("sort=size", "INVALID_QUERY_PARAMETER_VALUE"),
        ("sort=--name", "INVALID_QUERY_PARAMETER_VALUE"),
        ("name=a*b", "INVALID_QUERY_PARAMETER_VALUE"),
        (f"name={'a' * 129}", "INVALID_QUERY_PARAMETER_VALUE"),
        ("name=a&name_exact=a", "INVALID_QUERY_PARAMETER_VALUE"),
        ("name_exact=-", "INVALID_QUERY_PARAMETER_VALUE"),
        ("last=a&before=b", "INVALID_QUERY_PARAMETER_VALUE"),
        ("last=-", "INVALID_QUERY_PARAMETER_VALUE"),
        ("sort=published_at&last=a", "INVALID_QUERY_PARAMETER_VALUE"),
        ("sort=published_at&last=MjAyNXxh", "INVALID_QUERY_PARAMETER_VALUE"),
        ("sort=published_at&last=" + "x" * 400, "INVALID_QUERY_PARAMETER_VALUE"),
        ("referrers=perhaps", "INVALID_QUERY_PARAMETER_TYPE"),
    ],
)
async def test_a_parameter_that_cannot_be_is_named(tagged: PushSurface, query: str, code: str) -> None:
    assert (await get(tagged, f"{TAGS}?{query}", 400))["code"] == code


async def test_a_tag_is_shown_with_its_image_and_platform(surface: PushSurface) -> None:
    config = await surface.push_blob(WEB, json.dumps({"architecture": "arm64", "os": "linux", "x": 1}).encode())
    layer = await surface.push_blob(WEB, b"layer")
    await surface.put_manifest(WEB, "v1", image(config, layer))
    shown = await get(surface, f"{BASE}/{WEB}/tags/detail/v1/")
    assert (shown["repository"], shown["name"]) == (WEB, "v1")
    assert shown["image"]["config"] == {
        "digest": config,
        "media_type": CONFIG,
        "platform": {"architecture": "arm64", "os": "linux"},
    }
    assert shown["image"]["size_bytes"] == 10 and "references" not in shown["image"]["manifest"]
    absent = await call(surface, "GET", f"{BASE}/{WEB}/tags/detail/v2/")
    assert (absent.status, absent.error["code"]) == (404, "MANIFEST_UNKNOWN")


async def test_an_index_is_shown_with_its_images(surface: PushSurface) -> None:
    child = await surface.push_image(WEB, "v1")
    entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": child, "size": 10}
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
    made = await surface.put_manifest(WEB, "all", index, headers=[("Content-Type", OCI_INDEX)])
    assert made.status == 201
    shown = (await get(surface, f"{BASE}/{WEB}/tags/detail/all/"))["image"]
    assert shown["manifest"]["media_type"] == OCI_INDEX and "config" not in shown
    assert [one["manifest"]["digest"] for one in shown["manifest"]["references"]] == [child]
    assert shown["size_bytes"] == 10


# Renames


def wanted(**members: object) -> bytes:
    return json.dumps(members).encode()


async def test_a_project_is_renamed_with_all_of_its_repositories(surface: PushSurface) -> None:
    await surface.push_image(WEB, "v1")
    dry = await call(surface, "PATCH", f"{BASE}/team/app/?dry_run=true", body=wanted(name="shop"))
    assert dry.status == 202 and json.loads(dry.body)["ttl"].endswith("Z")
    assert (await surface.call("GET", "team/shop/web/manifests/v1")).status == 404
    done = await call(surface, "PATCH", f"{BASE}/team/app/", body=wanted(name="shop"))
    assert (done.status, done.body) == (204, b"")
    assert (await surface.call("GET", "team/shop/web/manifests/v1")).status == 200
    assert await surface.services.native.find(RepositoryName("team/shop/web"))


async def test_a_rename_to_an_old_path_does_not_tell_where_a_project_has_gone(surface: PushSurface) -> None:
    assert (await call(surface, "PATCH", f"{BASE}/team/lib/", "root", wanted(namespace="closed"))).status == 204
    for query in ("", "?dry_run=true"):
        answer = await call(surface, "PATCH", f"{BASE}/team/app/{query}", body=wanted(name="lib"))
        assert answer.status == 409 and b"the path is not free" in answer.body and b"closed" not in answer.body


async def test_a_project_moves_to_another_namespace_by_its_owner(surface: PushSurface) -> None:
    await surface.push_image(WEB, "v1")
    assert (await call(surface, "PATCH", f"{BASE}/team/app/", body=wanted(namespace="team/sub"))).status == 403
    for unknown in ("nowhere", "closed"):
        answer = await call(surface, "PATCH", f"{BASE}/team/lib/", "root", wanted(namespace=unknown))
        assert answer.status == (404 if unknown == "nowhere" else 204)
    assert (await call(surface, "PATCH", f"{BASE}/team/app/", "root", wanted(namespace="team/sub"))).status == 204
    assert (await surface.call("GET", "team/sub/app/web/manifests/v1")).status == 200


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "INVALID_JSON_BODY"),
        (b"x", 400, "INVALID_JSON_BODY"),
        (b"[]", 400, "INVALID_JSON_BODY"),
        (b"{}", 400, "INVALID_JSON_BODY"),
        (wanted(name="a", namespace="b"), 400, "INVALID_JSON_BODY"),
        (wanted(name=1), 400, "INVALID_BODY_PARAMETER_TYPE"),
        (wanted(name="a/b"), 400, "INVALID_BODY_PARAMETER_TYPE"),
        (wanted(name="A b"), 400, "INVALID_BODY_PARAMETER_TYPE"),
        (wanted(name="lib"), 409, "RENAME_CONFLICT"),
        (b"{" + b" " * 5000, 413, "SIZE_INVALID"),
    ],
)
async def test_a_rename_that_cannot_be_changes_nothing(
    surface: PushSurface, body: bytes, status: int, code: str
) -> None:
    for query in ("", "?dry_run=true"):
        answer = await call(surface, "PATCH", f"{BASE}/team/app/{query}", body=body)
        assert (answer.status, answer.error["code"]) == (status, code)
    assert await surface.services.directory.find_project_place("team/app")


async def test_a_rename_needs_the_path_of_the_project_in_the_token(surface: PushSurface) -> None:
    everything, own = {"team/app": "pull,push", "team/app/*": "pull"}, {"team/app": "team/app"}
    body, path = wanted(name="shop"), f"{BASE}/team/app/"

    async def refused(who: Principal, target: str = path) -> str:
        answer = await call(surface, "PATCH", target, who, body)
        assert answer.status in (400, 401)
        return str(answer.error["code"])

    assert await refused(bearer(surface, {"team/app": "pull,push"}, own)) == "UNAUTHORIZED"
    assert await refused(bearer(surface, {"team/app": "pull", "team/app/*": "pull"}, own)) == "UNAUTHORIZED"
    assert await refused(bearer(surface, everything)) == "UNKNOWN_PROJECT_PATH_CLAIM"
    assert await refused(bearer(surface, everything, {"team/app": "team/lib"})) == "MISMATCH_PROJECT_PATH_CLAIM"
    assert await refused(surface.person("maintainer"), f"{BASE}/{WEB}/") == "MISMATCH_PROJECT_PATH_CLAIM"
    developer = await call(surface, "PATCH", path, "developer", body)
    assert developer.status == 403
    assert (await call(surface, "PATCH", path, bearer(surface, everything, own), body)).status == 204
