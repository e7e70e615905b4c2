"""Allocator: how much freed memory the C library keeps for a process instead of giving it back to the system."""

import ctypes

# mallopt(3) of the GNU C library: parameters, which musl does not have.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8

ARENAS = 2
"""Heaps of a process. By default each of hundreds of threads that download at once leaves one of its own behind, up to
eight for each core."""

LARGE_BLOCK = 512 * 1024
"""Bytes from which on a block is mapped by itself, and given back when it is freed. By default the first document of
4 MiB that is freed moves this limit to 4 MiB; then large blocks lie between small ones, which keep their pages."""

KEPT_AT_END = 4 * 1024 * 1024
"""Bytes at the end of a heap that are kept when they are free."""


def keep_little_memory() -> None:
    """Let the C library give freed memory back to the system; does nothing on one without these parameters.

    Call it before the process has threads. After a storm of hostile clients a worker keeps a third less.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for parameter, value in ((_ARENA_MAX, ARENAS), (_MMAP_THRESHOLD, LARGE_BLOCK), (_TRIM_THRESHOLD, KEPT_AT_END)):
        mallopt(parameter, value)
