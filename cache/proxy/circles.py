"""CircleWatch: notices that a request of another gateway waits for what waits for that gateway.

Two gateways may be each other's upstream. A request that comes back names its gateways and is refused at once. But
where both have begun to fetch the same content for clients of their own, each request joins a fetch that was begun
without those names, and each fetch waits for the other. So a request that another gateway has sent on, and that has
waited for a while, sends one of its own ahead, which joins nothing on its way: it comes back if there is a circle.
"""

import asyncio
from collections.abc import Awaitable, Callable

from cache.oci.digest import Digest
from cache.runtime.tasks import Tasks
from cache.upstream.errors import CameBack, UpstreamError
from cache.upstream.loops import is_sent_on

CHECK_AFTER = 1.0
"""Seconds that a request waits first: most upstreams have responded by then."""

NOTHING = Digest.of(b"registry-gateway: does this request come back?")
"""A blob that nobody has: a HEAD of it is passed on to the last registry of a chain, and shared with no other."""


class CircleWatch:
    """Ends the wait of a request that another gateway has sent on, if that turns out to be part of a circle."""

    def __init__(self, check: Callable[[], Awaitable[object]], tasks: Tasks) -> None:
        """`check` sends the request that would come back; `tasks` own it, and it ends with the wait at the latest."""
        self._send = check
        self._tasks = tasks
        self._check: asyncio.Task[None] | None = None
        self.found = False

    def begin(self, wait: asyncio.Timeout) -> None:
        """Watch a wait, which ends at once if a circle is found."""
        if is_sent_on():
            self._check = self._tasks.start(self._look(wait), "circle check")

    def end(self) -> None:
        if self._check is not None:
            self._check.cancel()

    async def _look(self, wait: asyncio.Timeout) -> None:
        await asyncio.sleep(CHECK_AFTER)
        try:
            await self._send()
        except CameBack:
            self.found = True
            wait.reschedule(asyncio.get_running_loop().time())
        except UpstreamError:
            pass  # whoever waits learns of it
