"""Paths find their routes as they were sent: raw, without formats, redirects, or a meaning of the last slash."""

from typing import Any

import pytest
from starlette.responses import Response

from gateway.api.routing import Call, Route, RouteTable
from gateway.api.shapes import NoParameters


async def handler(call: Call[Any]) -> Response:
    raise AssertionError("no route is called here")


def route(pattern: str, method: str = "GET") -> Route[NoParameters]:
    return Route(method, pattern, handler, NoParameters, "thing")


TABLE = RouteTable(
    [
        route("/projects/{id}"),
        route("/projects/{id}/tags/{tag}"),
        route("/projects/{id}/tags/{tag}", "DELETE"),
        route("/projects/own/tags/{tag}"),
        route("/projects"),
    ]
)


@pytest.mark.parametrize(
    ("path", "taken"),
    [
        ("/projects", {}),
        ("/projects/", {}),
        ("/projects/7", {"id": "7"}),
        ("/projects/a%2Fb%2fc", {"id": "a/b/c"}),
        ("/projects/a%2Fb/", {"id": "a/b"}),
        ("/projects/7.json", {"id": "7.json"}),
        ("/projects/7/tags/v10.0.0", {"id": "7", "tag": "v10.0.0"}),
        ("/projects/7/tags/v1.json", {"id": "7", "tag": "v1.json"}),
        ("/projects/%C3%BC", {"id": "ü"}),
        ("/projects/a%252Fb", {"id": "a%2Fb"}),
        ("/projects/..", {"id": ".."}),
        ("/projects/%2e%2e", {"id": ".."}),
    ],
)
def test_a_raw_path_finds_its_route(path: str, taken: dict[str, str]) -> None:
    found = TABLE.find(f"/api/v4{path}".encode())
    assert found is not None
    assert found.path == taken


@pytest.mark.parametrize(
    "path",
    [
        "/api/v4",
        "/api/v4/",
        "/api/v4//projects",
        "/api/v4/projects//",
        "/api/v4/projects//tags/v1",
        "/api/v4/projects/a/b",
        "/api/v4/projects%2F7",
        "/api%2Fv4/projects",
        "/api/v3/projects",
        "/api/v4/Projects",
        "/api/v4/projects/%00",
        "/api/v4/projects/a%00b",
        "/api/v4/projects/%ff",
        "/api/v4/projects/" + "a" * 1025,
    ],
)
def test_any_other_path_finds_nothing(path: str) -> None:
    assert TABLE.find(path.encode()) is None


def test_a_word_goes_before_a_parameter() -> None:
    own, other = TABLE.find(b"/api/v4/projects/own/tags/x"), TABLE.find(b"/api/v4/projects/7/tags/x")
    assert own is not None and other is not None
    assert own.path == {"tag": "x"}
    assert set(other.routes) == {"GET", "DELETE"}


def test_a_method_is_routed_once() -> None:
    with pytest.raises(AssertionError, match="twice"):
        RouteTable([route("/projects"), route("/projects")])
