"""Names of native repositories: where a push leads, and what is told where it leads nowhere."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from cache.oci.names import RepositoryName
from gateway.auth.matrix import Action
from gateway.auth.principal import ANONYMOUS, Principal, PrincipalKind
from gateway.namespaces.credentials import PersonalToken, Scope
from gateway.v2.opener import RegistryOptions, RepositoryOpener
from tests.gateway.v2.pushing import NOW, PushSurface, open_surface

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def surface(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PushSurface]:
    async with open_surface(tmp_path_factory.mktemp("names") / "data") as surface:
        yield surface


@pytest.mark.parametrize("below", ["", "/a", "/a/b", "/a/b/c"])
async def test_a_repository_has_the_path_of_its_project_or_three_components_more(
    surface: PushSurface, below: str
) -> None:
    name = f"team/app{below}"
    await surface.push_image(name, "latest")
    assert (await surface.call("GET", f"{name}/manifests/latest")).status == 200


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "blobs/uploads/"), ("GET", "tags/list"), ("HEAD", "manifests/x")]
)
async def test_a_name_that_lies_deeper_is_told_what_would_be_valid(
    surface: PushSurface, method: str, path: str
) -> None:
    refused = await surface.call(method, f"team/app/a/b/c/d/{path}", who="developer")
    assert refused.status == 404
    if method != "HEAD":
        assert refused.error["code"] == "NAME_UNKNOWN"
        assert "lies 4 components below project 'team/app'" in refused.error["message"]
        assert "such as team/app/a/b/c" in refused.error["message"]
    hidden = await surface.call(method, f"closed/secret/a/b/c/d/{path}", who="developer")
    assert hidden.status == 404
    assert method == "HEAD" or "not a repository of this server" in hidden.error["message"]


async def test_a_push_to_a_group_is_told_to_name_a_project(surface: PushSurface) -> None:
    refused = await surface.call("POST", "team/sub/blobs/uploads/", who="developer")
    assert (refused.status, refused.error["code"]) == (404, "NAME_UNKNOWN")
    assert refused.error["message"] == (
        "team/sub is a group, and images lie in projects: push to team/sub/PROJECT or below it"
    )


@pytest.mark.parametrize("name", ["team/new", "team/new/image", "team/sub/new/image"])
async def test_a_push_without_a_project_is_told_which_one_is_missing(surface: PushSurface, name: str) -> None:
    project = name.removesuffix("/image")
    refused = await surface.call("POST", f"{name}/blobs/uploads/", who="developer")
    assert (refused.status, refused.error["code"]) == (404, "NAME_UNKNOWN")
    assert f"there is no project {project!r}" in refused.error["message"]
    assert f"create it on the server (project create {project})" in refused.error["message"]


@pytest.mark.parametrize("name", ["closed/app/image", "absent/ap/image"])
async def test_who_knows_no_group_on_the_way_is_told_of_none(surface: PushSurface, name: str) -> None:
    refused = await surface.call("POST", f"{name}/blobs/uploads/", who="developer")
    assert f"{name} is not a repository of this server, or not for everybody" in refused.error["message"]


async def test_a_hidden_project_and_an_absent_one_look_the_same_below_a_group_that_one_may_know(
    surface: PushSurface,
) -> None:
    from gateway.cli.folder import open_made
    from gateway.db import projects
    from gateway.settings.tables import Settings

    settings = Settings.model_validate({"data": str(surface.services.folder.data)})
    async with open_made(settings) as database, database.write() as connection:
        await projects.create(connection, "open/hidden", NOW)
    hidden = await surface.call("POST", "open/hidden/image/blobs/uploads/", who="stranger")
    absent = await surface.call("POST", "open/absent/image/blobs/uploads/", who="stranger")
    assert hidden.status == absent.status == 404
    assert hidden.body.replace(b"open/hidden", b"open/absent") == absent.body
    assert b"there is no project 'open/absent', or not for everybody" in absent.body


async def test_a_push_creates_the_project_that_it_lacks_where_settings_allow_it(surface: PushSurface) -> None:
    options = {"who": "developer", "create_on_push": True}
    await surface.push_blob("team/made/image", b"first", **options)
    place = await surface.services.directory.find_project_place("team/made")
    assert place is not None
    assert place.project.created_by == surface.people["developer"].id
    assert (await surface.call("GET", "team/made/image/tags/list", who="reporter")).status == 200
    await surface.push_blob("developer/own/image", b"first", **options)
    assert await surface.services.directory.find_project_place("developer/own") is not None


def limited(surface: PushSurface, scope: Scope) -> Principal:
    token = PersonalToken(1, surface.people["developer"].id, "t", frozenset({scope}), NOW)
    return replace(surface.person("developer"), kind=PrincipalKind.PERSONAL_TOKEN, credential=token, ref=token.ref)


async def test_a_push_creates_no_project_for_who_may_not(surface: PushSurface) -> None:
    path = "team/unmade/image/blobs/uploads/"
    for who in ("reporter", "stranger", "newcomer", limited(surface, Scope.READ_REGISTRY)):
        assert (await surface.call("POST", path, who=who, create_on_push=True)).status == 404
    narrow = surface.person("developer", {"team/app": "pull,push"})
    assert (await surface.call("POST", path, who=narrow, create_on_push=True)).status == 404
    assert (await surface.call("POST", path, who=ANONYMOUS, create_on_push=True)).status == 401
    assert (await surface.call("POST", path, who="developer")).status == 404
    assert (
        await surface.call("GET", "team/unmade/image/tags/list", who="developer", create_on_push=True)
    ).status == 404
    assert await surface.services.directory.find_project_place("team/unmade") is None


@pytest.mark.parametrize(
    ("name", "says"), [("team/deep/a/b/c/d", "lies 4 components"), ("team/edit/a", "reserved word")]
)
async def test_a_push_creates_no_project_for_a_name_that_none_may_have(
    surface: PushSurface, name: str, says: str
) -> None:
    refused = await surface.call("POST", f"{name}/blobs/uploads/", who="developer", create_on_push=True)
    assert (refused.status, refused.error["code"]) == (404, "NAME_UNKNOWN")
    assert says in refused.error["message"]
    assert await surface.services.directory.find_project_place("/".join(name.split("/")[:2])) is None


async def test_a_token_for_a_project_that_a_push_creates_is_granted(surface: PushSurface) -> None:
    name = RepositoryName("team/later/image")
    for create_on_push, granted in ((True, {Action.PULL, Action.PUSH}), (False, None)):
        opener = RepositoryOpener(surface.services, RegistryOptions(True, create_on_push))
        every = await opener.permitted({name: list(Action)[:3]}, surface.person("developer"), None)
        found = every.get(name)
        assert (found and set(found.actions)) == granted
    assert await surface.services.directory.find_project_place("team/later") is None
