"""Where names lead, as a table."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from cache.oci.errors import NameUnknown
from cache.oci.names import RepositoryName
from gateway.namespaces.group import Group
from gateway.namespaces.locate import NativeLocation, ProxiedLocation, Root, canonical_name, locate, locate_below
from gateway.namespaces.node import Visibility

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
UPSTREAMS = ("quay.io", "docker.io", "localhost")
HUB = Group(1, "hub", Visibility.PUBLIC, True, True, "docker.io", None, None, NOW)
TREE = {
    "hub": HUB,
    "a/b": replace(HUB, id=2, path="a/b", default_upstream="quay.io"),
    "off": replace(HUB, id=3, path="off", proxy_enabled=False),
    "lost": replace(HUB, id=4, path="lost", default_upstream="gone.example.com"),
    "alias": replace(HUB, id=5, path="alias", default_upstream="index.docker.io"),
}


def where(text: str) -> ProxiedLocation | NativeLocation:
    return locate(RepositoryName.parse(text), TREE, UPSTREAMS)


@pytest.mark.parametrize(
    ("group", "written", "upstream", "image"),
    [
        ("hub", "alpine", "docker.io", "library/alpine"),
        ("hub", "library/alpine", "docker.io", "library/alpine"),
        ("hub", "docker.io/alpine", "docker.io", "library/alpine"),
        ("hub", "docker.io/library/alpine", "docker.io", "library/alpine"),
        ("hub", "index.docker.io/alpine", "docker.io", "library/alpine"),
        ("hub", "index.docker.io/library/alpine", "docker.io", "library/alpine"),
        ("alias", "alpine", "docker.io", "library/alpine"),
        ("hub", "bitnami/redis", "docker.io", "bitnami/redis"),
        ("hub", "quay.io/prometheus/busybox", "quay.io", "prometheus/busybox"),
        ("hub", "quay.io/one", "quay.io", "one"),
        ("hub", "localhost/one/two", "localhost", "one/two"),
        ("a/b", "one", "quay.io", "one"),
        ("a/b", "one/two/three", "quay.io", "one/two/three"),
        ("a/b", "docker.io/one", "docker.io", "library/one"),
        ("hub", "with.dot", "docker.io", "library/with.dot"),
        ("hub", "localhost", "docker.io", "library/localhost"),
        ("hub", "one/with.dot", "docker.io", "one/with.dot"),
        ("hub", "quay.io/docker.io/one", "quay.io", "docker.io/one"),
        ("hub", "x/dependency_proxy/containers/y", "docker.io", "x/dependency_proxy/containers/y"),
    ],
)
def test_an_image_has_one_upstream_and_one_name_there(group: str, written: str, upstream: str, image: str) -> None:
    expected = ProxiedLocation(TREE[group], upstream, RepositoryName.parse(image))
    assert where(f"{group}/dependency_proxy/containers/{written}") == expected


@pytest.mark.parametrize(
    ("upstream", "written", "image"),
    [
        ("docker.io", "alpine", "library/alpine"),
        ("docker.io", "library/alpine", "library/alpine"),
        ("docker.io", "docker.io/alpine", "library/alpine"),
        ("docker.io", "docker.io/library/alpine", "library/alpine"),
        ("docker.io", "index.docker.io/alpine", "library/alpine"),
        ("docker.io", "docker.io", "library/docker.io"),
        ("docker.io", "quay.io/one", "quay.io/one"),
        ("docker.io", "hub/dependency_proxy/containers/one", "hub/dependency_proxy/containers/one"),
        ("quay.io", "one", "one"),
        ("quay.io", "quay.io/one/two", "one/two"),
        ("quay.io", "index.docker.io/one", "index.docker.io/one"),
    ],
)
def test_below_a_root_every_name_is_an_image_of_its_upstream(upstream: str, written: str, image: str) -> None:
    found = locate_below(Root("a/b", upstream), RepositoryName.parse(written), TREE, UPSTREAMS)
    assert found == ProxiedLocation(TREE["a/b"], upstream, RepositoryName.parse(image))


@pytest.mark.parametrize("root", [Root("absent", "docker.io"), Root("off", "docker.io"), Root("hub", "gone.example")])
def test_a_root_without_its_group_or_upstream_leads_nowhere(root: Root) -> None:
    with pytest.raises(NameUnknown):
        locate_below(root, RepositoryName.parse("one"), TREE, UPSTREAMS)


@pytest.mark.parametrize(
    "text",
    [
        "alpine",
        "hub/alpine",
        "dependency_proxy/containers/alpine",
        "hub/dependency_proxy",
        "a/dependency_proxy/containers",
    ],
)
def test_a_name_without_the_separator_is_our_own(text: str) -> None:
    assert where(text) == NativeLocation(RepositoryName.parse(text))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nobody/dependency_proxy/containers/x", "there is no group 'nobody': create it, or pull through another"),
        ("a/dependency_proxy/containers/x", "there is no group 'a': create it, or pull through another"),
        ("off/dependency_proxy/containers/x", "the dependency proxy of group 'off' is off: enable it, or pull through"),
        (
            "hub/dependency_proxy/containers/ghcr.io/x",
            r"upstream 'ghcr\.io' is not configured: configured are docker\.io, localhost, quay\.io$",
        ),
        (
            "lost/dependency_proxy/containers/x",
            r"upstream 'gone\.example\.com' is not configured: configured are docker",
        ),
    ],
)
def test_a_name_that_leads_nowhere_is_unknown_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(NameUnknown, match=reason):
        where(text)


@pytest.mark.parametrize(
    ("group", "written", "canonical"),
    [
        ("hub", "alpine", "library/alpine"),
        ("hub", "docker.io/alpine", "library/alpine"),
        ("hub", "index.docker.io/library/alpine", "library/alpine"),
        ("hub", "quay.io/one", "quay.io/one"),
        ("alias", "alpine", "library/alpine"),
        ("a/b", "quay.io/one", "one"),
        ("a/b", "alpine", "alpine"),
        ("a/b", "docker.io/alpine", "docker.io/library/alpine"),
        ("a/b", "quay.io/docker.io/one", "quay.io/docker.io/one"),
    ],
)
def test_a_repository_has_one_canonical_name_which_leads_to_it(group: str, written: str, canonical: str) -> None:
    location = where(f"{group}/dependency_proxy/containers/{written}")
    name = canonical_name(location)
    assert name == f"{group}/dependency_proxy/containers/{canonical}"
    assert where(name) == location


def test_the_canonical_name_of_a_native_repository_is_its_own() -> None:
    assert canonical_name(where("team/app")) == "team/app"
