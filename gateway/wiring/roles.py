"""Roles: work that one process of a host does for all of them, for as long as it accepts connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cache.retention.role_thread import RoleThread


@asynccontextmanager
async def at_work(thread: RoleThread, closed: asyncio.Event) -> AsyncIterator[None]:
    """Let a thread do its work within the block, or until `closed`: its role is then free for another process.

    A process that only completes responses may live for hours, with settings that others no longer have.
    """
    leaving = asyncio.ensure_future(_close_after(closed, thread))
    thread.start()
    try:
        yield
    finally:
        if closed.is_set():
            await leaving  # two threads that leave one role would close its descriptor twice
        else:
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
            await asyncio.to_thread(thread.close)


async def _close_after(closed: asyncio.Event, thread: RoleThread) -> None:
    await closed.wait()
    await asyncio.to_thread(thread.close)
