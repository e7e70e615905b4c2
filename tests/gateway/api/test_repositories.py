"""Lists of repositories, and one of them: what each sees of which project, page by page."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from gateway.db import cleanups, projects
from gateway.namespaces.cleanup_policy import CleanupPolicy
from tests.gateway.api.rest import REPOSITORIES, URL, Rest, open_rest

pytestmark = pytest.mark.asyncio(loop_scope="module")

APP = f"/projects/team%2Fapp{REPOSITORIES}"
NAMES = ["team/app", "team/app/api", "team/app/web"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rest(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rest]:
    async with open_rest(tmp_path_factory.mktemp("rest") / "data") as rest:
        await rest.surface.push_image("team/app/web", "v1", "v2", "v3")
        await rest.surface.push_image("team/app", "latest")
        await rest.surface.push_image("team/app/api", "v1")
        await rest.surface.push_image("team/lib/tool", "v1")
        for name in ("open/shown/image", "closed/secret/image"):
            await rest.surface.push_blob(name, b"content", who="root")
        yield rest


def paths(documents: list[dict[str, Any]]) -> list[str]:
    return [document["path"] for document in documents]


async def test_a_repository_is_described_as_clients_expect(rest: Rest) -> None:
    root, api, web = await rest.get(APP)
    project = await rest.get("/projects/team%2Fapp")
    id = await rest.id_of("team/app/web")
    assert web == {
        "id": id,
        "name": "web",
        "path": "team/app/web",
        "project_id": project["id"],
        "location": "127.0.0.1:8080/team/app/web",
        "created_at": web["created_at"],
        "cleanup_policy_started_at": None,
        "status": None,
        "delete_api_path": f"{URL}/api/v4/projects/{project['id']}/registry/repositories/{id}",
    }
    assert root["name"] == "" and api["name"] == "api"
    assert web["created_at"].endswith("Z") and len(web["created_at"]) == len("2019-01-10T13:38:57.391Z")


async def test_who_may_not_delete_is_given_no_address_for_it(rest: Rest) -> None:
    for who, shown in (("root", True), ("maintainer", True), ("developer", False), ("reporter", False)):
        assert ["delete_api_path" in entry for entry in await rest.get(APP, who=who)] == [shown] * 3
    [entry] = await rest.get(f"/projects/open%2Fshown{REPOSITORIES}", who=None)
    assert "delete_api_path" not in entry


async def test_a_project_is_named_by_its_id_or_its_path_in_any_capitals(rest: Rest) -> None:
    id = (await rest.get("/projects/team%2Fapp"))["id"]
    for text in (str(id), f"{id}/", "Team%2FApp", "team%2fapp"):
        assert (await rest.get(f"/projects/{text.rstrip('/')}"))["id"] == id


@pytest.mark.parametrize(
    ("project", "who", "status"),
    [
        ("team%2Fapp", "reporter", 200),
        ("team%2Fapp", "stranger", 404),
        ("team%2Fapp", None, 404),
        ("closed%2Fsecret", "maintainer", 404),
        ("closed%2Fsecret", "root", 200),
        ("open%2Fshown", "stranger", 200),
        ("open%2Fshown", None, 200),
        ("team", "maintainer", 404),
        ("absent", None, 404),
        ("team%2Fapp%2Fweb", "maintainer", 404),
        ("999999999999", "maintainer", 404),
        ("9999999999999999999999", "maintainer", 404),
        ("0", "maintainer", 404),
        ("-1", "maintainer", 404),
        ("%2e%2e", "maintainer", 404),
        ("team%2Fapp%2F..%2Flib", "maintainer", 404),
        ("hub%2Fdependency_proxy%2Fcontainers%2Falpine", "maintainer", 404),
        ("a" * 300, "maintainer", 404),
    ],
)
async def test_each_sees_the_projects_that_may_be_known(rest: Rest, project: str, who: str | None, status: int) -> None:
    found = await rest.get(f"/projects/{project}{REPOSITORIES}", status, who=who)
    if status == 404:
        assert found == {"message": "404 Project Not Found"}


async def test_tags_and_counts_are_there_where_they_are_wanted(rest: Rest) -> None:
    assert "tags" not in (await rest.get(APP))[0] and "tags_count" not in (await rest.get(APP))[0]
    web = (await rest.get(APP, tags="true", tags_count="1"))[2]
    assert web["tags_count"] == 3
    assert web["tags"] == [
        {"name": name, "path": f"team/app/web:{name}", "location": f"127.0.0.1:8080/team/app/web:{name}"}
        for name in ("v1", "v2", "v3")
    ]
    answer = await rest.call("GET", APP, tags="perhaps", tags_count="7")
    assert json.loads(answer.body) == {"error": "tags is invalid, tags_count is invalid"}


async def test_a_response_holds_a_bounded_number_of_tags(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.api.repositories.TAGS_SHOWN", 6)
    shown = await rest.get(APP, tags="true", tags_count="true")
    assert [len(entry["tags"]) for entry in shown] == [1, 1, 2]
    assert shown[2]["tags_count"] == 3


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, NAMES),
        ({"sort": "desc"}, NAMES[::-1]),
        ({"order_by": "id"}, ["team/app/web", "team/app", "team/app/api"]),
        ({"order_by": "created_at", "sort": "desc"}, ["team/app/api", "team/app", "team/app/web"]),
        ({"order_by": "name"}, NAMES),
        ({"search": "WEB"}, ["team/app/web"]),
        ({"search": "p/a"}, ["team/app/api"]),
        ({"search": "%"}, []),
        ({"search": "_"}, []),
        ({"search": "x\0"}, None),
    ],
)
async def test_lists_are_searched_and_sorted(
    rest: Rest, parameters: dict[str, str], expected: list[str] | None
) -> None:
    if expected is None:
        assert await rest.get(APP, 400, **parameters) == {"error": "search is invalid"}
    else:
        assert paths(await rest.get(APP, **parameters)) == expected


async def test_pages_of_an_offset_say_where_they_lie(rest: Rest) -> None:
    answer = await rest.call("GET", f"{APP}/", per_page=1, page=2, tags_count="true")
    assert paths(json.loads(answer.body)) == ["team/app/api"]
    shown = {name: answer.headers[f"x-{name}"] for name in ("page", "per-page", "prev-page", "next-page", "total")}
    assert shown == {"page": "2", "per-page": "1", "prev-page": "1", "next-page": "3", "total": "3"}
    assert answer.headers["x-total-pages"] == "3"
    links = answer.headers["link"].split(", ")
    base = f"{URL}/api/v4{APP}?tags_count=true"
    assert links == [
        f'<{base}&page={number}&per_page=1>; rel="{relation}"'
        for relation, number in (("prev", 1), ("next", 3), ("first", 1), ("last", 3))
    ]
    last = await rest.call("GET", APP, per_page=2, page=2)
    assert (last.headers["x-next-page"], last.headers["x-prev-page"]) == ("", "1")
    assert 'rel="next"' not in last.headers["link"]
    beyond = await rest.call("GET", APP, page=50)
    assert (beyond.status, json.loads(beyond.body), beyond.headers["x-total"]) == (200, [], "3")


async def test_a_long_list_is_not_counted(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.db.windows.COUNTED", 2)
    answer = await rest.call("GET", APP, per_page=1)
    assert answer.headers.get("x-total") is None and answer.headers.get("x-total-pages") is None
    assert 'rel="last"' not in answer.headers["link"] and 'rel="next"' in answer.headers["link"]


@pytest.mark.parametrize("order", ["path", "id"])
@pytest.mark.parametrize("sort", ["asc", "desc"])
async def test_pages_of_a_keyset_follow_their_links(rest: Rest, order: str, sort: str) -> None:
    whole = paths(await rest.get(APP, order_by=order, sort=sort))
    found, path = [], f"{APP}?pagination=keyset&per_page=2&order_by={order}&sort={sort}"
    while path:
        answer = await rest.call("GET", path)
        found += paths(json.loads(answer.body))
        link = answer.headers.get("link")
        assert answer.headers.get("x-total") is None
        path = link[1:].partition(">")[0].removeprefix(f"{URL}/api/v4") if link else ""
    assert found == whole


async def test_a_cursor_that_is_none_is_refused(rest: Rest) -> None:
    refused = await rest.get(APP, 400, pagination="keyset", order_by="id", cursor="x")
    assert refused == {"error": "cursor is invalid"}


# Groups


@pytest.mark.parametrize(
    ("group", "who", "expected"),
    [
        ("team", "maintainer", [*NAMES, "team/lib/tool"]),
        ("team", "root", [*NAMES, "team/lib/tool"]),
        ("team", "stranger", None),
        ("team", None, None),
        ("team%2Fsub", "reporter", []),
        ("open", "stranger", ["open/shown/image"]),
        ("open", None, ["open/shown/image"]),
        ("closed", "maintainer", None),
        ("closed", "root", ["closed/secret/image"]),
        ("team%2Fapp", "maintainer", None),
        ("absent", "root", None),
        ("%2e%2e", "root", None),
        ("99999999999999999999", "root", None),
    ],
)
async def test_a_group_shows_what_may_be_pulled_below_it(
    rest: Rest, group: str, who: str | None, expected: list[str] | None
) -> None:
    if expected is None:
        assert await rest.get(f"/groups/{group}{REPOSITORIES}", 404, who=who) == {"message": "404 Group Not Found"}
    else:
        assert paths(await rest.get(f"/groups/{group}{REPOSITORIES}", who=who)) == expected


async def test_a_group_is_named_by_its_id_too(rest: Rest) -> None:
    group = await rest.get("/groups/team")
    assert paths(await rest.get(f"/groups/{group['id']}{REPOSITORIES}", search="tool")) == ["team/lib/tool"]
    assert await rest.get(f"/groups/{group['id']}{REPOSITORIES}", 404, who="stranger")


async def test_pages_of_a_group_are_linked(rest: Rest) -> None:
    answer = await rest.call("GET", f"/groups/team{REPOSITORIES}", per_page=3, sort="desc")
    assert paths(json.loads(answer.body)) == ["team/lib/tool", "team/app/web", "team/app/api"]
    assert (answer.headers["x-total"], answer.headers["x-next-page"]) == ("4", "2")


# One repository


async def test_one_repository_needs_a_token_even_where_everybody_may_pull(rest: Rest) -> None:
    id = await rest.id_of("open/shown/image")
    assert await rest.get(f"{REPOSITORIES}/{id}", 401, who=None) == {"message": "401 Unauthorized"}
    assert (await rest.get(f"{REPOSITORIES}/{id}", who="stranger"))["path"] == "open/shown/image"


async def test_one_repository_is_shown_with_its_figures(rest: Rest) -> None:
    id = await rest.id_of("team/app/web")
    plain, full = (
        await rest.get(f"{REPOSITORIES}/{id}"),
        await rest.get(f"{REPOSITORIES}/{id}", tags="true", tags_count="true", size="true"),
    )
    assert {"tags", "tags_count", "size"}.isdisjoint(plain)
    assert [tag["name"] for tag in full["tags"]] == ["v1", "v2", "v3"]
    assert full["tags_count"] == 3 and full["size"] > len("config of one" + "layer of one")


@pytest.mark.parametrize("id", ["x", "0", "999999", "1.0", "%2e", "99999999999999999999"])
async def test_an_unknown_repository_is_not_found(rest: Rest, id: str) -> None:
    assert await rest.get(f"{REPOSITORIES}/{id}", 404) == {"message": "404 Repository Not Found"}


async def test_a_hidden_repository_is_not_found(rest: Rest) -> None:
    id = await rest.id_of("closed/secret/image")
    assert await rest.get(f"{REPOSITORIES}/{id}", 404) == {"message": "404 Repository Not Found"}


async def test_the_token_of_a_job_opens_its_own_project_alone(rest: Rest) -> None:
    job = [("JOB-TOKEN", await rest.job("developer", "team/app"))]
    assert len(await rest.get(APP, who=None, headers=job)) == 3
    assert await rest.get("/projects/team%2Flib", 404, who=None, headers=job)
    refused = await rest.get(f"/projects/open%2Fshown{REPOSITORIES}", 403, who=None, headers=job)
    assert "own project alone" in refused["message"]
    for path in (f"/groups/team{REPOSITORIES}", f"{REPOSITORIES}/1", "/user"):
        assert "personal access token" in (await rest.get(path, 403, who=None, headers=job))["message"]


async def test_it_is_shown_when_a_cleanup_policy_came_to_a_repository(rest: Rest) -> None:
    id, began = await rest.id_of("team/app/web"), datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
    async with rest.database() as database, database.write() as connection:
        project = await projects.get(connection, "team/app")
        await cleanups.save(connection, project.id, CleanupPolicy(enabled=True), began)
        claimed = await cleanups.claim(connection, project.id, "tests", began)
        assert claimed is not None
        await cleanups.begin_repository(connection, claimed, id, began)
    shown = [await rest.get(f"{REPOSITORIES}/{id}")]
    for listed in (
        await rest.get(f"/projects/team%2Fapp{REPOSITORIES}"),
        await rest.get(f"/groups/team{REPOSITORIES}"),
    ):
        shown += [one for one in listed if one["id"] == id]
    assert [one["cleanup_policy_started_at"] for one in shown] == ["2025-03-04T05:06:07.000Z"] * 3
