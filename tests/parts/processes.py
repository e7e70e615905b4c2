"""Subprocesses that a test owns: it starts them, waits for them, and ends them with all their children."""

import atexit
import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from .forks import Fork, start
from .ports import HOST

LOG_TAIL = 4_000

LONGEST_START, LONGEST_WAIT = 90.0, 30.0
"""Seconds after which a test gives up. They only bound a failure, and are long so that a busy machine causes none."""

_running: "weakref.WeakSet[Process]" = weakref.WeakSet()


class PartFailed(Exception):
    """A part did not do what every test relies on; the message holds the end of its log."""


def binary(name: str, package: str) -> str:
    """Path of a program, or an error that names the Debian package to install."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        raise PartFailed(f"{name} is not installed; tests need it: apt-get install {package}")
    return found


def plain_environment(**extra: str) -> dict[str, str]:
    """Environment without variables that would redirect a part: proxies, foreign CA files, settings of the server under
    test."""
    foreign = ("GATEWAY_", "AWS_", "SSL_CERT_", "DOCKER_", "CONTAINERS_", "REGISTRY_", "XDG_")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(foreign) and not name.lower().endswith("_proxy")
    }
    return kept | extra


def answers_tcp(port: int) -> Callable[[], bool]:
    """Makes a check whether the port accepts connections."""

    def ready() -> bool:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            return False
        return True

    return ready


def answers_http(url: str, status: int = 200) -> Callable[[], bool]:
    """Makes a check whether GET of a plain http URL returns the status."""
    address = urlsplit(url)

    def ready() -> bool:
        connection = http.client.HTTPConnection(address.hostname or HOST, address.port, timeout=2)
        try:
            connection.request("GET", address.path or "/")
            return connection.getresponse().status == status
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return ready


def wait_until(condition: Callable[[], bool], within: float = LONGEST_WAIT, what: str = "") -> None:
    """Returns when the condition holds; raises TimeoutError after `within` seconds."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what or f"condition did not hold within {within} s")
        time.sleep(0.02)


class Process:
    """A program in a separate process group, with its output in a log file.

    `stop` ends it by SIGTERM, then SIGKILL, together with the rest of its group; `start` may be called again.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self.argv = [str(word) for word in argv]
        self.log = log
        self.environment = dict(plain_environment() if environment is None else environment)
        self._directory = directory
        self._child: subprocess.Popen[bytes] | Fork | None = None

    @property
    def pid(self) -> int:
        if self._child is None:
            raise PartFailed(f"{self.argv[0]} is not running")
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def start(self, ready: Callable[[], bool], within: float = LONGEST_START) -> None:
        """Starts it and waits until `ready()`; raises PartFailed with the log's end if it dies or takes longer."""
        if self.running:
            raise PartFailed(f"{self.argv[0]} runs already")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log, open(os.devnull, "rb") as nothing:
            self._child = start(self.argv, self.environment, self._directory, (nothing, log, log))
        _running.add(self)
        deadline = time.monotonic() + within
        while not ready():
            status = self._child.poll()
            if status is None and time.monotonic() < deadline:
                time.sleep(0.02)
                continue
            self.stop(patience=0)
            reason = f"was not ready within {within} s" if status is None else f"ended with status {status}"
            raise PartFailed(f"{' '.join(self.argv)}\n{reason}; its log ends:\n{self.log_text()[-LOG_TAIL:]}")

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the program alone, not to its children."""
        os.kill(self.pid, number)

    def wait(self, within: float = LONGEST_START) -> int:
        """Waits for the program to end by itself; returns its exit status (negative: a signal)."""
        if self._child is None:
            raise PartFailed(f"{self.argv[0]} is not running")
        return self._child.wait(within)

    def stop(self, patience: float = 10) -> int | None:
        """Ends the program and its group; returns the exit status, or None if it never ran."""
        child = self._child
        if child is None:
            return None
        if child.poll() is None and patience > 0:
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(patience)
        kill_group(child.pid)
        status = child.wait()
        self._child = None
        _running.discard(self)
        return status

    def kill(self) -> None:
        """Kills the whole group with SIGKILL, as if the machine lost power for these processes."""
        self.stop(patience=0)

    def children(self) -> list[int]:
        """Process ids of the program's direct children."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/children")
        return [int(pid) for task in tasks for pid in task.read_text().split()]

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def kill_group(leader: int) -> None:
    """Kills every process of a group, and returns when none of them runs any more."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
    wait_until(lambda: not group_members(leader), what=f"processes of group {leader} outlive SIGKILL")


def group_members(leader: int) -> list[int]:
    """Running processes of a group; zombies, which only wait for their parent, are left out."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, group = stat.read_text(errors="replace").rpartition(")")[2].split()[:3]  # proc(5)
            if int(group) == leader and state not in "ZX":
                members.append(int(stat.parent.name))
    return members


@atexit.register
def _stop_all() -> None:
    for process in list(_running):
        process.stop(patience=2)
