"""Since when a source fails."""

from datetime import timedelta

from cache.proxy.outages import Outage, Outages
from tests.cache.samples import ALICE, ANONYMOUS, NOON

LATER = NOON + timedelta(minutes=1)


def test_an_outage_begins_with_its_first_failure_and_ends_with_an_answer() -> None:
    outages = Outages()
    assert outages.find(ANONYMOUS) is None
    outages.note(ANONYMOUS, NOON)
    outages.note(ANONYMOUS, LATER)
    assert outages.find(ANONYMOUS) == Outage(NOON, late=False)
    assert outages.find(ALICE) is None
    outages.end(ANONYMOUS)
    assert outages.find(ANONYMOUS) is None
    outages.note(ANONYMOUS, LATER)
    assert outages.find(ANONYMOUS) == Outage(LATER, late=False)


def test_a_source_that_left_a_question_unanswered_is_late_until_it_answers() -> None:
    outages = Outages()
    outages.note(ANONYMOUS, NOON)
    outages.note(ANONYMOUS, LATER, late=True)
    outages.note(ANONYMOUS, LATER)
    assert outages.find(ANONYMOUS) == Outage(NOON, late=True)
    outages.end(ANONYMOUS)
    outages.note(ANONYMOUS, LATER)
    assert outages.find(ANONYMOUS) == Outage(LATER, late=False)
