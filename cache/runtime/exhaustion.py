"""Whether this process ran out of what the system gives it: that says nothing of a file, nor of an upstream."""

import errno

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)


def is_exhausted(error: BaseException | None) -> bool:
    """No descriptors or memory were left, for this or for what it was raised from."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _EXHAUSTED:
            return True
        error = error.__cause__ or error.__context__
    return False
