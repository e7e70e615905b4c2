"""The queue of misses: fair, bounded, in time."""

import asyncio

from cache.proxy.queue import DEFAULT_LIMITS, PullQueue, QueueLimits
from cache.runtime.fair_queue import Requester
from tests.cache.download.flights_rig import until

A, B = Requester("a", "1"), Requester("b", "1")


class Pause:
    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds


async def test_without_a_pause_nobody_waits() -> None:
    assert await PullQueue(Pause()).wait(A)


async def test_a_pause_that_ends_too_late_is_not_waited_for() -> None:
    queue = PullQueue(Pause(3600))
    assert not await queue.wait(A)
    assert len(queue) == 0


async def test_waiters_continue_one_by_one_in_rounds_when_the_pause_is_over() -> None:
    pause = Pause(10)
    queue, order = PullQueue(pause), list[str]()

    async def wait(name: str) -> None:
        assert await queue.wait(Requester(name[0]))
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
    tasks = [asyncio.create_task(queue.wait(A)) for _ in range(5)]
    await until(lambda: len(queue) == 5)
    pause.seconds = 600
    async with asyncio.timeout(10):
        assert await asyncio.gather(*tasks) == [False] * 5


async def test_a_group_that_fills_the_queue_takes_no_place_of_another() -> None:
    length, pause = DEFAULT_LIMITS.length, Pause(10)
    queue = PullQueue(pause)
    crowd = [asyncio.create_task(queue.wait(A)) for _ in range(length + 100)]
    await until(lambda: sum(task.done() for task in crowd) == 100)
    assert [task.done() for task in crowd] == [False] * length + [True] * 100
    other = asyncio.create_task(queue.wait(B))
    await until(lambda: crowd[length - 1].done())
    assert (crowd[length - 1].result(), other.done(), len(queue)) == (False, False, length)
    pause.seconds = 0
    async with asyncio.timeout(10):
        assert await other
        assert await crowd[0]
    for task in crowd:
        task.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)
    assert len(queue) == 0


async def test_nobody_waits_longer_than_clients_do() -> None:
    queue = PullQueue(Pause(0.09), QueueLimits(wait=0.1))
    async with asyncio.timeout(10):
        assert not await queue.wait(A)
    assert len(queue) == 0


async def test_a_waiter_that_leaves_takes_no_other_turn() -> None:
    pause = Pause(10)
    queue = PullQueue(pause)
    leaver, other = asyncio.create_task(queue.wait(A)), asyncio.create_task(queue.wait(B))
    await until(lambda: len(queue) == 2)
    leaver.cancel()
    pause.seconds = 0
    async with asyncio.timeout(10):
        assert await other
    assert leaver.cancelled() or (await asyncio.gather(leaver, return_exceptions=True))


async def waiting(queue: PullQueue, order: list[str], *waiters: tuple[Requester, int]) -> list[asyncio.Task[None]]:
    """Waiters with their keys; each notes its group and key when it continues."""

    async def wait(who: Requester, key: int) -> None:
        assert await queue.wait(who, key)
        order.append(f"{who.group}{key}")

    tasks = [asyncio.create_task(wait(*waiter)) for waiter in waiters]
    await asyncio.sleep(0)
    return tasks


async def test_those_who_wait_for_the_same_continue_with_the_first_of_them() -> None:
    pause, order = Pause(10), list[str]()
    queue = PullQueue(pause)
    tasks = await waiting(queue, order, *((A, number) for number in range(5)), (B, 4), (B, 4), (A, 4))
    assert len(queue) == 6  # of equal requesters of the same, one has a place
    pause.seconds = 0
    async with asyncio.timeout(10):
        await asyncio.gather(*tasks)
    assert order == ["a0", "a4", "b4", "b4", "a4", "a1", "a2", "a3"]
    assert (len(queue), queue._shared) == (0, {})


async def test_who_is_admitted_continues_before_the_next_is_looked_at() -> None:
    """An upstream whose pause is over is tried by one request, and pauses for the others meanwhile."""
    pause, loop = Pause(10), asyncio.get_running_loop()
    queue = PullQueue(pause, QueueLimits(check_interval=0.001))

    async def call(number: int) -> float:
        assert await queue.wait(A, number)
        held, pause.seconds = pause.seconds, 0.05
        loop.call_later(0.01, setattr, pause, "seconds", 0)
        return held

    tasks = [asyncio.create_task(call(number)) for number in range(3)]
    await until(lambda: len(queue) == 3)
    pause.seconds = 0
    async with asyncio.timeout(10):
        assert await asyncio.gather(*tasks) == [0, 0, 0]


async def test_a_requester_that_joins_moves_work_ahead_that_waits_for_another() -> None:
    pause, order = Pause(10), list[str]()
    queue = PullQueue(pause)
    tasks = await waiting(queue, order, *((A, number) for number in range(5)))
    queue.join(4, B)
    queue.join(5, B)
    assert len(queue) == 6
    pause.seconds = 0
    async with asyncio.timeout(10):
        await asyncio.gather(*tasks)
    assert order == ["a0", "a4", "a1", "a2", "a3"]
    assert (len(queue), queue._shared) == (0, {})


async def test_a_turn_of_several_outlives_the_one_that_leaves_and_the_one_that_is_refused() -> None:
    pause = Pause(10)
    queue = PullQueue(pause, QueueLimits(length=3))
    first, follower = asyncio.create_task(queue.wait(A, "same")), asyncio.create_task(queue.wait(B, "same"))
    await until(lambda: len(queue) == 2)
    other = asyncio.create_task(queue.wait(A, "other"))
    await until(lambda: len(queue) == 3)
    late = asyncio.create_task(queue.wait(A, "late"))
    async with asyncio.timeout(10):
        assert not await late
    first.cancel()
    await asyncio.wait([first])
    pause.seconds = 0
    async with asyncio.timeout(10):
        assert await asyncio.gather(follower, other) == [True, True]
    assert (len(queue), queue._shared) == (0, {})
