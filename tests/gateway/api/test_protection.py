"""Protection rules by the REST API: what a rule forbids is refused with the rule, one by one and in bulk."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.db import projects, protections
from gateway.namespaces.protection import ProtectionKind, ProtectionLevel
from tests.gateway.api.rest import REPOSITORIES, Rest, open_rest

NAME = "team/app/web"


@pytest.fixture
async def rest(tmp_path: Path) -> AsyncIterator[Rest]:
    async with open_rest(tmp_path / "data") as rest:
        await rest.surface.push_image(NAME, "v1", "v2", "dev")
        yield rest


async def protect(rest: Rest, kind: ProtectionKind, pattern: str, level: ProtectionLevel | None) -> None:
    async with rest.database() as database, database.write() as connection:
        project = await projects.get(connection, "team/app")
        now = rest.services.clock()
        await protections.create(connection, project, kind, pattern, now, push=level, delete=level)


async def path_of(rest: Rest) -> str:
    return f"/projects/team%2Fapp{REPOSITORIES}/{await rest.id_of(NAME)}"


async def test_a_protected_tag_is_deleted_by_its_level_alone(rest: Rest) -> None:
    path = await path_of(rest)
    await protect(rest, ProtectionKind.TAG, "v.*", ProtectionLevel.MAINTAINER)
    refused = await rest.call("DELETE", f"{path}/tags/v1", who="developer")
    assert refused.status == 403 and "is protected by tag rule" in json.loads(refused.body)["message"]
    assert (await rest.call("DELETE", f"{path}/tags/dev", who="developer")).status == 200
    assert (await rest.call("DELETE", f"{path}/tags/v1", who="maintainer")).status == 200
    restored = await rest.call("POST", f"{path}/tags/v1/restore", who="developer")
    assert restored.status == 403
    assert (await rest.call("POST", f"{path}/tags/v1/restore", who="maintainer")).status == 200


async def test_a_protected_repository_is_deleted_by_its_level_alone(rest: Rest) -> None:
    path = await path_of(rest)
    await protect(rest, ProtectionKind.REPOSITORY, "/web", ProtectionLevel.ADMIN)
    refused = await rest.call("DELETE", path, who="maintainer")
    assert refused.status == 403 and "is protected by repository rule" in json.loads(refused.body)["message"]
    assert (await rest.call("DELETE", path, who="root")).status == 202


async def test_a_repository_with_an_immutable_tag_stays(rest: Rest) -> None:
    path = await path_of(rest)
    await protect(rest, ProtectionKind.IMMUTABLE, "v1", None)
    for target in (path, f"{path}/tags/v1"):
        assert (await rest.call("DELETE", target, who="root")).status == 403


async def test_protected_tags_stay_where_others_are_deleted_in_bulk(rest: Rest) -> None:
    path, wanted = f"{await path_of(rest)}/tags", {"name_regex_delete": ".*"}
    await protect(rest, ProtectionKind.TAG, "v1", ProtectionLevel.MAINTAINER)
    shown = json.loads((await rest.call("DELETE", path, dry_run="true", **wanted)).body)
    assert {tag["name"]: tag["verdict"] for tag in shown["tags"]} == {
        "v1": "protected",
        "v2": "deleted",
        "dev": "deleted",
    }
    assert [tag["rule"] for tag in shown["tags"] if tag["name"] == "v1"] == ["tag rule 1 ('v1')"]
    assert (await rest.call("DELETE", path, **wanted)).status == 202
    await protect(rest, ProtectionKind.IMMUTABLE, "v2", None)
    while await rest.services.native.bulk.step(lambda run, deleted: None):
        pass
    assert [tag["name"] for tag in await rest.get(path)] == ["v1", "v2"]


@pytest.mark.parametrize(
    ("project", "kind", "pattern", "level"),
    [
        ("team/app", ProtectionKind.REPOSITORY, "/web", ProtectionLevel.ADMIN),
        ("team/app", ProtectionKind.TAG, "v1", ProtectionLevel.ADMIN),
        ("team/app", ProtectionKind.IMMUTABLE, "v1", None),
        ("team/lib", ProtectionKind.REPOSITORY, "/w*", ProtectionLevel.ADMIN),
        ("team/lib", ProtectionKind.TAG, "v2", ProtectionLevel.ADMIN),
    ],
)
async def test_a_move_asks_the_rules_of_both_projects(
    rest: Rest, project: str, kind: ProtectionKind, pattern: str, level: ProtectionLevel | None
) -> None:
    path = await path_of(rest)
    async with rest.database() as database, database.write() as connection:
        protected, now = await projects.get(connection, project), rest.services.clock()
        await protections.create(connection, protected, kind, pattern, now, push=level, delete=level)
    refused = await rest.send_json("PUT", path, {"path": "team/lib/web"}, who="maintainer")
    assert refused.status == 403 and f"by {kind} rule 1" in json.loads(refused.body)["message"]
    assert await rest.id_of(NAME)
    if kind is not ProtectionKind.IMMUTABLE:
        assert (await rest.send_json("PUT", path, {"path": "team/lib/web"}, who="root")).status == 200


async def test_a_rename_gives_no_way_around_immutable_tags(rest: Rest) -> None:
    await protect(rest, ProtectionKind.IMMUTABLE, "v1", None)
    refused = await rest.send_json("PUT", await path_of(rest), {"name": "aside"}, who="root")
    assert refused.status == 403 and "nobody may delete it" in json.loads(refused.body)["message"]


async def test_a_tag_is_restored_by_those_alone_who_may_push_to_its_repository(rest: Rest) -> None:
    await rest.surface.push_image(NAME, "v1", text="another")
    path = await path_of(rest)
    await protect(rest, ProtectionKind.REPOSITORY, "", ProtectionLevel.OWNER)  # the one at the project's own path
    assert (await rest.call("POST", f"{path}/tags/v1/restore", who="developer")).status == 200
    await protect(rest, ProtectionKind.REPOSITORY, "/w*", ProtectionLevel.MAINTAINER)
    refused = await rest.call("POST", f"{path}/tags/v1/restore", who="developer")
    assert refused.status == 403 and "repository team/app/web is protected" in json.loads(refused.body)["message"]
    assert (await rest.call("POST", f"{path}/tags/v1/restore", who="maintainer")).status == 200
