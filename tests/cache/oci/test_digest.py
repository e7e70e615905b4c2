"""Digests: what is one, what is none, and that it holds for its bytes only."""

import hashlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cache.oci.digest import Digest
from cache.oci.errors import DigestInvalid

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
DIGESTS = st.builds(Digest.of, st.binary(max_size=64), st.sampled_from(["sha256", "sha512"]))
NEAR_MISSES = st.one_of(
    st.text(max_size=80),
    st.builds(
        lambda algorithm, colon, char, count: algorithm + colon + char * count,
        st.sampled_from(["sha256", "sha512", "SHA256", "sha384", "md5", ""]),
        st.sampled_from([":", "", "::", "+"]),
        st.sampled_from(["a", "f", "0", "9", "A", "g", "\n", "\u0661", "\uff10", "\ud800"]),
        st.sampled_from([0, 1, 63, 64, 65, 127, 128, 129]),
    ),
    st.builds(
        lambda digest, at, char: str(digest)[:at] + char + str(digest)[at + 1 :],
        DIGESTS,
        st.integers(0, 135),
        st.characters(),
    ),
)


def is_digest(text: str) -> bool:
    return any(
        text.startswith(f"{algorithm}:")
        and len(text) == len(algorithm) + 1 + length
        and all(char in "0123456789abcdef" for char in text[len(algorithm) + 1 :])
        for algorithm, length in (("sha256", 64), ("sha512", 128))
    )


@given(NEAR_MISSES)
@example("a" * 100_000)
@example("sha256:" + "\ud800" * 100_000)
def test_a_text_parses_exactly_if_it_is_a_registered_algorithm_and_all_its_hex_digits(text: str) -> None:
    if is_digest(text):
        assert str(Digest.parse(text)) == text
    else:
        with pytest.raises(DigestInvalid) as refusal:
            Digest.parse(text)
        assert len(str(refusal.value).encode("utf-8")) < 1200


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "sha256", "sha256:", "sha256:" + "a" * 63, "sha256:" + "a" * 65, "sha256:" + "a" * 128),
        *("sha256:" + "A" * 64, "sha256:" + "g" * 64, "sha256:" + "\u0661" * 64, "sha256: " + "a" * 63),
        *("sha256:" + "a" * 64 + "\n", "sha256:" + "a" * 64 + ":", "sha256:../" + "a" * 61),
        *("sha512:" + "a" * 64, "SHA256:" + "a" * 64, "md5:" + "a" * 32),
    ],
)
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(DigestInvalid):
        Digest.parse(text)


def test_the_digest_of_nothing_is_the_well_known_one() -> None:
    assert str(Digest.of(b"")) == EMPTY


@given(st.binary(), st.binary(), st.sampled_from(["sha256", "sha512"]))
def test_a_digest_holds_for_its_own_bytes_only(data: bytes, other: bytes, algorithm: str) -> None:
    digest = Digest.of(data, algorithm)
    assert digest == Digest.parse(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")
    assert digest.holds_for(data)
    assert digest.holds_for(other) == (data == other)


@given(st.lists(st.binary()), st.sampled_from(["sha256", "sha512"]))
def test_a_hasher_fed_in_pieces_comes_to_the_digest_of_the_whole(pieces: list[bytes], algorithm: str) -> None:
    digest = Digest.of(b"".join(pieces), algorithm)
    hasher = digest.hasher()
    for piece in pieces:
        hasher.update(piece)
    assert hasher.hexdigest() == digest.hex
