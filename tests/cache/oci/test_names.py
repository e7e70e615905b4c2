"""Repository names, tags and references against a reader that walks them letter by letter."""

from itertools import groupby

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cache.oci.digest import Digest
from cache.oci.errors import DigestInvalid, NameInvalid, TagInvalid
from cache.oci.names import RepositoryName, Tag, parse_reference

LOWER = "abcdefghijklmnopqrstuvwxyz0123456789"
NAMES = st.one_of(
    st.text(max_size=20),
    st.text("ab0._-/", max_size=12),
    st.text("ab0._-/A\n\u0661\u00df", max_size=8),
    st.integers(250, 260).map(lambda length: "a/" * (length // 2) + "a" * (length % 2 or 2)),
)
TAGS = st.one_of(
    st.text(max_size=20),
    st.text("aZ0._-:/\n\u0661", max_size=8),
    st.builds(lambda first, rest, count: first + rest * count, *[st.sampled_from("aZ_.-")] * 2, st.integers(125, 130)),
)


def is_component(text: str) -> bool:
    """Letters and digits at both ends; every run of other characters is one of . _ __ or any number of -."""
    runs = [(known, "".join(run)) for known, run in groupby(text, lambda char: char in LOWER)]
    return (
        bool(runs)
        and runs[0][0]
        and runs[-1][0]
        and all(known or run in (".", "_", "__") or set(run) == {"-"} for known, run in runs)
    )


def is_name(text: str) -> bool:
    return len(text) <= 255 and all(is_component(component) for component in text.split("/"))


def is_tag(text: str) -> bool:
    return (
        1 <= len(text) <= 128
        and text[0] not in ".-"
        and all(char in LOWER or char in LOWER.upper() or char in "._-" for char in text)
    )


@given(NAMES)
@example("a-" * 127 + "-")
@example("a-" * 500_000)
def test_a_text_is_a_repository_name_exactly_if_each_of_its_components_is_one(text: str) -> None:
    if is_name(text):
        name = RepositoryName.parse(text)
        assert str(name) == text
        assert "/".join(name.components) == text
    else:
        with pytest.raises(NameInvalid) as refusal:
            RepositoryName.parse(text)
        assert len(str(refusal.value).encode("utf-8")) < 4000


@pytest.mark.parametrize(
    "text",
    ["a", "0", "library/alpine", "a/b/c/d/e", "a.b", "a_b", "a__b", "a-b", "a---b", "a.b_c__d--e", "a" * 255, "1/2"],
)
def test_the_grammar_of_the_specification_is_accepted(text: str) -> None:
    assert is_name(text)
    assert RepositoryName.parse(text).text == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "/", "/a", "a/", "a//b", "A", "a/B", "a b", "a\n", "\na", "a\x00", "a%2fb", "a\\b", "a:b", "a@b", "a+b"),
        *(".", "..", "a/../b", "a/./b", ".a", "a.", "a..b", "_a", "a_", "a___b", "-a", "a-", "a._b", "a-_b", "a.-b"),
        *("\u00e4", "\uff41", "\u0661", "\ud800", "a" * 256, "a/" * 127 + "aa"),
    ],
)
def test_what_is_no_repository_name_is_refused(text: str) -> None:
    assert not is_name(text)
    with pytest.raises(NameInvalid):
        RepositoryName.parse(text)


@given(TAGS)
@example("a" * 1_000_000)
def test_a_text_is_a_tag_exactly_if_it_has_1_to_128_of_the_allowed_characters(text: str) -> None:
    if is_tag(text):
        assert str(Tag.parse(text)) == text
    else:
        with pytest.raises(TagInvalid) as refusal:
            Tag.parse(text)
        assert len(str(refusal.value).encode("utf-8")) < 4000


@pytest.mark.parametrize("text", ["latest", "v1.0", "_", "A", "1", "a" * 128, "3.11-slim_x", "sha256-" + "a" * 64])
def test_tags_that_clients_use_are_accepted(text: str) -> None:
    assert parse_reference(text) == Tag(text)


@pytest.mark.parametrize("text", ["", ".a", "-a", "a" * 129, "a\n", "a/b", "a+b", "a b", "\u00e4", ".."])
def test_what_is_no_tag_is_refused(text: str) -> None:
    with pytest.raises(TagInvalid):
        parse_reference(text)


@given(st.one_of(TAGS, st.builds(str, st.builds(Digest.of, st.binary())), st.text("sha256:af", max_size=75)))
def test_a_reference_is_a_digest_if_it_has_a_colon_and_a_tag_otherwise(text: str) -> None:
    try:
        reference = parse_reference(text)
    except DigestInvalid:
        assert ":" in text
    except TagInvalid:
        assert ":" not in text
    else:
        assert str(reference) == text
        assert isinstance(reference, Digest) == (":" in text)
