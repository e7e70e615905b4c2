"""Protection rules: which patterns are accepted, and what they are about."""

from datetime import UTC, datetime

import pytest

from gateway.namespaces.errors import ProtectionRefused, TagPatternInvalid
from gateway.namespaces.protection import (
    REPOSITORY_RULES,
    TAG_RULES,
    ProtectionKind,
    ProtectionLevel,
    ProtectionRule,
    below_project,
    check_rule,
    parse_pattern,
    read_pattern,
)

REPOSITORY, TAG, IMMUTABLE = ProtectionKind.REPOSITORY, ProtectionKind.TAG, ProtectionKind.IMMUTABLE
OWNER = ProtectionLevel.OWNER


def rule(kind: ProtectionKind, pattern: str, id: int = 1) -> ProtectionRule:
    return ProtectionRule(
        id, kind, pattern, OWNER, OWNER, datetime(2026, 1, 1, tzinfo=UTC), read_pattern(kind, pattern)
    )


@pytest.mark.parametrize(
    ("pattern", "about", "not_about"),
    [
        ("team/app", [""], ["/web", "x"]),
        ("team/app*", ["", "/web", "/web/api"], []),
        ("team/app/*", ["/web", "/web/api"], [""]),
        ("team/app/w*b", ["/web", "/wb", "/w/b"], ["/webs"]),
        ("team/app/a.b", ["/a.b"], ["/axb"]),
        ("team/app/a-b", ["/a-b"], ["/ab"]),
    ],
)
def test_the_pattern_of_a_repository_matches_its_whole_path(
    pattern: str, about: list[str], not_about: list[str]
) -> None:
    made = rule(REPOSITORY, below_project("team/app", pattern))
    assert [made.matches(name) for name in about] == [True] * len(about)
    assert [made.matches(name) for name in not_about] == [False] * len(not_about)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("team/application", "matches nothing in project 'team/app': begin it with that"),
        ("other/app*", "matches nothing in project"),
        ("*", "matches nothing in project"),
        ("team/app/Web", "has signs that no repository has"),
        ("team/app/w[ab]", "has signs that no repository has"),
        ("team/app/" + "w" * 255, "at most 255 characters"),
    ],
)
def test_a_pattern_that_matches_no_repository_is_refused(pattern: str, reason: str) -> None:
    with pytest.raises(ProtectionRefused, match=reason):
        below_project("team/app", pattern)


def test_the_pattern_of_a_tag_is_a_regular_expression_of_the_whole_name() -> None:
    made = rule(TAG, r"v\d+|latest")
    assert [made.matches(name) for name in ("v1", "latest", "v1x", "xv1", "latest2")] == [True, True] + [False] * 3
    with pytest.raises(TagPatternInvalid, match="at most 100 characters"):
        parse_pattern(TAG, "v" * 101)
    with pytest.raises(TagPatternInvalid, match="is no regular expression"):
        parse_pattern(IMMUTABLE, "v(")


def test_a_rule_that_cannot_be_read_any_more_protects_everything() -> None:
    assert rule(TAG, "v(").matches("anything")


def test_a_rule_needs_the_levels_of_its_kind() -> None:
    for kind, levels in (
        (TAG, (OWNER, None)),
        (TAG, (None, None)),
        (REPOSITORY, (None, None)),
        (IMMUTABLE, (OWNER, None)),
    ):
        with pytest.raises(ProtectionRefused):
            check_rule(kind, *levels, [])
    for kind, levels in ((TAG, (OWNER, OWNER)), (REPOSITORY, (None, OWNER)), (IMMUTABLE, (None, None))):
        check_rule(kind, *levels, [])


def test_a_project_has_few_rules_and_those_for_tags_count_together() -> None:
    tags = [rule((TAG, IMMUTABLE)[number % 2], f"v{number}", number) for number in range(TAG_RULES)]
    for kind, levels in ((TAG, (OWNER, OWNER)), (IMMUTABLE, (None, None))):
        check_rule(kind, *levels, tags[1:])
        with pytest.raises(ProtectionRefused, match="at most 5 rules for tags"):
            check_rule(kind, *levels, tags)
    check_rule(REPOSITORY, OWNER, None, tags)
    repositories = [rule(REPOSITORY, f"/{number}", number) for number in range(REPOSITORY_RULES)]
    with pytest.raises(ProtectionRefused, match="at most 100 rules for repositories"):
        check_rule(REPOSITORY, OWNER, None, repositories)
