"""Exhaustion of this process: an error that is not caused by a file or an upstream."""

import errno
import os

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)


def is_exhausted(error: BaseException | None) -> bool:
    """Whether no descriptors or no memory were left, for this error or for one that it was raised from."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _EXHAUSTED:
            return True
        error = error.__cause__ or error.__context__
    return False


def no_descriptor_left() -> bool:
    """Whether this process can open no file: a library that needed one may have reported something else."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return is_exhausted(error)
    return False
