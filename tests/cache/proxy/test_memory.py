"""Memory of recent manifests, absences and outages: how long each entry holds, and that it is bounded."""

from datetime import timedelta

import pytest

from cache.oci.manifest import Manifest
from cache.oci.media_types import OCI_INDEX
from cache.proxy.memory import Absence, Absences, AllowedDigests, CreationDates, OngoingOutage, Outages, RecentManifests
from cache.repository import CacheStatus, FoundManifest
from cache.values import Outcome
from tests.cache.samples import ALICE, ANONYMOUS, NOON

MANIFEST = Manifest.parse(OCI_INDEX, b'{"schemaVersion": 2, "manifests": []}')
FOUND = FoundManifest(MANIFEST, CacheStatus(Outcome.HIT))


def test_it_is_found_until_its_time_is_up_or_the_index_changes() -> None:
    memory = RecentManifests()
    assert memory.note("key", 1, (NOON - timedelta(minutes=1), NOON), FOUND) is FOUND
    assert memory.find("key", 1, NOON - timedelta(seconds=1)) is FOUND
    assert memory.find("key", 2, NOON - timedelta(seconds=1)) is None
    assert memory.find("key", 1, NOON) is None
    assert memory.find("other", 1, NOON - timedelta(seconds=1)) is None
    assert memory.find("key", 1, NOON - timedelta(hours=1)) is None, "the clock was set back"


def test_without_a_time_it_is_good_as_long_as_nothing_changes() -> None:
    memory = RecentManifests()
    memory.note("key", 1, None, FOUND)
    assert memory.find("key", 1, NOON + timedelta(days=1000)) is FOUND


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.HIT])
def test_nothing_but_a_hit_is_remembered(outcome: Outcome) -> None:
    memory = RecentManifests()
    memory.note("key", 1, None, FoundManifest(MANIFEST, CacheStatus(outcome)))
    assert memory.find("key", 1, NOON) is None


@pytest.mark.parametrize(
    "memory", [RecentManifests(max_count=3), RecentManifests(max_bytes=3 * MANIFEST.memory)], ids=["count", "bytes"]
)
def test_it_is_bounded(memory: RecentManifests) -> None:
    for number in range(10):
        memory.note(number, 1, None, FOUND)
        memory.note(number, 1, None, FOUND)
    assert sum(memory.find(number, 1, NOON) is not None for number in range(10)) <= 3
    assert memory.find(9, 1, NOON) is FOUND


TTL = timedelta(seconds=10)
WHY = "the upstream refuses access"
TICK = timedelta(microseconds=1)


def test_an_absence_is_good_for_its_time() -> None:
    absences = Absences(TTL)
    absences.note("a", NOON, WHY)
    assert absences.find("a", NOON + TTL - TICK) == Absence(WHY, NOON, TTL)
    assert not absences.find("a", NOON + TTL)
    assert not absences.find("b", NOON)
    assert not absences.find("a", NOON - TICK), "the clock was set back"


def test_what_was_found_after_all_is_not_absent() -> None:
    absences = Absences(TTL)
    absences.note("a", NOON, WHY)
    absences.forget("a")
    absences.forget("never")
    assert not absences.find("a", NOON)


def test_without_a_time_nothing_is_remembered() -> None:
    absences = Absences(timedelta(0))
    absences.note("a", NOON, WHY)
    assert (absences.find("a", NOON), len(absences)) == (None, 0)


def test_only_so_many_are_remembered_and_the_oldest_expire() -> None:
    absences = Absences(TTL, limit=3)
    for key in "abcda":
        absences.note(key, NOON, WHY)
    assert [key for key in "abcd" if absences.find(key, NOON)] == ["a", "c", "d"]


def test_what_is_over_makes_room() -> None:
    absences = Absences(TTL)
    for second in range(100):
        absences.note(second, NOON + timedelta(seconds=second), WHY)
    assert len(absences) == 10


LATER = NOON + timedelta(minutes=1)


def test_an_outage_begins_with_its_first_failure_and_ends_with_a_response() -> None:
    outages = Outages()
    assert outages.find(ANONYMOUS) is None
    outages.note(ANONYMOUS, NOON)
    outages.note(ANONYMOUS, LATER)
    assert outages.find(ANONYMOUS) == OngoingOutage(NOON, late=False)
    assert outages.find(ALICE) is None
    outages.end(ANONYMOUS)
    assert outages.find(ANONYMOUS) is None
    outages.note(ANONYMOUS, LATER)
    assert outages.find(ANONYMOUS) == OngoingOutage(LATER, late=False)


def test_a_source_that_left_a_request_unanswered_is_late_until_it_responds() -> None:
    outages = Outages()
    outages.note(ANONYMOUS, NOON)
    outages.note(ANONYMOUS, LATER, late=True)
    outages.note(ANONYMOUS, LATER)
    assert outages.find(ANONYMOUS) == OngoingOutage(NOON, late=True)
    outages.end(ANONYMOUS)
    outages.note(ANONYMOUS, LATER)
    assert outages.find(ANONYMOUS) == OngoingOutage(LATER, late=False)


def test_a_date_holds_for_every_image_and_its_absence_for_one() -> None:
    dates, digest = CreationDates(), MANIFEST.descriptor.digest
    assert dates.note(digest, "one", None) is None
    assert (dates.is_undated("one"), dates.is_undated("other"), dates.find(digest)) == (True, False, None)
    assert dates.note(digest, "other", NOON) == NOON
    assert (dates.find(digest), dates.is_undated("other")) == (NOON, False)


def test_creation_dates_are_bounded_in_number_and_those_used_last_are_kept() -> None:
    dates, digest = CreationDates(limit=3), MANIFEST.descriptor.digest
    dates.note(digest, "any", NOON)
    for key in range(5):
        assert dates.find(digest) == NOON
        dates.note(digest, key, None)
    assert (len(dates), dates.is_undated(4), dates.find(digest)) == (3, True, NOON)


def test_what_a_gate_let_through_holds_until_the_index_changes_and_is_bounded() -> None:
    allowed = AllowedDigests(limit=2)
    allowed.note("one", 1)
    assert (allowed.holds("one", 1), allowed.holds("one", 2), allowed.holds("two", 1)) == (True, False, False)
    for number in range(5):
        allowed.note(number, 1)
    assert (len(allowed), allowed.holds("one", 1), allowed.holds(4, 1)) == (2, False, True)
