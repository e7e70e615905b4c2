"""How much may be collected within a day, decided without a database."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.registry.collection_guard import FEW, Window, jitter_of

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("objects", "deleted", "used_up"),
    [
        (0, 0, False),
        (10, 10, False),
        (10, FEW - 1, False),
        (10, FEW, True),
        (10_000, 4_999, False),
        (10_000, 5_000, True),
    ],
)
def test_half_of_everything_is_deleted_without_a_question_if_that_is_not_much(
    objects: int, deleted: int, used_up: bool
) -> None:
    assert Window(NOW, objects, deleted).is_used_up is used_up


@pytest.mark.parametrize(
    ("began_at", "over"),
    [(None, True), (NOW, False), (NOW - DAY + SECOND, False), (NOW - DAY, True), (NOW + DAY, True)],
)
def test_deletions_are_counted_for_a_day(began_at: datetime | None, over: bool) -> None:
    assert Window(began_at, 0, 0).is_over(NOW) is over


@pytest.mark.parametrize(("delay", "most"), [(DAY, MINUTE), (20 * SECOND, 2 * SECOND), (timedelta(0), timedelta(0))])
def test_jitter_is_at_most_a_tenth_of_the_delay_and_a_minute(delay: timedelta, most: timedelta) -> None:
    found = {jitter_of(f"{number:064x}", delay) for number in range(100)}
    assert timedelta(0) <= min(found)
    assert max(found) <= most
    assert len(found) > 10 or delay == timedelta(0)
