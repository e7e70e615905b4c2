"""Freshness of tag pointers, rules for tags, and the texts about what is stale."""

from datetime import timedelta

import pytest

from cache.oci.names import RepositoryName, Tag
from cache.policy.freshness import Freshness, TagRule, TagRules, decide, fresh_while_saving, in_words, stale_warning
from cache.values import Registry, Source, TagPointer
from tests.cache.samples import ANONYMOUS, APP, ELSEWHERE, LATEST, NOON, ORIGIN, manifest_of

TTL, GRACE = timedelta(minutes=1), timedelta(days=30)
RULE = TagRule("*", TTL)
TICK = timedelta(microseconds=1)
POINTER = TagPointer(ANONYMOUS, APP, LATEST, manifest_of("one").descriptor, NOON)


def test_without_a_pointer_it_is_a_miss() -> None:
    assert decide(None, NOON, RULE, GRACE) is Freshness.MISS


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        (timedelta(0), Freshness.FRESH),
        (TTL - TICK, Freshness.FRESH),
        (TTL, Freshness.REVALIDATE),
        (TTL + GRACE - TICK, Freshness.REVALIDATE),
        (TTL + GRACE, Freshness.EXPIRED),
        (TTL + GRACE * 100, Freshness.EXPIRED),
        (-TICK, Freshness.REVALIDATE),
        (-GRACE * 100, Freshness.REVALIDATE),
    ],
)
def test_a_pointer_is_fresh_for_less_than_its_ttl_and_expires_after_the_grace(
    age: timedelta, expected: Freshness
) -> None:
    assert decide(POINTER, NOON + age, RULE, GRACE) is expected


def test_without_a_ttl_nothing_is_fresh() -> None:
    assert decide(POINTER, NOON, TagRule("*", timedelta(0)), GRACE) is Freshness.REVALIDATE


def test_without_grace_nothing_past_its_ttl_may_be_served() -> None:
    assert decide(POINTER, NOON + TTL, RULE, timedelta(0)) is Freshness.EXPIRED


def test_a_fresh_only_rule_grants_no_grace() -> None:
    strict = TagRule("*", TTL, fresh_only=True)
    assert decide(POINTER, NOON + TTL - TICK, strict, GRACE) is Freshness.FRESH
    assert decide(POINTER, NOON + TTL, strict, GRACE) is Freshness.EXPIRED
    assert decide(POINTER, NOON - TICK, strict, GRACE) is Freshness.EXPIRED


def test_a_tag_is_fresh_for_longer_while_a_limit_is_nearly_used_up() -> None:
    assert fresh_while_saving(POINTER, NOON + 10 * TTL - TICK, RULE)
    assert not fresh_while_saving(POINTER, NOON + 10 * TTL, RULE)
    assert not fresh_while_saving(POINTER, NOON - TICK, RULE)


DAY, HOUR = timedelta(days=1), timedelta(hours=1)
RULES = TagRules(
    TTL,
    GRACE,
    (
        TagRule("v*.*.*", DAY, fresh_only=True),
        TagRule("v*", HOUR, images="acme/*"),
        TagRule("*", 2 * HOUR, registry=ELSEWHERE.registry),
        TagRule("[0-9]*", 3 * HOUR, images="library/*", registry=Registry(ORIGIN)),
    ),
)


@pytest.mark.parametrize(
    ("source", "image", "tag", "ttl"),
    [
        (ANONYMOUS, "acme/app", "latest", TTL),
        (ANONYMOUS, "acme/app", "v1.2.3", DAY),
        (ANONYMOUS, "acme/app", "v1", HOUR),
        (ANONYMOUS, "acme/deep/app", "v1", HOUR),
        (ANONYMOUS, "other/app", "v1", TTL),
        (ANONYMOUS, "acme/app", "V1.2.3", TTL),
        (ELSEWHERE, "other/app", "v1", 2 * HOUR),
        (ELSEWHERE, "other/app", "v1.2.3", DAY),
        (ANONYMOUS, "library/alpine", "3.20", 3 * HOUR),
        (ANONYMOUS, "library/alpine", "edge", TTL),
        (ELSEWHERE, "library/alpine", "3.20", 2 * HOUR),
    ],
)
def test_the_first_rule_that_covers_a_tag_counts(source: Source, image: str, tag: str, ttl: timedelta) -> None:
    assert RULES.rule(source, RepositoryName(image), Tag(tag)).ttl == ttl


def test_a_tag_without_a_rule_may_be_stale() -> None:
    assert RULES.rule(ANONYMOUS, APP, Tag("v1.2.3")).fresh_only
    assert not RULES.rule(ANONYMOUS, APP, LATEST).fresh_only


def test_a_warning_names_the_upstream_the_reason_and_the_time() -> None:
    now = NOON + timedelta(hours=5, minutes=3)
    text = stale_warning(POINTER, "registry.example responded with 503", NOON + timedelta(hours=4), now)
    assert text == (
        "served from cache: last confirmed by registry.example 5 h ago, at 2024-05-01T12:00:00Z; "
        "registry.example responded with 503; failing since 2024-05-01T16:00:00Z"
    )
    assert "since" not in stale_warning(POINTER, "down", None, now)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "0 s"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (172800, "2 days")],
)
def test_an_age_is_given_in_the_unit_that_matters(seconds: int, words: str) -> None:
    assert in_words(timedelta(seconds=seconds)) == words
