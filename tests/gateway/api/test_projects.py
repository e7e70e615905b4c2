"""Projects, groups and users as clients are shown them, and the switches of a project."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.api.rest import REPOSITORIES, URL, Rest, open_rest

APP = "/projects/team%2Fapp"


@pytest.fixture
async def rest(tmp_path: Path) -> AsyncIterator[Rest]:
    async with open_rest(tmp_path / "data") as rest:
        yield rest


async def test_a_project_is_described_as_clients_expect(rest: Rest) -> None:
    shown, group = await rest.get(APP), await rest.get("/groups/team")
    assert {name: shown[name] for name in ("name", "path", "path_with_namespace", "visibility")} == {
        "name": "app",
        "path": "app",
        "path_with_namespace": "team/app",
        "visibility": "private",
    }
    assert shown["web_url"] == f"{URL}/team/app"
    assert shown["container_registry_enabled"] is True
    assert shown["container_registry_access_level"] == "enabled"
    assert shown["container_registry_image_prefix"] == "127.0.0.1:8080/team/app"
    assert shown["namespace"]["id"] == group["id"] and shown["namespace"]["full_path"] == "team"
    assert shown["_links"]["self"] == f"{URL}/api/v4/projects/{shown['id']}"


async def test_a_group_is_described_as_clients_expect(rest: Rest) -> None:
    group, sub = await rest.get("/groups/team"), await rest.get("/groups/team%2Fsub")
    assert (group["full_path"], group["parent_id"], group["visibility"]) == ("team", None, "private")
    assert (sub["path"], sub["full_path"], sub["parent_id"]) == ("sub", "team/sub", group["id"])
    assert await rest.get("/groups/team", 404, who="stranger") == {"message": "404 Group Not Found"}
    assert (await rest.get("/groups/open", who=None))["visibility"] == "public"


async def test_a_user_is_shown_oneself(rest: Rest) -> None:
    shown = await rest.get("/user", who="developer")
    assert (shown["username"], shown["state"], shown["web_url"]) == ("developer", "active", f"{URL}/developer")
    assert "is_admin" not in shown and (await rest.get("/user", who="root"))["is_admin"] is True


async def test_the_version_is_that_of_this_program(rest: Rest) -> None:
    version, metadata = await rest.get("/version"), await rest.get("/metadata")
    assert set(version) == {"version", "revision"}
    assert metadata["version"] == version["version"] and metadata["enterprise"] is False
    assert await rest.get("/version", 401, who=None) == {"message": "401 Unauthorized"}


@pytest.mark.parametrize(
    ("wanted", "level"),
    [
        ({"container_registry_access_level": "private"}, "private"),
        ({"container_registry_access_level": "disabled"}, "disabled"),
        ({"container_registry_enabled": False}, "disabled"),
        ({"container_registry_enabled": "true"}, "enabled"),
        ({"container_registry_access_level": "private", "container_registry_enabled": False}, "private"),
    ],
)
async def test_the_switch_of_the_registry_is_changed(rest: Rest, wanted: dict[str, Any], level: str) -> None:
    answer = await rest.send_json("PUT", f"{APP}/", wanted)
    assert answer.status == 200, answer.body
    shown = await rest.get(APP)
    assert json.loads(answer.body) == shown
    assert shown["container_registry_access_level"] == level
    assert shown["container_registry_enabled"] is (level != "disabled")


async def test_a_disabled_registry_is_closed_to_all(rest: Rest) -> None:
    await rest.surface.push_image("team/app/web", "v1")
    id = await rest.id_of("team/app/web")
    await rest.send_json("PUT", APP, {"container_registry_access_level": "disabled"})
    for who in ("root", "maintainer", "reporter"):
        for path in (f"{APP}{REPOSITORIES}", f"{APP}{REPOSITORIES}/{id}/tags", f"{REPOSITORIES}/{id}"):
            assert "disabled" in (await rest.get(path, 403, who=who))["message"]
    assert await rest.get(f"/groups/team{REPOSITORIES}", who="root") == []
    assert (await rest.surface.call("GET", "team/app/web/manifests/v1")).status == 403


async def test_the_visibility_is_changed_by_owners_alone(rest: Rest) -> None:
    made = await rest.send_json("POST", "/projects", {"path": "own"}, who="stranger")
    own = f"/projects/{json.loads(made.body)['id']}"
    member = {"username": "newcomer", "access_level": 40}
    assert (await rest.send_json("POST", f"{own}/members", member, who="stranger")).status == 201
    refused = await rest.send_json("PUT", own, {"visibility": "public"}, who="newcomer")
    assert refused.status == 403 and "owners change the visibility" in json.loads(refused.body)["message"]
    same = {"visibility": "private", "container_registry_access_level": "private"}
    assert (await rest.send_json("PUT", own, same, who="newcomer")).status == 200
    changed = await rest.send_json("PUT", own, {"visibility": "public"}, who="stranger")
    assert json.loads(changed.body)["visibility"] == "public"


async def test_the_visibility_is_changed_as_far_as_the_group_lets_it(rest: Rest) -> None:
    answer = await rest.send_json("PUT", APP, {"visibility": "public"}, who="root")
    assert answer.status == 400
    assert "cannot be public in the private group" in json.loads(answer.body)["message"]["visibility_level"][0]
    changed = await rest.send_json("PUT", "/projects/open%2Fshown", {"visibility": "private"}, who="root")
    assert json.loads(changed.body)["visibility"] == "private"
    assert await rest.get("/projects/open%2Fshown", 404, who=None) == {"message": "404 Project Not Found"}


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ({}, "at least one parameter must be provided"),
        ({"description": "ignored"}, "at least one parameter must be provided"),
        ({"visibility": "secret"}, "visibility does not have a valid value"),
        ({"container_registry_access_level": "open"}, "container_registry_access_level does not have a valid value"),
        (
            {"container_registry_enabled": "perhaps", "visibility": 7},
            "container_registry_enabled is invalid, visibility",
        ),
    ],
)
async def test_wrong_switches_change_nothing(rest: Rest, wanted: dict[str, Any], error: str) -> None:
    before = await rest.get(APP)
    answer = await rest.send_json("PUT", APP, wanted)
    assert answer.status == 400
    assert error in json.loads(answer.body)["error"]
    assert await rest.get(APP) == before


@pytest.mark.parametrize(("who", "status"), [("developer", 403), ("stranger", 404), (None, 401)])
async def test_switches_are_for_maintainers(rest: Rest, who: str | None, status: int) -> None:
    answer = await rest.send_json("PUT", APP, {"container_registry_access_level": "disabled"}, who=who)
    assert answer.status == status
    assert (await rest.get(APP))["container_registry_access_level"] == "enabled"


@pytest.mark.parametrize("path", ["packages", "packages/", "packages/7"])
async def test_packages_are_elsewhere(rest: Rest, path: str) -> None:
    for method in ("GET", "DELETE"):
        answer = await rest.call(method, f"{APP}/{path}")
        assert answer.status == 404
        assert "/registry/repositories" in json.loads(answer.body)["message"]


async def test_no_request_counts_as_a_push(rest: Rest) -> None:
    def counted() -> list[str]:
        lines = rest.services.metrics.exposition().decode().splitlines()
        return [line for line in lines if line.startswith(("gateway_pushed_bytes_total", "gateway_pushes_total"))]

    before = counted()
    body = {"container_registry_access_level": "private"}
    assert (await rest.send_json("PUT", APP, body)).status == 200
    assert counted() == before != []
