"""Protection rules at the surface: what a rule forbids is refused with the rule, from the next request on."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from cache.oci.errors import Denied
from cache.oci.names import RepositoryName, Tag
from gateway.auth.principal import Principal, PrincipalKind
from gateway.db import projects, protections
from gateway.namespaces.credentials import DeployToken, Scope
from gateway.namespaces.protection import ProtectionKind, ProtectionLevel
from tests.gateway.asgi import Exchange
from tests.gateway.v2.pushing import NOW, PushSurface, image, open_surface
from tests.parts.images import digest_of

MAINTAINER, OWNER, ADMIN = ProtectionLevel

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PushSurface]:
    async with open_surface(tmp_path_factory.mktemp("protection") / "data") as surface:
        yield surface


@pytest_asyncio.fixture(loop_scope="module")
async def surface(opened: PushSurface) -> AsyncIterator[PushSurface]:
    """The surface, whose rules go with the test."""
    yield opened
    database = opened.services.native.uploads.native.database
    async with database.write() as connection:
        project = await projects.get(connection, "team/app")
        for rule in await protections.list_of(connection, project.id):
            await protections.delete(connection, project, rule.id)


async def protect(
    surface: PushSurface,
    kind: ProtectionKind,
    pattern: str,
    push: ProtectionLevel | None = None,
    delete: ProtectionLevel | None = None,
) -> int:
    async with surface.services.native.uploads.native.database.write() as connection:
        project = await projects.get(connection, "team/app")
        return (await protections.create(connection, project, kind, pattern, NOW, push=push, delete=delete)).id


async def pushed(surface: PushSurface, name: str, text: str) -> bytes:
    """An image whose blobs have been pushed, and which itself has not."""
    config = await surface.push_blob(name, f"config of {text}".encode())
    return image(config, await surface.push_blob(name, f"layer of {text}".encode()))


def denied(refused: Exchange) -> str:
    """The message of a refusal."""
    assert (refused.status, refused.error["code"]) == (403, "DENIED")
    return str(refused.error["message"])


async def test_a_protected_repository_takes_neither_blobs_nor_manifests(surface: PushSurface) -> None:
    name = "team/app/web"
    raw = await pushed(surface, name, "web")
    assert (await surface.put_manifest(name, "v1", raw)).status == 201
    number = await protect(surface, ProtectionKind.REPOSITORY, "/w*", push=OWNER)
    reason = f"repository {name} is protected by repository rule {number} ('/w*'): owners and above may push to it"
    listed = surface.person("maintainer", {name: "pull,push"})
    for refused in (
        await surface.call("POST", f"{name}/blobs/uploads/", who=listed),
        await surface.put_manifest(name, "v2", raw, who=listed),
        await surface.put_manifest(name, digest_of(raw), raw),
    ):
        assert reason in denied(refused)
    assert (await surface.call("GET", f"{name}/manifests/v1")).status == 200
    assert (await surface.put_manifest(name, "v2", raw, who="root")).status == 201
    assert (await surface.call("POST", "team/app/other/blobs/uploads/")).status == 202


async def test_a_deploy_token_never_pushes_to_what_is_protected(surface: PushSurface) -> None:
    name = "team/app/deployed"
    project = await surface.services.directory.find_project_place("team/app")
    assert project is not None
    token = DeployToken(1, project.project.key, "ci", "ci", frozenset({Scope.WRITE_REGISTRY}), NOW)
    deployer = Principal(PrincipalKind.DEPLOY_TOKEN, "ci", None, token, token.ref)
    assert (await surface.call("POST", f"{name}/blobs/uploads/", who=deployer)).status == 202
    await protect(surface, ProtectionKind.REPOSITORY, "/deployed", push=MAINTAINER)
    assert "is protected by repository rule" in denied(
        await surface.call("POST", f"{name}/blobs/uploads/", who=deployer)
    )


async def test_a_protected_tag_is_pushed_and_deleted_by_whoever_has_the_level(surface: PushSurface) -> None:
    name = "team/app/tagged"
    raw = await pushed(surface, name, "tagged")
    number = await protect(surface, ProtectionKind.TAG, "v.*", push=MAINTAINER, delete=ADMIN)
    refused = await surface.put_manifest(name, "v1", raw, who="developer")
    assert f"tag v1 is protected by tag rule {number} ('v.*'): maintainers and above may push it" in denied(refused)
    also = await surface.put_manifest(name, f"{digest_of(raw)}?tag=x&tag=v1", raw, who="developer")
    assert "tag v1 is protected" in denied(also)
    assert (await surface.call("GET", f"{name}/manifests/x")).status == 404
    assert (await surface.put_manifest(name, "x", raw, who="developer")).status == 201
    assert (await surface.put_manifest(name, "v1", raw)).status == 201
    for path in (f"{name}/manifests/v1", f"{name}/tags/reference/v1", f"{name}/manifests/{digest_of(raw)}"):
        refused = await surface.call("DELETE", path)
        assert f"tag v1 is protected by tag rule {number} ('v.*'): administrators may delete it" in denied(refused)
    assert (await surface.call("DELETE", f"{name}/manifests/x")).status == 202
    assert (await surface.call("DELETE", f"{name}/manifests/{digest_of(raw)}", who="root")).status == 202


async def test_an_immutable_tag_stays_where_it_was_created(surface: PushSurface) -> None:
    name = "team/app/fixed"
    await protect(surface, ProtectionKind.IMMUTABLE, "v.*")
    first, second = await pushed(surface, name, "first"), await pushed(surface, name, "second")
    assert (await surface.put_manifest(name, "v1", first)).status == 201
    assert (await surface.put_manifest(name, "v1", first)).status == 201
    for who in ("maintainer", "root"):
        refused = await surface.put_manifest(name, "v1", second, who=who)
        assert f"it stays at {digest_of(first)}" in denied(refused)
        also = await surface.put_manifest(name, f"{digest_of(second)}?tag=new&tag=v1", second, who=who)
        assert "tag v1 is immutable by immutable rule" in denied(also)
        for path in (f"{name}/manifests/v1", f"{name}/manifests/{digest_of(first)}"):
            assert "nobody may delete it" in denied(await surface.call("DELETE", path, who=who))
    assert (await surface.call("GET", f"{name}/manifests/new")).status == 404
    assert (await surface.call("GET", f"{name}/manifests/v1")).body == first


async def test_a_repository_that_is_opened_without_a_decision_takes_the_rules_for_everybody(
    surface: PushSurface,
) -> None:
    name = "team/app/undecided"
    raw = await pushed(surface, name, "undecided")
    await surface.put_manifest(name, "v1", raw)
    await protect(surface, ProtectionKind.TAG, "v.*", push=MAINTAINER, delete=MAINTAINER)
    place = await surface.services.directory.find_project_place("team/app")
    assert place is not None
    repository = surface.services.native.repository(place.project, RepositoryName(name))
    with pytest.raises(Denied):
        await repository.delete_tag(Tag("v1"))
