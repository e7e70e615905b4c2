"""Image lists of `cache warm`: how they are written."""

import pytest

from cache.proxy.warming import own_platform
from gateway.cli.refusals import Refused
from gateway.cli.warm import parse_list
from gateway.maintenance.warm import WantedImage
from tests.gateway.cli.terminal import Terminal

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
        WantedImage("alpine", "3.*", ("linux/amd64", "linux/arm64/v8")),
        WantedImage("ghcr.io/acme/app", "latest", OWN),
        WantedImage("debian", DIGEST, ("*",)),
    ]
    assert [str(one) for one in wanted] == ["alpine:3.*", "ghcr.io/acme/app:latest", f"debian@{DIGEST}"]


def test_toml_has_images_and_platforms_for_all_of_them() -> None:
    text = 'images = ["alpine:3.*", "debian"]\nplatforms = ["linux/amd64"]'
    assert parse_list(text, is_toml=True) == [
        WantedImage("alpine", "3.*", ("linux/amd64",)),
        WantedImage("debian", "latest", ("linux/amd64",)),
    ]
    assert parse_list('images = ["a"]', is_toml=True) == [WantedImage("a", "latest", OWN)]


@pytest.mark.parametrize(
    ("text", "is_toml", "said"),
    [
        ("alpine amd64", False, "no platform"),
        ("alpine:", False, "empty tag"),
        ("alpine linux/arm/v7/x", False, "no platform"),
        ("images = [", True, "no TOML"),
        ("images = 'alpine'", True, "lists of texts"),
        ("images = [1]", True, "lists of texts"),
        ("images = []\nplatform = []", True, "nothing else"),
    ],
)
def test_an_invalid_list_is_refused(text: str, is_toml: bool, said: str) -> None:
    with pytest.raises(Refused, match=said):
        parse_list(text, is_toml)


def test_an_image_in_place_of_a_list_is_told_how_it_is_warmed(terminal: Terminal) -> None:
    refused = terminal.refused("cache", "warm", "alpine:3.20")
    assert "there is no file alpine:3.20" in refused
    assert "echo alpine:3.20 | registry-gateway cache warm /dev/stdin" in refused
