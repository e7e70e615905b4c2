"""Failpoints: named places where a test may make the process die, fail or wait. Unless armed they do nothing.

FAILPOINTS="spool.synced=exit store.adopted=error:ENOSPC fill.wrote=sleep:0.2*3" arms them: `exit` ends the process as
kill -9 does, `error:NAME` raises that OSError, `sleep:SECONDS` waits; `*N` acts on the first N passes alone, `@N` on
the Nth pass alone.
"""

import errno
import os
import re
import threading
import time

_SPEC = re.compile(r"([a-z_.]+)=(exit|error|sleep)(?::([A-Z]+|[0-9.]+))?(?:([*@])([0-9]+))?")
_lock = threading.Lock()
_armed: dict[str, "_Action"] = {}


class _Action:
    def __init__(self, what: str, value: str, mode: str, number: int) -> None:
        self._what, self._value, self._mode, self._number = what, value, mode, number
        self._passes = 0

    def take(self) -> bool:
        """Whether this pass is one to act on."""
        self._passes += 1
        if self._mode == "*":
            return self._passes <= self._number
        return self._mode != "@" or self._passes == self._number

    def act(self, name: str) -> None:
        if self._what == "exit":
            os._exit(137)
        if self._what == "sleep":
            time.sleep(float(self._value))
            return
        raise OSError(getattr(errno, self._value), f"failpoint {name}")


def arm(specification: str) -> None:
    """Takes the place of what was armed before. Raises ValueError for what is no such list."""
    armed = {}
    for word in specification.split():
        match = _SPEC.fullmatch(word)
        if match is None or (match[2] == "error" and not hasattr(errno, match[3] or "")):
            raise ValueError(f"no failpoint: {word}")
        armed[match[1]] = _Action(match[2], match[3] or "0", match[4] or "", int(match[5] or 0))
    with _lock:
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
