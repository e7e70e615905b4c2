"""The list of a group holds exactly the repositories of those projects that its reader may pull from, by one query."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
import pytest_asyncio

from gateway.db import groups, moves, projects
from gateway.namespaces.role import Role
from tests.gateway.api.rest import REPOSITORIES, Rest, open_rest
from tests.security.tree import Planter

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLACE = "acme/team"
PEOPLE = {
    "no-member": (None, None),
    "admin": (None, None),
    "outsider": (None, None),
    **{f"{where}-{role.word}": (where, role) for where in ("top", "team", "own") for role in Role},
    "outside-guest": ("own", Role.GUEST),
    "outside-reporter": ("own", Role.REPORTER),
    "lapsed": ("team", Role.OWNER),
    "lowered": ("team", Role.REPORTER),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rest(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rest]:
    async with open_rest(tmp_path_factory.mktemp("rest") / "data") as rest:
        async with rest.database() as database, database.write() as connection:
            planter = Planter(connection)
            top = await planter.group("acme", "public")
            team = await planter.group(PLACE, "public")
            nine = await planter.nine_projects(PLACE)
            beside = await planter.nine_projects("acme")
            for name, (where, role) in PEOPLE.items():
                user = await planter.user(f"p-{name}", admin=name == "admin", external=name.startswith("outside"))
                rest.surface.people[name] = user
                ends = planter.now if name == "lapsed" else None
                if role is not None and where in ("top", "team"):
                    await planter.member((top if where == "top" else team).key, user, role, ends)
                if role is not None and where == "own":
                    for project in nine.projects.values():
                        await planter.member(project.key, user, role)
            lowered = rest.surface.people["lowered"]
            for project in beside.projects.values():
                await planter.member(project.key, lowered, Role.GUEST)
        rest.tokens.update({name: await rest.token(name, "api") for name in PEOPLE})
        yield rest


async def one_by_one(rest: Rest, who: str | None, group: str) -> list[str]:
    """The repositories of the projects below a group, each of which is asked about alone."""
    found = []
    async with rest.database() as database, database.read() as connection:
        for project in await projects.list_all(connection, group):
            answer = await rest.call("GET", f"/projects/{project.id}{REPOSITORIES}", who=who)
            if answer.status == 200:
                found.append(f"{project.path}/app")
    return sorted(found)


@pytest.mark.parametrize("who", [None, *PEOPLE])
@pytest.mark.parametrize("group", ["acme", PLACE])
async def test_the_list_of_a_group_is_what_its_projects_show_alone(rest: Rest, who: str | None, group: str) -> None:
    listed = await rest.get(f"/groups/{group.replace('/', '%2F')}{REPOSITORIES}", who=who, per_page=100)
    assert [entry["path"] for entry in listed] == await one_by_one(rest, who, group)
    total = await rest.call("GET", f"/groups/{group.replace('/', '%2F')}{REPOSITORIES}", who=who, per_page=1)
    assert total.headers["x-total"] == str(len(listed))


async def test_a_member_of_one_project_knows_its_private_group_and_sees_that_project_alone(rest: Rest) -> None:
    async with rest.database() as database, database.write() as connection:
        planter = Planter(connection)
        closed = await planter.group("hidden")
        await planter.group("hidden/deeper")
        one = await planter.project("hidden/deeper/one")
        other = await planter.project("hidden/other")
        for name, project in (("hidden/deeper/one/a", one), ("hidden/other/b", other)):
            await planter.repository(name, project)
        for name, role in (("one-reporter", Role.REPORTER), ("one-guest", Role.GUEST)):
            rest.surface.people[name] = await planter.user(f"p-{name}")
            await planter.member(one.key, rest.surface.people[name], role)
    reporter = [("PRIVATE-TOKEN", await rest.token("one-reporter", "read_api"))]
    guest = [("PRIVATE-TOKEN", await rest.token("one-guest", "read_api"))]
    for group in ("hidden", str(closed.id), "hidden%2Fdeeper"):
        listed = await rest.get(f"/groups/{group}{REPOSITORIES}", who=None, headers=reporter)
        assert [entry["path"] for entry in listed] == ["hidden/deeper/one/a"]
        assert await rest.get(f"/groups/{group}{REPOSITORIES}", 404, who=None, headers=guest)
        assert await rest.get(f"/groups/{group}{REPOSITORIES}", 404, who="no-member")
    assert (await rest.get("/groups/hidden", who=None, headers=reporter))["full_path"] == "hidden"


async def test_an_old_path_of_a_group_leads_to_it(rest: Rest) -> None:
    async with rest.database() as database, database.write() as connection:
        planter = Planter(connection)
        await planter.group("former")
        await planter.repository("former/app/a", await planter.project("former/app"))
        group = await groups.get(connection, "former")
        await groups.update(connection, replace(group, proxy_enabled=False))
        await moves.move_group(connection, "former", "present", planter.now, timedelta(days=1))
    for path in ("former", "present"):
        listed = await rest.get(f"/groups/{path}{REPOSITORIES}", who="admin")
        assert [entry["path"] for entry in listed] == ["present/app/a"]
        assert await rest.get(f"/groups/{path}{REPOSITORIES}", 404, who="no-member")
    shown = await rest.get("/projects/former%2Fapp", who="admin")
    assert shown["path_with_namespace"] == "present/app"
    refused = await rest.send_json("PUT", "/projects/former%2Fapp", {"visibility": "private"}, who="admin")
    assert refused.status == 403 and b"has moved to present" in refused.body
