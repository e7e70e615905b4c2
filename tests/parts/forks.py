"""Processes of the tests, of which those of the server under test are forked; see tests/parts/forkserver.py.

With TESTS_FORK=off in the environment of the tests, each is a new interpreter, as where the machine's kernel is called
in a way that is not known here.
"""

import atexit
import contextlib
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO

from .forkserver import CLONE_NUMBERS

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "gateway"]
FORK_PROGRAM = "tests.parts.forkserver"
LOOK_EVERY = 0.005


class Fork:
    """A child that was forked, with what subprocess.Popen has of it: `pid`, `poll`, `wait`, `terminate`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._turn = threading.Lock()

    def poll(self) -> int | None:
        with self._turn:  # a status can be had once
            if self.returncode is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(["gateway"], timeout or 0)
            time.sleep(LOOK_EVERY)
        return status

    def terminate(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)


class ForkServer:
    """The interpreter that forks."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._control, theirs = socket.socketpair()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", FORK_PROGRAM],
                stdin=theirs.fileno(),
                cwd=ROOT,
                env=environment | {"NO_COLOR": "1"},
                start_new_session=True,
            )
        atexit.register(self.close)

    def fork(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        directory: Path,
        streams: Sequence[IO[bytes]],
        user: int | None = None,
    ) -> Fork:
        """Run `python -m gateway ARGV` with these standard streams, as another user if one is given. Raises OSError."""
        request = {
            "argv": list(argv),
            "environment": dict(environment),
            "directory": str(directory),
            "user": user,
        }
        descriptors = [stream.fileno() for stream in streams]
        with self._turn:
            socket.send_fds(self._control, [f"{json.dumps(request)}\n".encode()], descriptors)
            reply = self._control.recv(100)
        if not reply:
            raise OSError(f"the interpreter that forks has ended with status {self._process.wait(10)}")
        return Fork(int(reply))

    def close(self) -> None:
        self._control.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)


@cache
def fork_server() -> ForkServer | None:
    """The interpreter that forks for this process of the tests; None where each command is a new interpreter."""
    if os.environ.get("TESTS_FORK") == "off" or platform.machine() not in CLONE_NUMBERS:
        return None
    return ForkServer()


def start(
    argv: Sequence[str],
    environment: Mapping[str, str],
    directory: Path | None,
    streams: Sequence[IO[bytes]],
    user: int | None = None,
) -> "Fork | subprocess.Popen[bytes]":
    """Start a program in a session of its own, with these standard streams; it is forked if it is COMMAND.

    `user`: the number of the user and group that it runs as, without other groups; for tests that root runs.
    """
    if list(argv[: len(COMMAND)]) == COMMAND and (server := fork_server()) is not None:
        return server.fork(argv[len(COMMAND) :], environment, directory or Path.cwd(), streams, user)
    source, output, errors = streams
    return subprocess.Popen(
        list(argv),
        stdin=source,
        stdout=output,
        stderr=errors,
        env=environment,
        cwd=directory,
        start_new_session=True,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )


def run_gateway(
    argv: Sequence[str],
    environment: Mapping[str, str],
    directory: Path,
    standard_input: str,
    timeout: float,
    user: int | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run `python -m gateway ARGV` to its end, as `user` if given. Raises subprocess.TimeoutExpired, once killed."""
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        source.write(standard_input.encode())
        source.seek(0)
        child = start([*COMMAND, *argv], environment, directory, (source, output, errors), user)
        try:
            status = child.wait(timeout)
        except subprocess.TimeoutExpired:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
            raise
        texts = [_text_of(stream) for stream in (output, errors)]
    return subprocess.CompletedProcess([*COMMAND, *argv], status, *texts)


def _text_of(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode()
