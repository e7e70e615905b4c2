"""Exhaustion: which errors show that this process has no descriptors or memory left."""

import errno
import resource

import pytest

from cache.runtime.exhaustion import is_exhausted, no_descriptor_left


def raised_from(cause: Exception, *, explicit: bool) -> Exception:
    try:
        try:
            raise cause
        except type(cause) as error:
            if explicit:
                raise RuntimeError("on the way up") from error
            raise RuntimeError("on the way up")  # noqa: B904 (the context alone shows the cause)
    except RuntimeError as error:
        return error


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS], ids=errno.errorcode.get)
def test_a_lack_of_descriptors_or_memory_is_exhaustion(number: int) -> None:
    error = OSError(number, "it says")
    assert is_exhausted(error)
    assert is_exhausted(raised_from(error, explicit=True))
    assert is_exhausted(raised_from(error, explicit=False))


@pytest.mark.parametrize("error", [OSError(errno.ECONNREFUSED, "no"), OSError("no number"), ValueError(), None])
def test_any_other_error_is_not_exhaustion(error: Exception | None) -> None:
    assert not is_exhausted(error)


def test_a_process_at_its_limit_has_no_descriptor_left() -> None:
    assert not no_descriptor_left()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        assert no_descriptor_left()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
