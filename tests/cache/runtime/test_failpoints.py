"""Failpoints act where and as often as they are armed to, and not at all otherwise."""

import errno
import os
from collections.abc import Iterator

import pytest

from cache.runtime.failpoints import arm, failpoint


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")


def fails(name: str) -> bool:
    try:
        failpoint(name)
    except OSError as error:
        assert error.errno == errno.ENOSPC
        return True
    return False


def test_a_point_that_is_not_armed_does_nothing() -> None:
    arm("other=error:ENOSPC")
    assert not fails("point")


@pytest.mark.parametrize(
    ("specification", "passes"),
    [
        ("point=error:ENOSPC", [True, True, True]),
        ("point=error:ENOSPC*2", [True, True, False]),
        ("point=error:ENOSPC@2", [False, True, False]),
    ],
)
def test_it_acts_on_the_passes_that_are_named(specification: str, passes: list[bool]) -> None:
    arm(specification)
    assert [fails("point") for _ in passes] == passes


@pytest.mark.usefixtures("processes")
def test_passes_are_counted_over_the_processes_that_are_forked() -> None:
    arm("point=exit*1")
    endings = []
    for _ in range(2):
        pid = os.fork()
        if not pid:
            failpoint("point")
            os._exit(0)
        endings.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    assert endings == [137, 0]


@pytest.mark.parametrize("specification", ["point", "point=explode", "point=error:NOSUCH", "POINT=exit", "point=error"])
def test_an_invalid_specification_is_refused(specification: str) -> None:
    with pytest.raises(ValueError, match="no failpoint"):
        arm(specification)
