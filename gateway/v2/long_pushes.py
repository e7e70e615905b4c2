"""Pushes that take their time: whoever loses the right to push while a body arrives loses what the body is for."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable

DECIDED_EVERY = 60.0
"""Seconds of a body after which its right is decided about once more."""


async def while_allowed(
    body: AsyncIterator[bytes | memoryview], decide_again: Callable[[], Awaitable[None]]
) -> AsyncIterator[bytes | memoryview]:
    """The pieces of a body, as long as the push is allowed. `decide_again` raises where it is not any more.

    A memoryview is valid until the next piece is requested.
    """
    decided_at = time.monotonic()
    async for piece in body:
        if time.monotonic() - decided_at >= DECIDED_EVERY:
            await decide_again()
            decided_at = time.monotonic()
        yield piece
