"""Roles: a thread works until its process accepts no more connections, and leaves its role once."""

import asyncio
import time
from pathlib import Path

import pytest

from cache.retention.role_thread import RoleThread
from cache.runtime.locks import ProcessRole
from gateway.wiring.roles import at_work
from tests.parts.processes import wait_until


class Worker(RoleThread):
    """Does nothing, and counts how often it was closed; each time takes a moment."""

    closed = 0

    def step(self) -> float:
        return 60.0

    def close(self) -> None:
        self.closed += 1
        time.sleep(0.1)
        super().close()


@pytest.mark.parametrize("closes", ["never", "at the end", "before"])
async def test_a_role_is_left_once_whenever_a_process_accepts_no_more(tmp_path: Path, closes: str) -> None:
    """Two threads that leave it at once would close its descriptor, and then a file of somebody else."""
    closed, role = asyncio.Event(), ProcessRole(tmp_path / "work.lock")
    worker = Worker("work", role, 60.0)
    async with at_work(worker, closed):
        await asyncio.to_thread(wait_until, role.take)
        if closes != "never":
            closed.set()
            await asyncio.sleep(0.05 if closes == "at the end" else 1.0)
    assert worker.closed == 1
    other = ProcessRole(tmp_path / "work.lock")
    assert other.take()
    other.leave()
