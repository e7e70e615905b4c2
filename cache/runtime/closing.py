"""Closing files on the event loop, which waits where the kernel frees one: a second for each GiB."""

import os
from concurrent.futures import ThreadPoolExecutor

LARGE = 16 * 1024 * 1024
"""Bytes of a file that is freed elsewhere; waking a thread takes as long as freeing a few MiB."""

_closer = ThreadPoolExecutor(1, "close")


def close_soon(descriptor: int) -> None:
    """Close a descriptor: in a thread where the file is large and has no name left, for this may free it; else now."""
    status = os.fstat(descriptor)
    if status.st_nlink or status.st_size < LARGE:
        os.close(descriptor)
    else:
        _closer.submit(os.close, descriptor)
