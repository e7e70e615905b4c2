"""Tasks and SharedTasks: owners of running work."""

import asyncio

import pytest
from structlog.testing import capture_logs

from cache.runtime.tasks import SharedTasks, Tasks


async def forever() -> None:
    await asyncio.Event().wait()


async def test_a_task_is_kept_until_it_ends() -> None:
    tasks, go = Tasks(), asyncio.Event()

    async def work() -> int:
        await go.wait()
        return 7

    task = tasks.start(work(), "work")
    assert len(tasks) == 1
    go.set()
    assert await task == 7
    await asyncio.sleep(0)
    assert len(tasks) == 0


async def test_closing_cancels_and_waits_for_running_tasks() -> None:
    tasks, cleaned = Tasks(), []

    async def work() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    task = tasks.start(work(), "work")
    await asyncio.sleep(0)
    await tasks.close()
    assert task.cancelled()
    assert cleaned == [True]
    assert len(tasks) == 0


async def test_closing_ends_tasks_that_were_started_meanwhile() -> None:
    tasks = Tasks()
    started: list[asyncio.Task[None]] = []

    async def work() -> None:
        try:
            await forever()
        finally:
            started.append(tasks.start(forever(), "late"))

    tasks.start(work(), "work")
    await asyncio.sleep(0)
    await tasks.close()
    assert started[0].cancelled()
    assert len(tasks) == 0


async def test_closing_with_nothing_running_returns() -> None:
    await Tasks().close()


async def test_a_failure_that_nobody_waits_for_is_logged() -> None:
    tasks = Tasks()

    async def work() -> None:
        raise ZeroDivisionError

    with capture_logs() as logs:
        await asyncio.wait([tasks.start(work(), "the work")])
        await asyncio.sleep(0)
    assert [(entry["event"], entry["task"]) for entry in logs] == [("task_failed", "the work")]


async def test_a_cancelled_task_is_no_failure() -> None:
    tasks = Tasks()
    with capture_logs() as logs:
        tasks.start(forever(), "work")
        await asyncio.sleep(0)
        await tasks.close()
    assert logs == []


async def test_callers_of_one_key_share_one_task() -> None:
    shared: SharedTasks[str, int] = SharedTasks(Tasks())
    begun, go = 0, asyncio.Event()

    async def work() -> int:
        nonlocal begun
        begun += 1
        await go.wait()
        return 7

    one, first = shared.join("key", work, "work")
    two, second = shared.join("key", work, "work")
    other, third = shared.join("another key", work, "work")
    assert (first, second, third) == (True, False, True)
    assert one is two
    assert other is not one
    go.set()
    assert list(await asyncio.gather(one, other)) == [7, 7]
    assert begun == 2


async def test_a_task_that_has_ended_is_started_again() -> None:
    shared: SharedTasks[str, int] = SharedTasks(Tasks())
    results = iter([1, 2])

    async def work() -> int:
        return next(results)

    task, _ = shared.join("key", work, "work")
    assert await task == 1
    task, first = shared.join("key", work, "work")
    assert first
    assert await task == 2


async def test_a_waiter_that_leaves_does_not_stop_the_others() -> None:
    shared: SharedTasks[str, int] = SharedTasks(Tasks())
    go = asyncio.Event()

    async def work() -> int:
        await go.wait()
        return 7

    async def wait() -> int:
        return await asyncio.shield(shared.join("key", work, "work")[0])

    leaver, stayer = asyncio.ensure_future(wait()), asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    go.set()
    assert await stayer == 7
