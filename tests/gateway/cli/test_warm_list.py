"""The list of `cache warm`, as it is written."""

import pytest

from cache.proxy.warming import own_platform
from gateway.cli.output import Refused
from gateway.cli.warm import Wanted, parse_list

OWN = (own_platform(),)
DIGEST = f"sha256:{'a' * 64}"


def test_a_line_names_an_image_and_its_platforms() -> None:
    text = f"""
    # what we need
    alpine:3.*   linux/amd64 linux/arm64/v8   # both
    ghcr.io/acme/app

    debian@{DIGEST}  *
    """
    wanted = parse_list(text, is_toml=False)
    assert wanted == [
        Wanted("alpine", "3.*", ("linux/amd64", "linux/arm64/v8")),
        Wanted("ghcr.io/acme/app", "latest", OWN),
        Wanted("debian", DIGEST, ("*",)),
    ]
    assert [str(one) for one in wanted] == ["alpine:3.*", "ghcr.io/acme/app:latest", f"debian@{DIGEST}"]


def test_toml_has_images_and_platforms_for_all_of_them() -> None:
    text = 'images = ["alpine:3.*", "debian"]\nplatforms = ["linux/amd64"]'
    assert parse_list(text, is_toml=True) == [
        Wanted("alpine", "3.*", ("linux/amd64",)),
        Wanted("debian", "latest", ("linux/amd64",)),
    ]
    assert parse_list('images = ["a"]', is_toml=True) == [Wanted("a", "latest", OWN)]


@pytest.mark.parametrize(
    ("text", "is_toml", "said"),
    [
        ("alpine amd64", False, "no platform"),
        ("alpine linux/arm/v7/x", False, "no platform"),
        ("images = [", True, "no TOML"),
        ("images = 'alpine'", True, "lists of texts"),
        ("images = [1]", True, "lists of texts"),
        ("images = []\nplatform = []", True, "nothing else"),
    ],
)
def test_what_is_no_list_is_refused(text: str, is_toml: bool, said: str) -> None:
    with pytest.raises(Refused, match=said):
        parse_list(text, is_toml)
