"""How long what an upstream said about a tag is good for."""

from datetime import timedelta

import pytest

from cache.freshness import Freshness, freshness, may_be_stale
from cache.values import TagPointer
from tests.cache.samples import ANONYMOUS, APP, LATEST, NOON, manifest_of

TTL, GRACE = timedelta(minutes=1), timedelta(days=30)
TICK = timedelta(microseconds=1)
POINTER = TagPointer(ANONYMOUS, APP, LATEST, manifest_of("one").descriptor, NOON)


def test_without_a_pointer_it_is_a_miss() -> None:
    assert freshness(None, NOON, TTL) is Freshness.MISS


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        (timedelta(0), Freshness.FRESH),
        (TTL - TICK, Freshness.FRESH),
        (TTL, Freshness.REVALIDATE),
        (TTL + GRACE * 100, Freshness.REVALIDATE),
        (-TTL, Freshness.FRESH),
    ],
)
def test_a_pointer_is_fresh_for_less_than_its_ttl(age: timedelta, expected: Freshness) -> None:
    assert freshness(POINTER, NOON + age, TTL) is expected


def test_without_a_ttl_nothing_is_fresh() -> None:
    assert freshness(POINTER, NOON, timedelta(0)) is Freshness.REVALIDATE


@pytest.mark.parametrize(("age", "usable"), [(TTL, True), (TTL + GRACE - TICK, True), (TTL + GRACE, False)])
def test_grace_begins_when_the_ttl_ends(age: timedelta, usable: bool) -> None:
    assert may_be_stale(POINTER, NOON + age, TTL, GRACE) is usable


def test_without_grace_nothing_past_its_ttl_may_be_served() -> None:
    assert not may_be_stale(POINTER, NOON + TTL, TTL, timedelta(0))
