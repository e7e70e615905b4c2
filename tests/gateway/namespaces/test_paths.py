"""Paths of groups and names of upstreams, as tables."""

import pytest

from gateway.namespaces.errors import PathInvalid, UpstreamNameInvalid
from gateway.namespaces.paths import parse_group_path, parse_upstream_name


@pytest.mark.parametrize("path", ["ci", "a/b/c", "my-team/sub.group/x_y", "a/admin", "a/v2", "/".join("a" * 20)])
def test_a_path_of_registry_components_is_one_of_a_group(path: str) -> None:
    assert parse_group_path(path) == path


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("Team/Images", "group path 'Team/Images' has capitals, which registry names must not: use 'team/images'"),
        ("", "invalid group path: '' must be lower-case letters"),
        ("/a", "invalid group path: '/a' must be"),
        ("a//b", "invalid group path: 'a//b' must be"),
        ("-", "invalid group path: '-' must be"),
        ("a b", "invalid group path: 'a b' must be"),
        ("a\n", r"invalid group path: 'a\\n' must be"),
        ("a/" + "b" * 254, "invalid group path: a repository name has at most 255 characters, this one has 256"),
        ("/".join("a" * 21), "has 21 levels: use at most 20"),
        ("a/dependency_proxy", "'a/dependency_proxy' holds the reserved word 'dependency_proxy': use another name"),
        ("virtual_registries/a", "holds the reserved word 'virtual_registries': use another name"),
        ("admin/a", "group path 'admin/a' holds the reserved word 'admin': use another name"),
        ("v2", "group path 'v2' holds the reserved word 'v2': use another name"),
    ],
)
def test_another_path_is_refused_with_a_reason(path: str, reason: str) -> None:
    with pytest.raises(PathInvalid, match=reason):
        parse_group_path(path)


@pytest.mark.parametrize("name", ["docker.io", "localhost", "registry.example.com"])
def test_a_host_name_is_one_of_an_upstream(name: str) -> None:
    assert parse_upstream_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "hub", "Docker.io", "docker.io/x", "localhost:5000", "https://docker.io", "a_b.io"]
)
def test_another_name_of_an_upstream_is_refused(name: str) -> None:
    with pytest.raises(
        UpstreamNameInvalid, match="is not the name of an upstream: use a lower-case host name with a dot"
    ):
        parse_upstream_name(name)
