"""Names below virtual registries, and URLs of their upstreams."""

import pytest

from cache.oci.names import RepositoryName
from gateway.namespaces.errors import VirtualRegistryRefused
from gateway.namespaces.virtual_registry import check_upstream_url, is_virtual, parse_virtual_name


@pytest.mark.parametrize(
    ("name", "registry", "image"),
    [
        ("virtual_registries/container/7/library/alpine", 7, "library/alpine"),
        ("virtual_registries/container/7/a", 7, "a"),
        ("virtual_registries/container/12/a/b/c/d", 12, "a/b/c/d"),
    ],
)
def test_a_name_names_a_registry_and_an_image(name: str, registry: int, image: str) -> None:
    found = parse_virtual_name(RepositoryName.parse(name))
    assert found is not None and (found.registry_id, found.image.text) == (registry, image)


@pytest.mark.parametrize(
    "name",
    [
        "virtual_registries/container/7",
        "virtual_registries/container",
        "virtual_registries/other/7/a",
        "virtual_registries/container/07/a",
        "virtual_registries/container/0/a",
        "virtual_registries/container/x/a",
        "virtual_registries/container/12345678901/a",
    ],
)
def test_other_names_there_name_nothing(name: str) -> None:
    assert is_virtual(RepositoryName.parse(name)) and parse_virtual_name(RepositoryName.parse(name)) is None


def test_other_names_are_elsewhere() -> None:
    assert not is_virtual(RepositoryName.parse("team/virtual_registries/container/7/a"))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://registry.example", "must begin with https"),
        ("ftp://registry.example", "must be an https URL"),
        ("registry.example", "must be an https URL"),
        ("https://", "must be an https URL"),
        ("https://user:secret@registry.example", "no login"),
        ("https://registry.example?x=1", "no query"),
        ("https://registry.example#x", "no query"),
        ("https://registry.example:99999", "must be an https URL"),
        ("https://registry.example/" + "a" * 255, "at most 255"),
        ("https://registry.example/\u00e9", "at most 255"),
    ],
)
def test_a_url_that_cannot_be_is_refused(url: str, reason: str) -> None:
    with pytest.raises(VirtualRegistryRefused, match=reason):
        check_upstream_url(url, frozenset())


@pytest.mark.parametrize("hosts", [{"registry.example"}, {"registry.example:5000"}])
def test_the_settings_let_a_host_be_private(hosts: set[str]) -> None:
    check_upstream_url("http://Registry.example:5000/path", frozenset(hosts))
    check_upstream_url("https://elsewhere.example", frozenset(hosts))
    with pytest.raises(VirtualRegistryRefused):
        check_upstream_url("http://elsewhere.example:5000", frozenset(hosts))
