"""The queue of misses: fair, bounded, in time."""

import asyncio

import pytest

from cache.proxy.queue import DEFAULT_LIMITS, PullQueue, QueueLimits, RoundRobin
from tests.cache.download.flights_rig import until


@pytest.mark.parametrize(
    ("added", "taken"),
    [
        ("", ""),
        ("a1 a2 a3", "a1 a2 a3"),
        ("a1 a2 a3 b1 c1 c2", "a1 b1 c1 a2 c2 a3"),
        ("b1 a1 b2 a2", "b1 a1 b2 a2"),
    ],
)
def test_groups_take_turns_and_within_one_the_first_comes_first(added: str, taken: str) -> None:
    queue: RoundRobin[str] = RoundRobin()
    for item in added.split():
        queue.add(item[0], item)
    assert [queue.take() for _ in range(len(queue))] == taken.split()
    with pytest.raises(KeyError):
        queue.take()


def test_a_later_group_does_not_wait_for_all_of_the_first() -> None:
    queue: RoundRobin[str] = RoundRobin()
    for number in range(1000):
        queue.add("many", f"many{number}")
    queue.add("one", "one")
    assert [queue.take(), queue.take()] == ["many0", "one"]


def test_items_that_were_removed_are_not_taken() -> None:
    queue: RoundRobin[str] = RoundRobin()
    for item in ("a1", "a2", "b1"):
        queue.add(item[0], item)
    queue.remove("a", "a1")
    queue.remove("b", "b1")
    queue.remove("b", "b1")
    queue.remove("c", "c1")
    assert (len(queue), queue.take(), len(queue)) == (1, "a2", 0)


class Pause:
    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds


async def test_without_a_pause_nobody_waits() -> None:
    assert await PullQueue(Pause()).wait("a")


async def test_a_pause_that_ends_too_late_is_not_waited_for() -> None:
    queue = PullQueue(Pause(3600))
    assert not await queue.wait("a")
    assert len(queue) == 0


async def test_waiters_continue_one_by_one_in_rounds_when_the_pause_is_over() -> None:
    pause = Pause(10)
    queue, order = PullQueue(pause), list[str]()

    async def wait(name: str) -> None:
        assert await queue.wait(name[0])
        order.append(name)

    tasks = []
    for name in ("a1", "a2", "a3", "b1"):
        tasks.append(asyncio.create_task(wait(name)))
        await until(lambda: len(queue) == len(tasks))
    pause.seconds = 0
    async with asyncio.timeout(10):
        await asyncio.gather(*tasks)
    assert order == ["a1", "b1", "a2", "a3"]
    assert len(queue) == 0


async def test_a_pause_that_queue_out_longer_ends_the_wait_of_all() -> None:
    pause = Pause(10)
    queue = PullQueue(pause)
    tasks = [asyncio.create_task(queue.wait("a")) for _ in range(5)]
    await until(lambda: len(queue) == 5)
    pause.seconds = 600
    async with asyncio.timeout(10):
        assert await asyncio.gather(*tasks) == [False] * 5


async def test_the_queue_is_bounded() -> None:
    length = DEFAULT_LIMITS.length
    queue = PullQueue(Pause(10))
    tasks = [asyncio.create_task(queue.wait(number)) for number in range(length)]
    await until(lambda: len(queue) == length)
    assert not await queue.wait("one more")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(queue) == 0


async def test_nobody_waits_longer_than_clients_do() -> None:
    queue = PullQueue(Pause(0.09), QueueLimits(wait=0.1))
    async with asyncio.timeout(10):
        assert not await queue.wait("a")
    assert len(queue) == 0


async def test_a_waiter_that_leaves_takes_no_other_turn() -> None:
    pause = Pause(10)
    queue = PullQueue(pause)
    leaver, other = asyncio.create_task(queue.wait("a")), asyncio.create_task(queue.wait("b"))
    await until(lambda: len(queue) == 2)
    leaver.cancel()
    pause.seconds = 0
    async with asyncio.timeout(10):
        assert await other
    assert leaver.cancelled() or (await asyncio.gather(leaver, return_exceptions=True))
