"""What an upstream does not have is remembered for a moment, and not without bounds."""

from datetime import timedelta

from cache.proxy.absences import Absences
from tests.cache.samples import NOON

TTL = timedelta(seconds=10)
TICK = timedelta(microseconds=1)


def test_an_absence_is_good_for_its_time() -> None:
    absences = Absences(TTL)
    absences.note("a", NOON)
    assert absences.holds("a", NOON + TTL - TICK)
    assert not absences.holds("a", NOON + TTL)
    assert not absences.holds("b", NOON)


def test_what_was_found_after_all_is_not_absent() -> None:
    absences = Absences(TTL)
    absences.note("a", NOON)
    absences.forget("a")
    absences.forget("never")
    assert not absences.holds("a", NOON)


def test_without_a_time_nothing_is_remembered() -> None:
    absences = Absences(timedelta(0))
    absences.note("a", NOON)
    assert (absences.holds("a", NOON), len(absences)) == (False, 0)


def test_only_so_many_are_remembered_and_the_oldest_go() -> None:
    absences = Absences(TTL, limit=3)
    for key in "abcda":
        absences.note(key, NOON)
    assert [key for key in "abcd" if absences.holds(key, NOON)] == ["a", "c", "d"]


def test_what_is_over_makes_room() -> None:
    absences = Absences(TTL)
    for second in range(100):
        absences.note(second, NOON + timedelta(seconds=second))
    assert len(absences) == 10
