"""Hold in a stream of bytes: a test sees that it was reached, checks something, and releases it."""

import asyncio
import contextlib
import threading


class Hold:
    """Stops a body after `after` bytes until `release`. Waiting works from threads and from any event loop."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.reached = threading.Event()
        self._released = threading.Event()
        self._lock = threading.Lock()
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    @property
    def released(self) -> bool:
        return self._released.is_set()

    def release(self) -> None:
        """Releases the bytes, now and for every later request."""
        with self._lock:
            self._released.set()
            waiters, self._waiters = self._waiters, []
        for loop, event in waiters:
            with contextlib.suppress(RuntimeError):  # that loop has ended, and its waiter with it
                loop.call_soon_threadsafe(event.set)

    def wait(self, within: float = 120) -> None:
        """Announces arrival and waits: for a server in a thread."""
        self.reached.set()
        self._released.wait(within)

    async def wait_async(self) -> None:
        """Announces arrival and waits: for a server in an event loop."""
        event = asyncio.Event()
        with self._lock:
            if not self._released.is_set():
                self._waiters.append((asyncio.get_running_loop(), event))
            else:
                event.set()
        self.reached.set()
        await event.wait()
