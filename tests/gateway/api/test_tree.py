"""Groups, projects, namespaces and their members: lists, and changes by who may make them."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.db import members, projects
from gateway.namespaces.member import Member
from gateway.namespaces.role import Role
from tests.gateway.api.rest import Rest, open_rest

TEAM, APP = "/groups/team", "/projects/team%2Fapp"


@pytest.fixture
async def rest(tmp_path: Path) -> AsyncIterator[Rest]:
    async with open_rest(tmp_path / "data") as rest:
        yield rest


async def sent(rest: Rest, method: str, path: str, status: int, who: str = "root", /, **document: Any) -> Any:
    """The document of the response to a change, whose status is this."""
    answer = await rest.send_json(method, path, document, who=who)
    assert answer.status == status, (answer.status, answer.body)
    return json.loads(answer.body) if answer.body else None


async def names(rest: Rest, path: str, who: str | None = "root", **query: Any) -> list[str]:
    found = await rest.get(path, who=who, per_page=100, **query)
    return [one.get("full_path") or one.get("path_with_namespace") or one["username"] for one in found]


async def make_owner(rest: Rest, who: str = "developer", node: str = TEAM) -> None:
    id = rest.surface.people[who].id
    await sent(rest, "PUT", f"{node}/members/{id}", 200, access_level=50)


# Lists


async def test_groups_and_projects_are_listed_for_who_may_know_of_them(rest: Rest) -> None:
    assert await names(rest, "/groups", None) == ["hub", "open"]
    assert await names(rest, "/projects", None) == ["open/shown"]
    assert {"team", "team/sub"} <= set(await names(rest, "/groups", "reporter"))
    assert set(await names(rest, "/groups", "reporter")).isdisjoint({"closed", "closed/new"})
    assert set(await names(rest, "/projects", "reporter")) == {"open/shown", "team/app", "team/lib"}
    assert {"closed/secret", "team/app"} <= set(await names(rest, "/projects"))
    assert "closed" in await names(rest, "/groups", "newcomer")  # by the path of a group of one's own


@pytest.mark.parametrize("path", ["/groups", "/projects", f"{TEAM}/projects", f"{TEAM}/descendant_groups"])
async def test_a_cursor_that_is_no_id_is_refused(rest: Rest, path: str) -> None:
    for cursor in ("x", "-1", "1.5", "9" * 19):
        query = {"pagination": "keyset", "order_by": "id", "cursor": cursor}
        assert await rest.get(path, 400, **query) == {"error": "cursor is invalid"}


async def test_lists_are_narrowed(rest: Rest) -> None:
    assert await names(rest, "/projects", "developer", membership="true") == ["team/app", "team/lib"]
    assert await names(rest, "/projects", "developer", min_access_level=40) == []
    assert await names(rest, "/projects", "maintainer", min_access_level=40, search="LIB") == ["team/lib"]
    assert await names(rest, "/projects", "developer", owned="true") == []
    assert await names(rest, "/projects", visibility="public") == ["open/shown"]
    assert await names(rest, "/groups", top_level_only="true", sort="desc") == ["team", "open", "hub", "closed"]
    assert await names(rest, f"{TEAM}/subgroups") == ["team/sub"]
    assert await names(rest, f"{TEAM}/descendant_groups", search="sub") == ["team/sub"]
    assert await names(rest, f"{TEAM}/projects") == ["team/app", "team/lib"]
    assert await names(rest, "/groups/closed/projects") == ["closed/secret"]


async def test_pages_of_the_tree_are_counted_or_follow_one_another(rest: Rest) -> None:
    first = await rest.call("GET", "/projects", who="root", per_page=2)
    every = await names(rest, "/projects")
    assert (first.headers["x-total"], first.headers["x-next-page"]) == (str(len(every)), "2")
    for order in ("path", "id"):
        seen: list[str] = []
        query: dict[str, Any] = {"pagination": "keyset", "per_page": 1, "order_by": order}
        while True:
            answer = await rest.call("GET", "/projects", who="root", **query)
            [one] = json.loads(answer.body)
            seen.append(one["path_with_namespace"])
            if "link" not in answer.headers:
                break
            query["cursor"] = one["path_with_namespace"] if order == "path" else one["id"]
        assert sorted(seen) == every and (order == "id" or seen == every)


# Groups


async def test_a_group_is_made_by_an_administrator_or_by_an_owner_of_the_one_above(rest: Rest) -> None:
    made = await sent(rest, "POST", "/groups", 201, name="New Group", path="fresh", visibility="public")
    assert (made["full_path"], made["visibility"], made["parent_id"]) == ("fresh", "public", None)
    members = await rest.get("/groups/fresh/members", who="root")
    assert [(one["username"], one["access_level"]) for one in members] == [("root", 50)]
    assert (await sent(rest, "POST", "/groups", 201, name="By Its Name"))["path"] == "by-its-name"
    team = (await rest.get(TEAM))["id"]
    refused = await sent(rest, "POST", "/groups", 403, "maintainer", path="mine", parent_id=team)
    assert "owner" in refused["message"]
    await sent(rest, "POST", "/groups", 403, "maintainer", path="top")
    await make_owner(rest)
    below = await sent(rest, "POST", "/groups", 201, "developer", path="mine", parent_id=team)
    assert (below["full_path"], below["parent_id"]) == ("team/mine", team)
    assert await rest.get("/groups/team%2Fmine/members", who="developer") == []  # an owner by the group above
    await sent(rest, "POST", "/groups", 404, "stranger", path="x", parent_id=team)


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"path": "team"}, "path"),
        ({"path": "Not Fit!"}, "path"),
        ({"path": "v2"}, "path"),
        ({"path": "team", "visibility": "none"}, "visibility"),
        ({}, "name"),
    ],
)
async def test_a_group_that_cannot_be_is_refused_by_its_attribute(
    rest: Rest, document: dict[str, Any], named: str
) -> None:
    refused = await sent(rest, "POST", "/groups", 400, **document)
    assert named in json.dumps(refused)


async def test_a_group_is_renamed_moved_and_deleted(rest: Rest) -> None:
    fresh = await sent(rest, "POST", "/groups", 201, path="fresh")
    renamed = await sent(rest, "PUT", "/groups/fresh", 200, path="renamed", visibility="internal")
    assert (renamed["full_path"], renamed["visibility"], renamed["id"]) == ("renamed", "internal", fresh["id"])
    assert (await rest.get("/groups/fresh", who="root"))["full_path"] == "renamed"  # by its old path
    assert "'renamed' now" in (await sent(rest, "DELETE", "/groups/fresh", 403))["message"]
    team = (await rest.get(TEAM))["id"]
    refused = await sent(rest, "POST", "/groups/renamed/transfer", 400, group_id=team)
    assert "visibility_level" in refused["message"]
    await sent(rest, "PUT", "/groups/renamed", 200, visibility="private")
    moved = await sent(rest, "POST", "/groups/renamed/transfer", 201, group_id=team)
    assert (moved["full_path"], moved["parent_id"]) == ("team/renamed", team)
    assert await sent(rest, "DELETE", f"/groups/{fresh['id']}", 202) == 202
    await rest.get("/groups/team%2Frenamed", 404, who="root")
    assert "team/app" in (await sent(rest, "DELETE", TEAM, 409))["message"]
    await sent(rest, "PUT", TEAM, 400)
    await sent(rest, "DELETE", TEAM, 403, "maintainer")


# Projects


async def test_a_project_is_made_in_the_own_namespace_or_in_a_group_of_a_developer(rest: Rest) -> None:
    own = await sent(rest, "POST", "/projects", 201, "stranger", name="My App")
    assert own["path_with_namespace"] == "stranger/my-app" and own["visibility"] == "private"
    assert own["namespace"]["kind"] == "user" and own["namespace"]["full_path"] == "stranger"
    team = (await rest.get(TEAM))["id"]
    wanted = {"path": "new", "namespace_id": team, "container_registry_access_level": "private"}
    made = await sent(rest, "POST", "/projects", 201, "developer", **wanted)
    assert (made["path_with_namespace"], made["container_registry_access_level"]) == ("team/new", "private")
    await sent(rest, "POST", "/projects", 403, "reporter", path="other", namespace_id=team)
    await sent(rest, "POST", "/projects", 404, "stranger", path="other", namespace_id=team)
    await sent(rest, "POST", "/projects", 404, "developer", path="x", namespace_id=own["namespace"]["id"])
    taken = await sent(rest, "POST", "/projects", 400, "developer", **wanted)
    assert taken["message"]["path"] == ["has already been taken"]
    await sent(rest, "POST", "/projects", 400, "developer", namespace_id=team)
    wider = await sent(rest, "POST", "/projects", 400, "developer", path="p", namespace_id=team, visibility="public")
    assert "visibility_level" in wider["message"]


async def test_a_project_is_moved_with_its_images_by_its_owner(rest: Rest) -> None:
    digest = await rest.surface.push_image("team/app/web", "v1")
    id = (await rest.get(APP))["id"]
    await sent(rest, "PUT", f"{APP}/transfer", 403, "maintainer", namespace="closed")
    await make_owner(rest)
    await sent(rest, "PUT", f"{APP}/transfer", 404, "developer", namespace="closed")
    moved = await sent(rest, "PUT", f"{APP}/transfer", 200, "developer", namespace="developer")
    assert (moved["path_with_namespace"], moved["id"]) == ("developer/app", id)
    pulled = await rest.surface.call("GET", "developer/app/web/manifests/v1", who="developer")
    assert pulled.headers["docker-content-digest"] == digest
    assert (await rest.get(APP, who="developer"))["id"] == id  # by its old path


async def test_a_project_is_renamed_with_its_images(rest: Rest) -> None:
    digest = await rest.surface.push_image("team/app/web", "v1")
    renamed = await sent(rest, "PUT", APP, 200, "maintainer", name="New Name")
    assert renamed["path_with_namespace"] == "team/new-name"
    pulled = await rest.surface.call("GET", "team/new-name/web/manifests/v1")
    assert pulled.headers["docker-content-digest"] == digest
    taken = await sent(rest, "PUT", "/projects/team%2Fnew-name", 400, "maintainer", path="lib")
    assert "path" in taken["message"]


async def test_a_project_is_deleted_by_its_owner_alone(rest: Rest) -> None:
    await rest.surface.push_image("team/app/web", "v1")
    await sent(rest, "DELETE", APP, 403, "maintainer")
    await make_owner(rest)
    assert await sent(rest, "DELETE", APP, 202, "developer") == {"message": "202 Accepted"}
    await rest.get(APP, 404, who="root")
    assert (await rest.surface.call("GET", "team/app/web/manifests/v1")).status == 404


# Members


async def test_members_are_listed_with_those_of_the_groups_above(rest: Rest) -> None:
    assert await rest.get(f"{APP}/members") == []
    every = await rest.get(f"{APP}/members/all", who="reporter")
    assert [(one["username"], one["access_level"]) for one in every] == [
        ("developer", 30),
        ("maintainer", 40),
        ("reporter", 20),
    ]
    assert await names(rest, f"{APP}/members/all", query="MAIN") == ["maintainer"]
    assert len(await rest.get(f"{APP}/members/all", per_page=2, page=2)) == 1
    one = await rest.get(f"{APP}/members/all/{every[0]['id']}")
    assert one == every[0] and one["membership_state"] == "active" and one["expires_at"] is None
    await rest.get(f"{APP}/members/{every[0]['id']}", 404)
    await rest.get(f"{TEAM}/members", 404, who="stranger")
    await rest.get("/projects/open%2Fshown/members", 401, who=None)


async def test_a_member_is_added_changed_and_removed(rest: Rest) -> None:
    id = rest.surface.people["stranger"].id
    made = await sent(rest, "POST", f"{APP}/members", 201, "maintainer", user_id=id, access_level=20)
    assert (made["username"], made["access_level"]) == ("stranger", 20)
    taken = await sent(rest, "POST", f"{APP}/members", 409, "maintainer", username="stranger", access_level=30)
    assert taken == {"message": "Member already exists"}
    changed = await sent(
        rest, "PUT", f"{APP}/members/{id}", 200, "maintainer", access_level=30, expires_at="2999-01-31"
    )
    assert (changed["access_level"], changed["expires_at"]) == (30, "2999-01-31")
    kept = await sent(rest, "PUT", f"{APP}/members/{id}", 200, "maintainer", access_level=20)
    assert kept["expires_at"] == "2999-01-31"
    assert (await sent(rest, "PUT", f"{APP}/members/{id}", 200, access_level=20, expires_at=""))["expires_at"] is None
    assert "team/app" in await names(rest, "/projects", "stranger")
    await sent(rest, "DELETE", f"{APP}/members/{id}", 204, "maintainer")
    await sent(rest, "DELETE", f"{APP}/members/{id}", 404, "maintainer")
    assert "team/app" not in await names(rest, "/projects", "stranger")


async def test_an_expired_member_is_none(rest: Rest) -> None:
    stranger, now = rest.surface.people["stranger"], rest.services.clock()
    async with rest.database() as database, database.write() as connection:
        project = await projects.get(connection, "team/app")
        made = Member(project.key, stranger.id, Role.DEVELOPER, now - timedelta(days=1), now - timedelta(days=9))
        await members.add(connection, made)
    for path in (f"{APP}/members", f"{APP}/members/all"):
        assert "stranger" not in await names(rest, path)
        await rest.get(f"{path}/{stranger.id}", 404)
    await sent(rest, "PUT", f"{APP}/members/{stranger.id}", 404, access_level=20)
    await sent(rest, "DELETE", f"{APP}/members/{stranger.id}", 404)
    added = await sent(rest, "POST", f"{APP}/members", 201, "maintainer", username="stranger", access_level=20)
    assert (added["access_level"], added["expires_at"]) == (20, None)
    assert await names(rest, f"{APP}/members") == ["stranger"]


async def test_nobody_gives_or_takes_a_role_above_the_own_one(rest: Rest) -> None:
    stranger, newcomer = (rest.surface.people[who].id for who in ("stranger", "newcomer"))
    refused = await sent(rest, "POST", f"{APP}/members", 403, "maintainer", user_id=stranger, access_level=50)
    assert "above your own" in refused["message"]
    await sent(rest, "POST", f"{APP}/members", 201, user_id=stranger, access_level=50)
    await sent(rest, "PUT", f"{APP}/members/{stranger}", 403, "maintainer", access_level=20)
    await sent(rest, "DELETE", f"{APP}/members/{stranger}", 403, "maintainer")
    await sent(rest, "POST", f"{APP}/members", 403, "developer", user_id=newcomer, access_level=10)
    await sent(rest, "POST", f"{TEAM}/members", 403, "maintainer", user_id=newcomer, access_level=10)


async def test_everybody_may_leave(rest: Rest) -> None:
    reporter = rest.surface.people["reporter"].id
    await sent(rest, "DELETE", f"{TEAM}/members/{reporter}", 204, "reporter")
    await rest.get(TEAM, 404, who="reporter")


@pytest.mark.parametrize(
    ("document", "status", "named"),
    [
        ({"username": "developer", "access_level": 20}, 400, "access_level"),  # less than by the group above
        ({"username": "stranger", "access_level": 31}, 400, "access_level"),
        ({"username": "stranger"}, 400, "access_level is missing"),
        ({"access_level": 30}, 400, "user_id"),
        ({"username": "stranger", "user_id": 1, "access_level": 30}, 400, "mutually exclusive"),
        ({"username": "nobody", "access_level": 30}, 404, "404 User Not Found"),
        ({"user_id": 999_999, "access_level": 30}, 404, "404 User Not Found"),
        ({"username": "stranger", "access_level": 30, "expires_at": "yesterday"}, 400, "expires_at"),
        ({"username": "stranger", "access_level": 30, "expires_at": "2001-01-01"}, 400, "expires_at"),
    ],
)
async def test_a_membership_that_means_nothing_is_refused(
    rest: Rest, document: dict[str, Any], status: int, named: str
) -> None:
    assert named in json.dumps(await sent(rest, "POST", f"{APP}/members", status, "maintainer", **document))


# Namespaces


async def test_namespaces_are_those_in_which_one_may_create_projects(rest: Rest) -> None:
    listed = await rest.get("/namespaces", who="developer")
    assert [(one["kind"], one["full_path"]) for one in listed] == [
        ("user", "developer"),
        ("group", "team"),
        ("group", "team/sub"),
    ]
    assert await names(rest, "/namespaces", "reporter") == ["reporter"]
    own, group = listed[0], listed[1]
    for text in (own["id"], "developer", group["id"], "team%2Fsub"):
        assert (await rest.get(f"/namespaces/{text}", who="developer"))["full_path"]
    await rest.get(f"/namespaces/{own['id']}", 404, who="reporter")
    await rest.get("/namespaces/closed", 404, who="reporter")
    assert (await rest.get(f"/namespaces/{own['id']}", who="root"))["kind"] == "user"
    await rest.get("/namespaces/team%2Fapp", 404, who="root")
