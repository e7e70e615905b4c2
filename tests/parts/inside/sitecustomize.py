"""Loaded by the interpreter of a server under test: on a signal, the process writes how many asyncio tasks it has.

Nothing outside a process can count its tasks. The signal is one that no program uses, and until it comes nothing runs.
"""

import os
import signal
import sys
from types import FrameType

COUNT_TASKS = signal.SIGRTMIN + 7
FOLDER = "TASK_COUNTS"
"""Variable of the environment with the folder that takes the counts, one file for each process."""


def write_count(number: int, frame: FrameType | None) -> None:
    asyncio = sys.modules.get("asyncio")
    count = 0
    if asyncio is not None:
        try:
            count = len(asyncio.all_tasks(asyncio.get_running_loop()))
        except RuntimeError:  # no loop runs
            count = 0
    path = os.path.join(os.environ[FOLDER], str(os.getpid()))
    with open(path + ".part", "w") as file:
        file.write(str(count))
    os.rename(path + ".part", path)


if FOLDER in os.environ:
    signal.signal(COUNT_TASKS, write_count)
