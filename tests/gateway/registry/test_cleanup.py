"""Which tags a cleanup deletes, against a model of twenty lines; pure values."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.namespaces.cleanup_rule import CleanupRule, CleanupRuleInvalid, parse_age, parse_rule
from gateway.registry.cleanup import DatedTag, Judge, JudgedTag, TagVerdict, unprotected

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
PATTERNS = [".*", "v.*", "v[0-9]+", "dev-.*", ".*1", "a|v1", "latest"]


def days_ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def newest_first(tags: Sequence[DatedTag]) -> list[DatedTag]:
    """The order in which tags are judged: by date, and by name among equals."""
    return sorted(tags, key=lambda tag: (tag.published_at is None, tag.published_at or NOW, tag.name), reverse=True)


def judge(
    tags: Sequence[DatedTag], rule: CleanupRule, now: datetime, protection: Callable[[str], str] = unprotected
) -> Iterator[JudgedTag]:
    return map(Judge(rule, now, protection).judge, tags)


# The model: each step of the documented algorithm over the whole list, with Python's own regular expressions.


def model(tags: Sequence[DatedTag], rule: CleanupRule, protected: set[str]) -> set[str]:
    """Names of the tags that a rule deletes."""
    doomed = [tag for tag in tags if tag.name != "latest"]
    doomed = [tag for tag in doomed if re.fullmatch(rule.delete.text, tag.name)]
    if rule.keep is not None:
        doomed = [tag for tag in doomed if not re.fullmatch(rule.keep.text, tag.name)]
    if rule.keep_n is not None:
        doomed = newest_first(doomed)[rule.keep_n :]
    doomed = [tag for tag in doomed if tag.published_at is not None]
    if rule.older_than is not None:
        doomed = [tag for tag in doomed if tag.published_at and tag.published_at < NOW - rule.older_than]
    return {tag.name for tag in doomed if tag.name not in protected}


def deleted(judged: Sequence[JudgedTag]) -> set[str]:
    return {each.tag.name for each in judged if each.verdict is TagVerdict.DELETED}


names = st.one_of(st.just("latest"), st.from_regex(r"(v|dev-|a)[0-9]{0,2}", fullmatch=True).filter(bool))
dates = st.one_of(st.none(), st.integers(-2, 12).map(days_ago))
repositories = st.dictionaries(names, dates, max_size=30).map(
    lambda found: [DatedTag(name, date) for name, date in found.items()]
)
rules = st.builds(
    parse_rule,
    st.sampled_from(PATTERNS),
    st.one_of(st.none(), st.just(""), st.sampled_from(PATTERNS)),
    st.one_of(st.none(), st.integers(0, 5)),
    st.one_of(st.none(), st.integers(0, 12).map("{}d".format)),
)


@given(repositories, rules, st.sets(names, max_size=3))
def test_what_is_deleted_is_what_the_model_deletes(
    tags: list[DatedTag], rule: CleanupRule, protected: set[str]
) -> None:
    judged = list(judge(newest_first(tags), rule, NOW, lambda name: "a rule" if name in protected else ""))
    assert deleted(judged) == model(tags, rule, protected)
    assert [each.tag for each in judged] == newest_first(tags)


@given(repositories, rules, st.sets(names))
def test_a_run_that_was_interrupted_ends_where_an_uninterrupted_one_does(
    tags: list[DatedTag], rule: CleanupRule, done: set[str]
) -> None:
    doomed = deleted(list(judge(newest_first(tags), rule, NOW)))
    rest = [tag for tag in newest_first(tags) if tag.name not in doomed & done]
    assert deleted(list(judge(rest, rule, NOW))) == doomed - done


def test_the_example_of_the_guide() -> None:
    """Keep one, keep production-.*, older than 7 days, delete .* (GitLab, "Cleanup policy examples")."""
    ages = {"latest": 1, "production-v44": 8, "v44": 9, "dev-v42": 10, "production-v43": 11, "v43": 12, "v42": 13}
    tags = [DatedTag(name, days_ago(age)) for name, age in ages.items()]
    assert [each.verdict for each in judge(tags, parse_rule(".*", "production-.*", 1, "7d"), NOW)] == [
        TagVerdict.LATEST,
        TagVerdict.KEPT_NAME,
        TagVerdict.NEWEST,
        TagVerdict.DELETED,
        TagVerdict.KEPT_NAME,
        TagVerdict.DELETED,
        TagVerdict.DELETED,
    ]


def test_a_tag_of_unknown_date_is_never_deleted_and_counts_as_the_newest() -> None:
    tags = [DatedTag("unknown", None), DatedTag("old", days_ago(400))]
    verdicts = [each.verdict for each in judge(tags, parse_rule(".*"), NOW)]
    assert verdicts == [TagVerdict.UNDATED, TagVerdict.DELETED]
    verdicts = [each.verdict for each in judge(tags, parse_rule(".*", keep_n=1), NOW)]
    assert verdicts == [TagVerdict.NEWEST, TagVerdict.DELETED]


def test_what_is_exactly_as_old_as_the_rule_says_stays() -> None:
    tags = [DatedTag("at", days_ago(7)), DatedTag("before", days_ago(7) - timedelta(microseconds=1))]
    verdicts = [each.verdict for each in judge(tags, parse_rule(".*", older_than="7d"), NOW)]
    assert verdicts == [TagVerdict.RECENT, TagVerdict.DELETED]


def test_what_protects_a_tag_is_told_and_asked_only_where_it_matters() -> None:
    asked: list[str] = []

    def protection(name: str) -> str:
        asked.append(name)
        return "rule 3"

    tags = [DatedTag("v2", days_ago(1)), DatedTag("v1", days_ago(2))]
    judged = list(judge(tags, parse_rule(".*", keep_n=1), NOW, protection))
    assert judged == [JudgedTag(tags[0], TagVerdict.NEWEST), JudgedTag(tags[1], TagVerdict.PROTECTED, "rule 3")]
    assert asked == ["v1"]


def test_tags_in_another_order_are_refused_before_one_is_judged_wrongly() -> None:
    tags = [DatedTag("v1", days_ago(2)), DatedTag("v2", days_ago(1))]
    judged = judge(tags, parse_rule(".*", keep_n=1), NOW)
    assert next(judged).verdict is TagVerdict.NEWEST
    with pytest.raises(ValueError, match="'v2' comes after an older one"):
        next(judged)
    with pytest.raises(ValueError, match="comes after an older one"):
        list(judge([tags[0], DatedTag("unknown", None)], parse_rule(".*"), NOW))


def test_names_match_as_a_whole() -> None:
    tags = [DatedTag(name, days_ago(1)) for name in ("v1", "v10", "xv1", "a", "ab", "ba")]
    assert deleted(list(judge(tags, parse_rule("v1|a"), NOW))) == {"v1", "a"}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"name_regex_delete": ""}, "name_regex_delete: an empty pattern matches no tag"),
        ({"name_regex_delete": "v("}, r"name_regex_delete: 'v\(' is no regular expression of RE2: missing \)"),
        ({"name_regex_delete": "v(?=1)"}, r"invalid perl operator: \(\?="),
        ({"name_regex_delete": "\\pL{900}"}, "pattern too large"),
        ({"name_regex_delete": "\ud800"}, "half of a character"),
        ({"name_regex_delete": "v" * 256}, "a pattern has at most 255 characters, not 256"),
        ({"name_regex_delete": ".*", "name_regex_keep": "["}, "name_regex_keep: .* missing ]"),
        ({"name_regex_delete": ".*", "keep_n": -1}, "keep_n: -1 is not a number from 0 to 1000000"),
        ({"name_regex_delete": ".*", "older_than": "7"}, "older_than: '7' is not an age such as 1h, 7d"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused_with_its_parameter(values: dict[str, str], reason: str) -> None:
    with pytest.raises(CleanupRuleInvalid, match=reason):
        parse_rule(**values)  # type: ignore[arg-type]


def test_a_pattern_that_explodes_elsewhere_is_matched_in_linear_time() -> None:
    """Python's own engine takes a second for 24 characters of this, and twice as long for each further one."""
    rule, began = parse_rule("(a+)+b"), time.perf_counter()
    (judged,) = judge([DatedTag("a" * 24, days_ago(1))], rule, NOW)
    assert judged.verdict is TagVerdict.OTHER_NAME
    assert time.perf_counter() - began < 0.2


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("1h", timedelta(hours=1)),
        ("7d", timedelta(days=7)),
        ("1month", timedelta(days=30)),
        ("3months", timedelta(days=90)),
        ("2 days", timedelta(days=2)),
        ("1 Week, 2 days", timedelta(days=9)),
        ("1 day and 12h", timedelta(hours=36)),
        ("1d12h", timedelta(hours=36)),
        ("90 mins", timedelta(minutes=90)),
        ("10m", timedelta(minutes=10)),
        ("10s", timedelta(seconds=10)),
        ("2mo", timedelta(days=60)),
        ("1y", timedelta(days=365)),
    ],
)
def test_ages_are_read_as_people_write_them(text: str, age: timedelta) -> None:
    assert parse_age(text) == age


@pytest.mark.parametrize(
    "text", ["", " ", "d", "7", "-1d", "1.5d", "7 lightyears", "1d x", "999999999y", "40000d", "\u0661d", "1dd"]
)
def test_what_is_no_age_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"age|longer ago"):
        parse_age(text)
