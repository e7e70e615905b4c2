"""The description of the API is what the server serves: routes, their parameters, and the documents that it sends."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from jsonschema import Draft202012Validator

from gateway.api.app import route_table
from gateway.api.openapi import describe
from gateway.api.options import ApiOptions
from gateway.api.routing import Route
from gateway.api.schemas import is_described
from gateway.api.shapes import PageShape
from tests.gateway.api.rest import REPOSITORIES, URL, Rest, open_rest

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAME = "team/app/web"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rest(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rest]:
    async with open_rest(tmp_path_factory.mktemp("rest") / "data") as rest:
        await rest.surface.push_image(NAME, "v1", "v2")
        await rest.surface.cache_manifest("library/held", "1")
        await rest.surface.call("GET", "hub/dependency_proxy/containers/held/manifests/1", who="reporter")
        rest.services.group_usage.flush()
        yield rest


def routes_of(rest: Rest) -> tuple[Route[Any], ...]:
    return route_table(rest.services, ApiOptions(URL, "", None)).routes  # type: ignore[arg-type]


async def test_it_is_served_to_everybody(rest: Rest) -> None:
    document = await rest.get("/openapi.json", who=None)
    assert document["openapi"].startswith("3.1") and document["servers"] == [{"url": f"{URL}/api/v4"}]


async def test_every_route_is_described_with_its_parameters(rest: Rest) -> None:
    document, routes = await rest.get("/openapi.json", who=None), routes_of(rest)
    described = {(method.upper(), path) for path, every in document["paths"].items() for method in every}
    assert described == {(route.method, route.pattern) for route in routes}
    names = [operation["operationId"] for every in document["paths"].values() for operation in every.values()]
    assert len(names) == len(set(names))
    for route in routes:
        operation = document["paths"][route.pattern][route.method.lower()]
        assert operation["summary"].endswith("."), route
        in_path = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
        assert in_path == set(route.names)
        if "requestBody" in operation:
            [first, second] = operation["requestBody"]["content"].values()
            assert first == second
            given = set(first["schema"]["properties"])
        else:
            given = {each["name"] for each in operation["parameters"] if each["in"] == "query"}
        assert given == {field.alias or name for name, field in route.shape.model_fields.items()}
        assert ({} in operation["security"]) is route.anonymous
        assert ({"jobToken": []} in operation["security"]) is route.jobs


async def test_every_list_says_its_headers_and_every_parameter_what_it_is(rest: Rest) -> None:
    for route in routes_of(rest):
        if issubclass(route.shape, PageShape):
            [operation] = describe([route], ApiOptions(URL, "", None))["paths"][route.pattern].values()  # type: ignore[arg-type,index]
            assert "Link" in operation["responses"]["200"]["headers"]
        assert all(name == "" or is_described(name) for name in (route.answer, route.preview)), route


async def test_references_lead_to_schemas(rest: Rest) -> None:
    document = await rest.get("/openapi.json", who=None)
    text = json.dumps(document)
    for reference in {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        schema = document["components"]["schemas"][reference]
        Draft202012Validator.check_schema(schema)


async def documents(rest: Rest) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """A request for each operation that reads or changes something, by its pattern."""
    id, project = await rest.id_of(NAME), "/projects/team%2Fapp"
    one, whole = f"{project}{REPOSITORIES}/{id}", {"tags": "true", "tags_count": "true", "size": "true"}
    tag = f"{one}/tags/v1"
    return {
        "/projects/{id}": ("GET", project, {}),
        "/groups/{id}": ("GET", "/groups/team", {}),
        "/groups/{id}/dependency_proxy": ("GET", "/groups/hub/dependency_proxy", {"who": "root"}),
        "/groups/{id}/dependency_proxy/image_ttl_policy": (
            "GET",
            "/groups/hub/dependency_proxy/image_ttl_policy",
            {"who": "root"},
        ),
        "/groups/{id}/dependency_proxy/cache": ("GET", "/groups/hub/dependency_proxy/cache", {"who": "root"}),
        "/groups/{id}/dependency_proxy/images": ("GET", "/groups/hub/dependency_proxy/images", {}),
        "/groups/{id}/dependency_proxy/images/{image}": ("GET", "/groups/hub/dependency_proxy/images/held:1", {}),
        "/groups/{id}/dependency_proxy/savings": ("GET", "/groups/hub/dependency_proxy/savings", {}),
        "/user": ("GET", "/user", {"who": "root"}),
        "/version": ("GET", "/version", {}),
        "/metadata": ("GET", "/metadata", {}),
        f"/projects/{{id}}{REPOSITORIES}": ("GET", f"{project}{REPOSITORIES}", whole),
        f"/groups/{{id}}{REPOSITORIES}": ("GET", f"/groups/team{REPOSITORIES}", {"who": "reporter"}),
        f"{REPOSITORIES}/{{id}}": ("GET", f"{REPOSITORIES}/{id}", whole),
        f"/projects/{{id}}{REPOSITORIES}/{{repository_id}}/tags": ("GET", f"{one}/tags", {}),
        f"/projects/{{id}}{REPOSITORIES}/{{repository_id}}/tags/{{tag_name}}": ("GET", tag, {}),
        f"/projects/{{id}}{REPOSITORIES}/{{repository_id}}/tags/{{tag_name}}/history": ("GET", f"{tag}/history", {}),
        "/projects": ("GET", "/projects", {}),
        "/groups": ("GET", "/groups", {}),
        "/namespaces": ("GET", "/namespaces", {}),
        "/groups/{id}/members": ("GET", "/groups/team/members", {}),
        "/users": ("GET", "/users", {}),
        "/users/{id}": ("GET", f"/users/{rest.surface.people['developer'].id}", {"who": "root"}),
        "/personal_access_tokens": ("GET", "/personal_access_tokens", {}),
        "/personal_access_tokens/self": ("GET", "/personal_access_tokens/self", {}),
    }


async def check(rest: Rest, pattern: str, method: str, path: str, options: dict[str, Any]) -> None:
    """Compare a response of success, and a refusal, with their descriptions."""
    document = await rest.get("/openapi.json", who=None)
    operation = document["paths"][pattern][method.lower()]
    answer = await rest.call(method, path, **options)
    described = operation["responses"][str(answer.status)]["content"]["application/json"]["schema"]
    schema = {**described, "components": document["components"]}
    body = json.loads(answer.body)
    assert body, path
    Draft202012Validator(schema).validate(body)


async def test_documents_are_those_that_are_described(rest: Rest) -> None:
    for pattern, (method, path, options) in (await documents(rest)).items():
        await check(rest, pattern, method, path, options)
        await check(rest, pattern, method, path, {"who": None, "headers": [("PRIVATE-TOKEN", "wrong")]})


async def test_documents_of_tokens_are_those_that_are_described(rest: Rest) -> None:
    new, root = {"scopes": "read_registry", "name": "new", "expires_at": "2099-01-01"}, {"who": "root"}
    soon = {"expires_at": "", "access_level": 20}
    for place, pattern in (("/projects/team%2Fapp", "/projects/{id}"), ("/groups/team", "/groups/{id}")):
        await check(rest, f"{pattern}/deploy_tokens", "POST", f"{place}/deploy_tokens", {**new, **root})
        await check(rest, f"{pattern}/deploy_tokens", "GET", f"{place}/deploy_tokens", root)
        await check(rest, f"{pattern}/access_tokens", "POST", f"{place}/access_tokens", {**new, **root, **soon})
        await check(rest, f"{pattern}/access_tokens", "GET", f"{place}/access_tokens", root)
        [made] = await rest.get(f"{place}/access_tokens", who="root")
        one = f"{place}/access_tokens/{made['id']}/rotate"
        await check(rest, f"{pattern}/access_tokens/{{token_id}}/rotate", "POST", one, root)
    await check(rest, "/deploy_tokens", "GET", "/deploy_tokens", root)
    user, pattern = {"username": "new", "force_random_password": "true"}, "/users/{id}/personal_access_tokens"
    await check(rest, "/users", "POST", "/users", {**user, **root})
    path = f"/users/{rest.surface.people['newcomer'].id}/personal_access_tokens"
    await check(rest, pattern, "POST", path, {"name": "new", "scopes": "api", **root})
    [*_, last] = await rest.get("/personal_access_tokens", who="newcomer")
    one = f"/personal_access_tokens/{last['id']}"
    await check(rest, "/personal_access_tokens/{id}/rotate", "POST", f"{one}/rotate", {"who": "newcomer"})


async def test_documents_of_changes_are_those_that_are_described(rest: Rest) -> None:
    name, project = "team/app/changed", "/projects/team%2Fapp"
    await rest.surface.push_image(name, "v1")
    one, pattern = (
        f"{project}{REPOSITORIES}/{await rest.id_of(name)}",
        f"/projects/{{id}}{REPOSITORIES}/{{repository_id}}",
    )
    await check(rest, f"{pattern}/tags", "DELETE", f"{one}/tags", {"name_regex_delete": ".*", "dry_run": "true"})
    await check(rest, f"{pattern}/tags", "DELETE", f"{one}/tags", {})
    await check(rest, pattern, "PUT", one, {"name": "renamed"})
    await check(rest, pattern, "PUT", one, {"name": "renamed"})
    await rest.call("DELETE", f"{one}/tags/v1")
    await check(rest, f"{pattern}/tags/{{tag_name}}/restore", "POST", f"{one}/tags/v1/restore", {})
    await rest.call("DELETE", one)
    deleted = "/projects/{id}/registry/deleted_repositories"
    await check(rest, deleted, "GET", f"{project}/registry/deleted_repositories", {})
    await check(rest, f"{REPOSITORIES}/{{id}}", "GET", f"{REPOSITORIES}/{one.rpartition('/')[2]}", {})
    await check(rest, f"{pattern}/restore", "POST", f"{one}/restore", {})
    await check(rest, "/projects/{id}", "PUT", project, {"visibility": "private"})
    held = "/groups/hub/dependency_proxy/images/held"
    await check(rest, "/groups/{id}/dependency_proxy/images/{image}", "DELETE", held, {"who": "root"})
    await check(rest, "/groups/{id}/dependency_proxy/cache", "DELETE", "/groups/hub/dependency_proxy/cache", {})
