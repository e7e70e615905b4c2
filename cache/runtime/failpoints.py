"""Failpoints: named places where a test may make the process die, fail or wait. Unless armed they do nothing.

FAILPOINTS="spool.synced=exit store.adopted=error:ENOSPC fill.wrote=sleep:0.2*3" arms them: `exit` ends the process as
kill -9 does, `error:NAME` raises that OSError, `sleep:SECONDS` waits; `*N` acts on the first N passes alone, `@N` on
the Nth pass alone. Passes are counted over all processes that were forked from the one that armed: a worker that takes
the place of one that died at `*1` passes.
"""

import errno
import os
import re
import threading
import time
from contextlib import suppress

_SPEC = re.compile(r"([a-z_.]+)=(exit|error|sleep)(?::([A-Z]+|[0-9.]+))?(?:([*@])([0-9]+))?")
_lock = threading.Lock()
_armed: dict[str, "_Action"] = {}


class _Action:
    def __init__(self, what: str, value: str, mode: str, number: int) -> None:
        self._what, self._value = what, value
        self._idle = _Tokens(number - 1 if mode == "@" else 0)
        self._acting = _Tokens({"*": number, "@": 1}.get(mode))

    def take(self) -> bool:
        """Whether this pass is one to act on."""
        return not self._idle.take() and self._acting.take()

    def close(self) -> None:
        self._idle.close()
        self._acting.close()

    def act(self, name: str) -> None:
        if self._what == "exit":
            os._exit(137)
        if self._what == "sleep":
            time.sleep(float(self._value))
            return
        raise OSError(getattr(errno, self._value), f"failpoint {name}")


class _Tokens:
    """So many that may be taken, by this process and those forked from it; None: no end of them."""

    def __init__(self, count: int | None) -> None:
        self._descriptor = None if count is None else os.eventfd(count, os.EFD_SEMAPHORE | os.EFD_NONBLOCK)

    def take(self) -> bool:
        if self._descriptor is None:
            return True
        with suppress(BlockingIOError):
            os.eventfd_read(self._descriptor)
            return True
        return False

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


def arm(specification: str) -> None:
    """Takes the place of what was armed before. Raises ValueError for what is no such list."""
    armed = {}
    for word in specification.split():
        match = _SPEC.fullmatch(word)
        if match is None or (match[2] == "error" and not hasattr(errno, match[3] or "")):
            raise ValueError(f"no failpoint: {word}")
        armed[match[1]] = _Action(match[2], match[3] or "0", match[4] or "", int(match[5] or 0))
    with _lock:
        for action in _armed.values():
            action.close()
        _armed.clear()
        _armed.update(armed)


def failpoint(name: str) -> None:
    """Blocks where it is told to sleep: for threads, and for the loop only where its stalling is what is tested."""
    if not _armed:
        return
    with _lock:
        action = _armed.get(name)
        acting = action is not None and action.take()
    if action is not None and acting:
        action.act(name)
