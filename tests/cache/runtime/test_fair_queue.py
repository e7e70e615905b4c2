"""The fair queue and the fair places: who is next, who is refused, and what one party can take."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.runtime.fair_queue import SHARE, FairPlaces, FairQueue, Requester

requesters = st.builds(Requester, st.sampled_from("abcd"), st.sampled_from("123"))
crowds = st.lists(requesters, max_size=60)


def filled(text: str, limit: int = 1000) -> FairQueue[str]:
    """A queue of items such as `a1x`: group, client, and a name."""
    queue: FairQueue[str] = FairQueue(limit)
    for item in text.split():
        queue.add(Requester(item[0], item[1]), item)
    return queue


def drained(queue: FairQueue[str]) -> list[str]:
    return [taken[1] for taken in iter(queue.take, None)]


@pytest.mark.parametrize(
    ("added", "taken"),
    [
        ("", ""),
        ("a1x a1y a1z", "a1x a1y a1z"),
        ("a1x a1y a1z b1x c1x c1y", "a1x b1x c1x a1y c1y a1z"),
        ("b1x a1x b1y a1y", "b1x a1x b1y a1y"),
        ("a1x a1y a1z a2x", "a1x a2x a1y a1z"),
        ("a1x a1y a2x a2y b1x b1y", "a1x b1x a2x b1y a1y a2y"),
    ],
)
def test_groups_take_turns_and_then_their_clients(added: str, taken: str) -> None:
    queue = filled(added)
    assert drained(queue) == taken.split()
    assert len(queue) == 0


@pytest.mark.parametrize(
    ("added", "limit", "refused"),
    [
        ("a1x a1y", 2, None),
        ("a1x a1y a1z", 2, "a1z"),
        ("a1x a1y b1x", 2, "a1y"),
        ("a1x a1y a2x b1x", 3, "a1y"),
        ("a1x b1x", 1, "b1x"),
        ("b1x a1x a2x", 2, "a2x"),
    ],
)
def test_the_latest_of_whoever_has_the_most_is_refused(added: str, limit: int, refused: str | None) -> None:
    queue = filled(added, limit)
    found = queue.surplus()
    assert found == (None if refused is None else (Requester(refused[0], refused[1]), refused))
    assert queue.surplus() is None
    assert sorted(drained(queue)) == sorted(set(added.split()) - {refused})


def test_what_may_not_be_taken_keeps_its_place_and_delays_nobody() -> None:
    queue = filled("a1x b1x b2x")
    assert queue.take(lambda who: who.group == "b") == (Requester("b", "1"), "b1x")
    assert queue.take(lambda who: who.group == "c") is None
    assert drained(queue) == ["a1x", "b2x"]


def test_an_item_that_was_removed_is_not_taken() -> None:
    queue = filled("a1x a1y b1x")
    removed = [queue.remove(Requester(item[0], item[1]), item) for item in ("a1x", "b1x", "b1x", "c1x")]
    assert removed == [True, True, False, False]
    assert (len(queue), drained(queue)) == (1, ["a1y"])


@given(crowds)
def test_each_group_and_each_of_its_clients_is_next_within_a_round(crowd: list[Requester]) -> None:
    queue: FairQueue[int] = FairQueue(1000)
    for number, who in enumerate(crowd):
        queue.add(who, number)
    taken = list(iter(queue.take, None))
    assert sorted(number for _, number in taken) == list(range(len(crowd)))
    for who in set(crowd):
        assert [n for w, n in taken if w == who] == sorted(n for w, n in taken if w == who), "an order was changed"
    waits: Counter[str] = Counter()
    left = Counter(who.group for who in crowd)
    for who, _ in taken:
        left[who.group] -= 1
        for group in left:
            waits[str(group)] = 0 if group == who.group or not left[group] else waits[str(group)] + 1
            assert waits[str(group)] < len(left), f"group {group} starves"


@given(crowds, st.integers(0, 20))
def test_a_queue_keeps_its_bound_and_every_group_its_share(crowd: list[Requester], limit: int) -> None:
    queue: FairQueue[int] = FairQueue(limit)
    waiting: Counter[object] = Counter()
    for number, who in enumerate(crowd):
        queue.add(who, number)
        waiting[who.group] += 1
        refused = queue.surplus()
        if refused is not None:
            assert refused[0] == crowd[refused[1]]
            assert waiting[refused[0].group] == max(waiting.values()), "another group's item was refused"
            waiting[refused[0].group] -= 1
        assert len(queue) == waiting.total() <= limit


@given(crowds, st.integers(1, 40), st.integers(0, 4))
def test_no_party_takes_all_places(crowd: list[Requester], count: int, spare: int) -> None:
    places = FairPlaces(count, spare)
    held: Counter[Requester] = Counter()
    groups: Counter[object] = Counter()
    for who in crowd * 3:
        if places.allows(who):
            own, free = groups[who.group], count - places.held
            assert not own or own < SHARE * free, "a group took more than its share"
            places.take(who)
            held[who] += 1
            groups[who.group] += 1
        elif not held[who]:
            assert groups[who.group] or places.held == count + spare, "a group without any was refused"
    assert places.held == held.total() <= count + spare
    for who in held.elements():
        places.release(who)
    assert places.held == 0
    assert places.allows(Requester("a", "1"))


def test_clients_and_groups_that_come_later_find_places() -> None:
    places = FairPlaces(64, 4)

    def take_all(who: Requester) -> int:
        count = 0
        while places.allows(who):
            places.take(who)
            count += 1
        return count

    assert [take_all(Requester("a", client)) for client in "123"] == [36, 9, 3]
    assert [take_all(Requester(group, "1")) for group in "bcdefghi"] == [9, 5, 2, 1, 1, 1, 1, 0]
