"""Interpreter that has imported the server under test once, and forks a process for each command line.

`python -m gateway` spends more time on its imports than on most of what a test asks of it, and the tests start it more
than a thousand times. A fork of an interpreter that has them does the same from there on. It becomes a child of whoever
started this program, as if that had started it: clone(2), CLONE_PARENT.

Before the first fork it makes each kind of database once, by the migrations. New databases of its forks are made by the
script that this has recorded, see tests/parts/migrated.py; with TESTS_FORK=off each is made by the migrations.

The program is run with a Unix socket as its standard input. A request is one line of JSON with `argv`, `environment`,
`directory` and `user`, whose number the process gets where it is not null, and three descriptors for the standard
streams; the reply is the process id on a line.
"""

import ctypes
import gc
import json
import os
import platform
import runpy
import signal
import socket
import sys
import tempfile
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import cast

from cache import sqlite
from cache.index import sql
from gateway.db import revisions

from .migrated import RecordedMigrations

CLONE_PARENT = 0x8000
CLONE_NUMBERS = {"x86_64": 56, "aarch64": 220}
"""Numbers of the system call; all its arguments but the first are zero, so their order, which differs, is nothing."""

REQUEST_BYTES = 1 << 20
PRELOADED = (
    "gateway.cli.main",
    "gateway.processes.worker",
    "gateway.wiring.app",
    "alembic.command",
    "alembic.config",
    "encodings.idna",
)


def fork_for_parent() -> int:
    """Fork as os.fork does, but the new process is a child of this one's parent. Raises OSError."""
    python = ctypes.pythonapi
    library = ctypes.PyDLL(None, use_errno=True)  # keeps the lock of the interpreter, as a fork must
    python.PyOS_BeforeFork()
    pid = int(library.syscall(CLONE_NUMBERS[platform.machine()], CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0))
    error = ctypes.get_errno()
    if pid == 0:
        python.PyOS_AfterFork_Child()
        return 0
    python.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(error, os.strerror(error))
    return pid


def become(argv: list[str], environment: dict[str, str], directory: str, user: int | None, streams: list[int]) -> None:
    """Make this process what a new interpreter would be that was started so, and run `python -m gateway` in it."""
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    for written in (sys.stdout, sys.stderr):
        cast(TextIOWrapper, written).reconfigure(write_through=environment.get("PYTHONUNBUFFERED") == "1")
    sys.argv = ["gateway", *argv]
    if "TASK_COUNTS" in environment:
        import tests.parts.inside.sitecustomize  # noqa: F401 - a new interpreter loads it by itself
    runpy.run_module("gateway", run_name="__main__", alter_sys=True)


def record_migrations() -> None:
    """Make each kind of database by the migrations, and let further ones be made by what that has recorded."""
    sqlite.run_migrations = RecordedMigrations().upgrade
    with tempfile.TemporaryDirectory(prefix="gateway-tests-") as folder:
        for location in (revisions.MIGRATIONS, sql.MIGRATIONS):
            sqlite.migrate(Path(folder) / f"{location.partition(':')[0]}.db", location)


def prepare() -> None:
    """Do once what each process would do for itself otherwise."""
    for name in PRELOADED:
        __import__(name)
    import_module("gateway.cli.lazy").import_all()
    record_migrations()
    gc.collect()
    gc.freeze()  # no fork walks through the objects that are here for good, or copies their pages


def main() -> None:
    prepare()
    with socket.socket(fileno=0) as control:
        while True:
            content, streams, _, _ = socket.recv_fds(control, REQUEST_BYTES, 3)
            while content and not content.endswith(b"\n"):
                content += control.recv(REQUEST_BYTES)
            if not content:
                return
            pid = fork_for_parent()
            if pid == 0:
                break
            for stream in streams:
                os.close(stream)
            control.sendall(b"%d\n" % pid)
    request = json.loads(content)
    become(request["argv"], request["environment"], request["directory"], request["user"], streams)


if __name__ == "__main__":
    main()
