"""Endpoints that paths under /v2 name, and percent escapes that are refused."""

import pytest

from cache.oci.digest import Digest
from cache.oci.errors import DigestInvalid, NameInvalid, TagInvalid
from cache.oci.names import RepositoryName, Tag
from gateway.v2 import endpoint
from gateway.v2.endpoint import Endpoint, EndpointKind, parse_endpoint

DIGEST = "sha256:" + 64 * "a"


@pytest.mark.parametrize(
    ("rest", "kind", "target"),
    [
        ("manifests/latest", EndpointKind.MANIFEST, Tag("latest")),
        (f"manifests/{DIGEST}", EndpointKind.MANIFEST, Digest.parse(DIGEST)),
        (f"blobs/{DIGEST}", EndpointKind.BLOB, Digest.parse(DIGEST)),
        ("blobs/uploads", EndpointKind.UPLOADS, None),
        ("blobs/uploads/", EndpointKind.UPLOADS, None),
        ("blobs/uploads/some-session", EndpointKind.UPLOAD, "some-session"),
        ("tags/list", EndpointKind.TAGS, None),
        ("tags/reference/latest", EndpointKind.TAG, Tag("latest")),
        (f"referrers/{DIGEST}", EndpointKind.REFERRERS, Digest.parse(DIGEST)),
    ],
)
def test_a_path_is_an_endpoint_of_a_repository(
    rest: str, kind: EndpointKind, target: Tag | Digest | str | None
) -> None:
    assert parse_endpoint(f"/v2/library/tiny/{rest}") == Endpoint(kind, RepositoryName("library/tiny"), target)


@pytest.mark.parametrize(
    "path",
    [
        "/v2/_catalog",
        "/v2/a",
        "/v2/a/tags",
        "/v2/a/tags/list/",
        "/v2/a/manifests/",
        "/v2/a/blobs/uploads/b/c",
        "/v2//",
        "/v3/a/tags/list",
    ],
)
def test_other_paths_are_none(path: str) -> None:
    assert parse_endpoint(path) is None


@pytest.mark.parametrize(
    ("path", "refusal"),
    [
        ("/v2/Library/tiny/tags/list", NameInvalid),
        ("/v2/a/../b/tags/list", NameInvalid),
        ("/v2/a\n/tags/list", NameInvalid),
        ("/v2/a/blobs/latest", DigestInvalid),
        (f"/v2/a/blobs/{DIGEST}\n", DigestInvalid),
        ("/v2/a/manifests/.hidden", TagInvalid),
        ("/v2/a/manifests/latest\n", TagInvalid),
        ("/v2/a/manifests/sha256:abc", DigestInvalid),
    ],
)
def test_what_is_no_value_is_refused_with_its_own_error(path: str, refusal: type[Exception]) -> None:
    with pytest.raises(refusal):
        parse_endpoint(path)


def test_a_name_reaches_up_to_the_last_word_that_can_end_it() -> None:
    expected = Endpoint(EndpointKind.MANIFEST, RepositoryName("a/manifests/b"), Tag("latest"))
    assert parse_endpoint("/v2/a/manifests/b/manifests/latest") == expected


@pytest.mark.parametrize(
    "path", [b"/v2/", b"/v2/a/blobs/sha256:aa", b"/v2/a/blobs/sha256%3Aaa", b"/v2/a/blobs/sha256%3aaa", b"/v2/%3a%3A"]
)
def test_a_colon_may_be_escaped(path: bytes) -> None:
    endpoint.check_raw_path(path)


@pytest.mark.parametrize(
    "path",
    [
        *(b"/v2/%2e%2e/x", b"/v2/a%2fb", b"/v2/a%2Fb", b"/v2/a%5cb", b"/v2/%00", b"/v2/a%0a", b"/v2/%41"),
        *(b"/v2/%c3%a9", b"/v2/%", b"/v2/%zz", b"/v2/%253a", b"/v2/%%33a", b"/v2/%3", b"/v2/%3%3a"),
        *(b"/%76%32/x", b"/v2/%3a%2f"),
    ],
)
def test_no_other_escape_is_let_through(path: bytes) -> None:
    with pytest.raises(NameInvalid, match="escape"):
        endpoint.check_raw_path(path)


def test_paths_are_parsed_once_unless_they_are_long() -> None:
    path = "/v2/library/tiny/tags/list"
    assert parse_endpoint(path) is parse_endpoint(path)
    long = f"/v2/{'a' * endpoint._REMEMBERED_LENGTH}/tags/list"
    with pytest.raises(NameInvalid, match="at most 255"):
        parse_endpoint(long)
    beyond = f"/v2/a/blobs/uploads/{'b' * endpoint._REMEMBERED_LENGTH}"
    assert parse_endpoint(beyond) == parse_endpoint(beyond)
    assert parse_endpoint(beyond) is not parse_endpoint(beyond)
