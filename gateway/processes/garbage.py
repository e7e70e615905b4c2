"""Garbage: when a worker looks through all of its objects for cycles that nobody uses, which holds up everything else.

A search of all objects takes 200 ms where documents of 4 MiB are under way, in which no other request continues. By
default one begins whenever a quarter more objects have lived for a while: five times in eight seconds of a flood.
"""

import asyncio
import gc

YOUNG, MIDDLE, OLD = 10_000, 20, 1_000
"""Thresholds of gc.set_threshold: young objects are looked through once there are so many, those that outlived this
after so many times, and all after so many times of the latter: in effect only at intervals."""

INTERVAL = 60.0
"""Seconds between two searches of all objects: in 99 of 100 seconds nobody waits for one."""


def search_rarely() -> None:
    """Let the collector look through all objects only when `search_at_intervals` does, and spare what is there now."""
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)


async def search_at_intervals(seconds: float = INTERVAL) -> None:
    """Look through all objects again and again, until cancelled."""
    while True:
        await asyncio.sleep(seconds)
        gc.collect()
