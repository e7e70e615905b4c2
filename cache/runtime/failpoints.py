"""Failpoints: named places where a test may make the process die, fail or wait. Unless armed they do nothing.

FAILPOINTS="spool.synced=exit spool.adopted=error:ENOSPC spool.write=sleep:0.2*3" arms three: `exit` ends the process as
kill -9 does, `error:NAME` raises that OSError, `sleep:SECONDS` waits; `*N` acts on the first N passes alone, `@N` on
the Nth pass alone. Passes are counted over all processes that were forked from the one that armed them: the worker that
replaces one that died at `*1` passes.
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
    """One armed failpoint: its action, and the passes on which it acts."""

    def __init__(self, kind: str, value: str, mode: str, number: int) -> None:
        self._kind, self._value = kind, value
        self._idle = _Tokens(number - 1 if mode == "@" else 0)
        self._acting = _Tokens({"*": number, "@": 1}.get(mode))

    def take(self) -> bool:
        """Whether to act on this pass, which is counted."""
        return not self._idle.take() and self._acting.take()

    def close(self) -> None:
        self._idle.close()
        self._acting.close()

    def act(self, name: str) -> None:
        if self._kind == "exit":
            os._exit(137)
        if self._kind == "sleep":
            time.sleep(float(self._value))
            return
        raise OSError(getattr(errno, self._value), f"failpoint {name}")


class _Tokens:
    """Counter of tokens that this process and those forked from it take; None: no end of them."""

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
    """Arm failpoints instead of those that were armed before. Raises ValueError for an invalid specification."""
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
    """Act, if armed. A sleep blocks the thread: use it in the event loop only to test a stalled loop."""
    if not _armed:
        return
    with _lock:
        action = _armed.get(name)
        acting = action is not None and action.take()
    if action is not None and acting:
        action.act(name)
