"""Paths of nodes and names of upstreams, as tables."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.oci.names import RepositoryName
from gateway.namespaces.errors import PathInvalid, UpstreamNameInvalid
from gateway.namespaces.paths import (
    find_host_warning,
    parse_group_path,
    parse_project_path,
    parse_upstream_name,
    parse_user_name,
)

DEEPEST = "/".join("a" * 20)


@pytest.mark.parametrize(
    "path",
    ["ci", "a/b/c", "my-team/sub.group/x_y", "a/admin", "a/v2", "edit", "a--b/c", "a__b/c/d", "search/a", DEEPEST],
)
def test_a_path_of_registry_components_is_one_of_a_group(path: str) -> None:
    assert parse_group_path(path) == path


@pytest.mark.parametrize("path", ["a/b", "alice/my.project", "a/search", f"{DEEPEST}/a"])
def test_a_path_of_two_components_or_more_is_one_of_a_project(path: str) -> None:
    assert parse_project_path(path) == path


@pytest.mark.parametrize("name", ["alice", "alice.smith", "a-b_c.d", "7"])
def test_a_single_component_is_the_name_of_a_user(name: str) -> None:
    assert parse_user_name(name) == name


UNFIT = "group path {!r} is not fit for image names, because {}: use a path such as {!r}"
GRAMMAR = "use lower-case letters and digits, with single signs . _ - between them"


@pytest.mark.parametrize(
    ("path", "reason", "mended"),
    [
        ("Team/Images", "'Team' has the capital 'T'", "team/images"),
        ("_group", "'_group' begins with '_'", "group"),
        ("a/-b", "'-b' begins with '-'", "a/b"),
        (".a", "'.a' begins with '.'", "a"),
        ("project-", "'project-' ends with '-'", "project"),
        ("a_/b", "'a_' ends with '_'", "a/b"),
        ("a.", "'a.' ends with '.'", "a"),
        ("a--b", "'a--b' has '--', where a single sign may stand", "a-b"),
        ("a__b", "'a__b' has '__', where a single sign may stand", "a_b"),
        ("x__y/a._b", "'a._b' has '._', where a single sign may stand", "x__y/a.b"),
        ("a..b/c", "'a..b' has '..', where a single sign may stand", "a.b/c"),
        ("a b", "'a b' has the character ' '", "a-b"),
        ("a\n", "'a\\n' has the character '\\n'", "a"),
        ("a:5000/b", "'a:5000' has the character ':'", "a-5000/b"),
        ("Grüße", "'Grüße' has the capital 'G'", "grusse"),
        ("/a", "a component is empty", "a"),
        ("a//b", "a component is empty", "a/b"),
        ("a/", "a component is empty", "a"),
        ("V2", "'V2' has the capital 'V'", "v2-group"),
    ],
)
def test_a_path_unfit_for_image_names_is_refused_with_the_sign_and_another_path(
    path: str, reason: str, mended: str
) -> None:
    with pytest.raises(PathInvalid) as refusal:
        parse_group_path(path)
    assert str(refusal.value) == UNFIT.format(path, reason, mended)
    assert parse_group_path(mended) == mended


@pytest.mark.parametrize(
    ("parse", "path", "reason"),
    [
        (parse_group_path, "", f"group path '' is not fit for image names, because a component is empty: {GRAMMAR}"),
        (parse_group_path, "-", f"group path '-' is not fit for image names, because '-' begins with '-': {GRAMMAR}"),
        (parse_group_path, "文", f"'文' has the character '文': {GRAMMAR}"),
        (parse_group_path, "b" * 256, f"a group path has at most 255 characters, this one has 256: {GRAMMAR}"),
        (parse_group_path, f"{DEEPEST}/b", "has 21 levels, of which there are at most 20"),
        (parse_project_path, f"{DEEPEST}/b/c", "has 22 levels, of which there are at most 21"),
        (parse_project_path, "x", "'x' names no group or user that holds the project: use a path such as 'group/x'"),
        (parse_user_name, "a/b", "user name 'a/b' has a slash, for which there is no place: use a name such as 'a-b'"),
        (parse_user_name, "Alice", "because 'Alice' has the capital 'A': use a name such as 'alice'"),
        (
            parse_group_path,
            "a/dependency_proxy",
            "the reserved word 'dependency_proxy': use a path such as 'a/dependency_proxy-group'",
        ),
        (parse_group_path, "virtual_registries/a", "the reserved word 'virtual_registries'"),
        (parse_user_name, "admin", "holds the reserved word 'admin': use a name such as 'admin-user'"),
        (parse_group_path, "robots.txt", "holds the reserved word 'robots.txt': use a path such as 'robots-txt'"),
        (parse_project_path, "a/edit", "the reserved word 'edit': use a path such as 'a/edit-project'"),
        (parse_group_path, "a/container_registry", "holds the reserved word 'container_registry'"),
        *(
            (parse_group_path, word, f"group path '{word}' holds the reserved word '{word}'")
            for word in ["v2", "api", "jwt", "static", "help", "search", "admin", "groups", "users", "favicon.ico"]
        ),
    ],
)
def test_another_path_is_refused_with_a_reason(parse: Callable[[str], str], path: str, reason: str) -> None:
    with pytest.raises(PathInvalid) as refusal:
        parse(path)
    assert reason in str(refusal.value)


@given(st.text(st.one_of(st.sampled_from("abA._-/ v2"), st.characters(codec="utf-8")), max_size=300))
@pytest.mark.parametrize("parse", [parse_group_path, parse_project_path, parse_user_name])
def test_whatever_is_accepted_or_advised_is_a_repository_name(parse: Callable[[str], str], text: str) -> None:
    try:
        RepositoryName.parse(parse(text))
    except PathInvalid as error:
        _, advised, path = str(error).rpartition("such as ")
        if advised:
            assert RepositoryName.parse(parse(path.strip("'"))).text == path.strip("'")


@pytest.mark.parametrize(
    ("path", "first"), [("my.team", "my.team"), ("my.team/a", "my.team"), ("localhost/a", "localhost")]
)
def test_a_first_component_that_clients_take_for_a_host_is_warned_of(path: str, first: str) -> None:
    warning = find_host_warning(path)
    assert warning is not None
    assert warning.startswith(f"clients take {first!r} for the host of a registry")


@pytest.mark.parametrize("path", ["team", "team/my.project", "localhosts"])
def test_another_first_component_is_not_warned_of(path: str) -> None:
    assert find_host_warning(path) is None


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
