"""Names become addresses in threads of their own, since the system's resolver can neither be stopped nor hurried."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from socket import gaierror

Resolver = Callable[[str, int], list[str]]

LIMIT = 8
"""Lookups of one upstream at a time; its redirects may lead to names that hang."""


class Lookups:
    """Those of one upstream. All who want the same name wait for one lookup, each for as long as it likes."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._running: dict[tuple[str, int], Future[list[str] | Exception]] = {}
        self._lock = threading.Lock()

    def start(self, host: str, port: int) -> "Future[list[str] | Exception]":
        """The addresses to come, or what went wrong as a value. Never cancel it: it may be others' too."""
        with self._lock:
            running = self._running.get((host, port))
            if running is not None:
                return running
            future: Future[list[str] | Exception] = Future()
            if len(self._running) >= LIMIT:
                future.set_result(gaierror("too many names are being resolved already"))
                return future
            self._running[host, port] = future
        try:
            threading.Thread(target=self._look_up, args=(host, port, future), name="resolve", daemon=True).start()
        except RuntimeError as error:  # no more threads
            self._end(host, port, future, error)
        return future

    def _look_up(self, host: str, port: int, future: "Future[list[str] | Exception]") -> None:
        result: list[str] | Exception
        try:
            result = self._resolver(host, port)
        except Exception as error:  # a thread's last resort: whoever waits must hear of it
            result = error
        self._end(host, port, future, result)

    def _end(
        self, host: str, port: int, future: "Future[list[str] | Exception]", result: list[str] | Exception
    ) -> None:
        with self._lock:
            del self._running[host, port]
        with suppress(RuntimeError):  # the loop of somebody who waited has been closed
            future.set_result(result)
