"""Process that pushes one blob in two requests and reports each step, for tests that kill it on its way.

python -m tests.gateway.registry.pusher DATA FAILPOINTS
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from cache.oci.digest import Digest
from cache.runtime.failpoints import arm
from tests.gateway.registry.opened import open_worker

OWNER = "user:1"
CONTENT = bytes(range(256)) * 12_000
HALF = len(CONTENT) // 2


async def push(data: Path) -> None:
    async def body(start: int, stop: int) -> AsyncIterator[bytes]:
        for at in range(start, stop, 65536):
            yield CONTENT[at : min(stop, at + 65536)]

    async with open_worker(data) as worker:
        session = await worker.uploads.begin(1, OWNER)
        print(session.id, flush=True)
        print(await session.append(body(0, HALF)), flush=True)
        print(await session.append(body(HALF, len(CONTENT))), flush=True)
        await session.commit(Digest.of(CONTENT))
        print("committed", flush=True)


if __name__ == "__main__":
    arm(sys.argv[2])
    asyncio.run(push(Path(sys.argv[1])))
