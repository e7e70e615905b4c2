"""Names, digests and references in a path, and the escapes that none of them needs."""

import pytest
from starlette.convertors import CONVERTOR_TYPES
from starlette.routing import compile_path

from cache.oci.digest import Digest
from cache.oci.errors import DigestInvalid, NameInvalid, TagInvalid
from cache.oci.names import RepositoryName, Tag
from gateway.http import params

DIGEST = "sha256:" + 64 * "a"


@pytest.fixture(autouse=True)
def registered() -> None:
    params.register()


def test_a_reference_is_a_digest_where_it_has_a_colon_and_else_a_tag() -> None:
    convert = CONVERTOR_TYPES["reference"].convert
    assert convert("latest") == Tag("latest")
    assert convert(DIGEST) == Digest.parse(DIGEST)


@pytest.mark.parametrize("kind, text", [("name", "library/tiny"), ("digest", DIGEST), ("reference", "v1.0")])
def test_a_value_is_written_as_it_was_read(kind: str, text: str) -> None:
    convertor = CONVERTOR_TYPES[kind]
    assert convertor.to_string(convertor.convert(text)) == text


@pytest.mark.parametrize(
    ("kind", "text", "refusal"),
    [
        ("name", "Library/tiny", NameInvalid),
        ("name", "a/../b", NameInvalid),
        ("name", "a\n", NameInvalid),
        ("digest", "latest", DigestInvalid),
        ("digest", DIGEST + "\n", DigestInvalid),
        ("reference", ".hidden", TagInvalid),
        ("reference", "latest\n", TagInvalid),
        ("reference", "sha256:abc", DigestInvalid),
    ],
)
def test_what_is_no_value_is_refused_with_its_own_error(kind: str, text: str, refusal: type[Exception]) -> None:
    with pytest.raises(refusal):
        CONVERTOR_TYPES[kind].convert(text)


def test_a_name_reaches_up_to_the_last_word_that_can_end_it() -> None:
    pattern, _, _ = compile_path("/v2/{name:name}/manifests/{reference:reference}")
    match = pattern.match("/v2/a/manifests/b/manifests/latest")
    assert match is not None
    assert match.groupdict() == {"name": "a/manifests/b", "reference": "latest"}


def test_registering_again_changes_nothing() -> None:
    params.register()
    assert CONVERTOR_TYPES["name"].convert("a") == RepositoryName("a")


@pytest.mark.parametrize(
    "path", [b"/v2/", b"/v2/a/blobs/sha256:aa", b"/v2/a/blobs/sha256%3Aaa", b"/v2/a/blobs/sha256%3aaa", b"/v2/%3a%3A"]
)
def test_a_colon_may_be_escaped(path: bytes) -> None:
    params.check_raw_path(path)


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
        params.check_raw_path(path)
