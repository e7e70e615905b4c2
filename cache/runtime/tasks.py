"""Owners of tasks: tasks belong to the running app, never to a request."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

import structlog

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
log = structlog.get_logger()


class Tasks:
    """Owner that keeps its tasks until they end; closing cancels those that run and waits for them."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def __len__(self) -> int:
        return len(self._running)

    async def close(self) -> None:
        while running := list(self._running):  # also those that were started meanwhile
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("task_failed", task=task.get_name(), exc_info=error)


class SharedTasks(Generic[K, T]):
    """One running task per key, which all callers share.

    The task returns errors as values, so that each waiter raises an exception of its own.
    """

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._running: dict[K, asyncio.Task[T]] = {}

    def runs(self, key: K) -> bool:
        """Whether a task of a key is running."""
        return key in self._running

    def join(self, key: K, work: Callable[[], Coroutine[Any, Any, T]], name: str) -> tuple[asyncio.Task[T], bool]:
        """Join the task of a key or start it; the task, and whether this call started it.

        Wait for it with asyncio.shield or asyncio.wait, so that a cancelled waiter does not cancel the others.
        """
        task = self._running.get(key)
        if task is not None:
            return task, False
        task = self._running[key] = self._tasks.start(work(), name)
        task.add_done_callback(lambda _: self._running.pop(key, None))
        return task, True
