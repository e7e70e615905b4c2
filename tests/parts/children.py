"""Children of the process of the tests."""

import os
from collections.abc import Callable


def in_child(work: Callable[[], None]) -> None:
    """Run something in a forked process, which must end well."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
