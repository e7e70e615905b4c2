"""Origins, and where a redirect may lead."""

import pytest

from cache.upstream.urls import origin_of, redirect_target
from cache.values import Origin

HERE = "https://registry.example/v2/acme/app/blobs/x?a=1"


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://registry.example", Origin("https", "registry.example", 443)),
        ("https://registry.example:443/", Origin("https", "registry.example", 443)),
        ("HTTPS://Registry.Example/v2/", Origin("https", "registry.example", 443)),
        ("http://registry.example/", Origin("http", "registry.example", 80)),
        ("http://registry.example:5000/", Origin("http", "registry.example", 5000)),
        ("http://user:word@registry.example/", Origin("http", "registry.example", 80)),
        ("https://[::1]:5000/", Origin("https", "::1", 5000)),
        ("https://registry.example:0/", Origin("https", "registry.example", 0)),
    ],
)
def test_scheme_host_and_port_make_an_origin(url: str, origin: Origin) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    "url",
    [
        "",
        "registry.example",
        "//registry.example/",
        "/v2/",
        "ftp://registry.example/",
        "file:///etc/passwd",
        "https://",
        "https:///v2/",
        "https://:443/",
        "https://registry.example:99999/",
        "https://registry.example:port/",
        "https://[::1/",
        "https://1.2.3.999/",
        "https://-registry.example/",
    ],
)
def test_what_is_no_absolute_http_url_has_no_origin(url: str) -> None:
    with pytest.raises(ValueError):
        origin_of(url)


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("https://cdn.example/blob?sig=a%2Fb", "https://cdn.example/blob?sig=a%2Fb"),
        ("https://cdn.example", "https://cdn.example"),
        ("//cdn.example/blob", "https://cdn.example/blob"),
        ("/other", "https://registry.example/other"),
        ("y", "https://registry.example/v2/acme/app/blobs/y"),
        ("../../other", "https://registry.example/v2/acme/other"),
        ("?sig=1", "https://registry.example/v2/acme/app/blobs/x?sig=1"),
        ("/blob#part", "https://registry.example/blob"),
        ("HTTPS://cdn.example/blob", "https://cdn.example/blob"),
        ("https://cdn.example:8443/blob", "https://cdn.example:8443/blob"),
    ],
)
def test_a_location_is_taken_relative_to_where_it_was_said(location: str, target: str) -> None:
    assert redirect_target(HERE, location) == target


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "ftp://cdn.example/blob",
        "javascript:alert(1)",
        "data:,x",
        "https://user@cdn.example/blob",
        "https://user:word@cdn.example/blob",
        "https://@cdn.example/blob",
        "https://registry.example@evil.example/",
        "https:///etc/passwd" + chr(0),
        "https://cdn.example/a b",
        "https://cdn.example/a\tb",
        "https://ev\til.example/",
        "https://cdn.example/\r\nX-Header: 1",
        "https://cdn.example/\x7f",
        " https://cdn.example/",
        "http://cdn.example/blob",
        "http://registry.example/blob",
        "https://[::1/blob",
        "https://cdn.example:99999/blob",
    ],
)
def test_what_is_not_to_be_followed_is_refused(location: str) -> None:
    with pytest.raises(ValueError):
        redirect_target(HERE, location)


def test_from_http_a_redirect_may_lead_to_either() -> None:
    here = "http://registry.example/v2/"
    assert redirect_target(here, "http://cdn.example/") == "http://cdn.example/"
    assert redirect_target(here, "https://cdn.example/") == "https://cdn.example/"
