"""What is taken for the end of this process's own means."""

import errno

import pytest

from cache.runtime.exhaustion import is_exhausted


def raised_from(cause: Exception, *, said: bool) -> Exception:
    try:
        try:
            raise cause
        except type(cause) as error:
            if said:
                raise RuntimeError("on the way up") from error
            raise RuntimeError("on the way up")  # noqa: B904 (the context alone tells)
    except RuntimeError as error:
        return error


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS], ids=errno.errorcode.get)
def test_no_descriptors_or_memory_are_an_end_of_means(number: int) -> None:
    error = OSError(number, "it says")
    assert is_exhausted(error)
    assert is_exhausted(raised_from(error, said=True))
    assert is_exhausted(raised_from(error, said=False))


@pytest.mark.parametrize("error", [OSError(errno.ECONNREFUSED, "no"), OSError("no number"), ValueError(), None])
def test_whatever_else_failed_is_none(error: Exception | None) -> None:
    assert not is_exhausted(error)
