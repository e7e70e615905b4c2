"""One worker: a process that the supervisor has forked. It serves until it is stopped, or its parent has died."""

import asyncio
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from cache.runtime.failpoints import failpoint
from cache.sqlite import DatabaseUnusable
from gateway.maintenance.repeated_pulls import PullMemory
from gateway.observability import logs
from gateway.observability.log_lines import LineFile
from gateway.observability.logs import AccessLines
from gateway.observability.metrics import Metrics
from gateway.observability.server_state import ServerState
from gateway.observability.shared_counts import CountPlace
from gateway.processes.allocator import keep_little_memory
from gateway.processes.garbage import search_at_intervals, search_rarely
from gateway.server.http_server import ListeningApp, Server
from gateway.server.tls import TlsFiles, TlsUnusable
from gateway.settings.tables import Settings
from gateway.wiring.app import running

log = structlog.get_logger()

GRACE_SECONDS = 60.0
STOP = signal.SIGTERM
HURRY = signal.SIGRTMIN
"""A signal that only the parent sends. SIGTERM may arrive twice, from the parent and from a signal to the process
group, and a person or a program for log files may send those that have names."""

RETIRE = signal.SIGRTMIN + 1
"""A signal that only the parent sends: accept no more connections, and take as long as those that are open need."""

IGNORED = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that end a process by default, and that are sent to servers for other purposes. The first process of a server
acts on SIGHUP, once it has workers."""

READY = b"ready\n"
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSetup:
    """All that a worker needs to serve; the supervisor makes it from its own settings and the pool's WorkerSlotStart.

    `listening` and `urls` are of the main address, then of the listeners. `place`: where the worker counts,
    which the replacement of a dead worker takes over. `pull_memory`: what all workers know of recent pulls. `parent`:
    the supervisor's pid. The worker writes READY, or a line that states why it cannot serve, to the descriptor
    `report`.
    """

    settings: Settings
    listening: Sequence[socket.socket]
    urls: Sequence[str]
    place: CountPlace
    pull_memory: PullMemory
    parent: int
    report: int


def work(setup: WorkerSetup) -> int:
    """Serve as a worker; returns the exit status."""
    _die_with(setup.parent)
    keep_little_memory()
    lines = logs.configure_worker(setup.settings.log_format, os.getpid())
    try:
        failpoint("worker.began")
        asyncio.run(_run(setup, lines))
    except (DatabaseUnusable, TlsUnusable) as error:
        os.write(setup.report, " ".join(str(error).split()).encode() + b"\n")
        return 1
    except Exception:  # the last seam of a process
        log.exception("worker_failed")
        return 1
    finally:
        lines.close()
    return 0


async def _run(setup: WorkerSetup, log_lines: LineFile) -> None:
    stop, hurry, retire = asyncio.Event(), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hurry_up() -> None:
        stop.set()
        hurry.set()

    loop.add_signal_handler(STOP, stop.set)
    loop.add_signal_handler(HURRY, hurry_up)
    loop.add_signal_handler(RETIRE, retire.set)
    metrics, server_state = Metrics(setup.place), ServerState()
    lines = AccessLines(setup.settings.log_format, log_lines)
    metrics.count_worker()
    try:
        async with running(
            setup.settings,
            setup.urls,
            log_access=lines.write,
            metrics=metrics,
            server_state=server_state,
            check_upstreams=setup.settings.check_upstreams,
            pull_memory=setup.pull_memory,
        ) as (
            main,
            *others,
        ):
            further = [ListeningApp(*pair) for pair in zip(setup.listening[1:], others, strict=True)]
            server = Server(main, tls=tls_files(setup.settings), server_state=server_state)
            search_rarely()
            searching = asyncio.ensure_future(search_at_intervals())
            os.write(setup.report, READY)
            try:
                await server.serve(setup.listening[0], stop, GRACE_SECONDS, hurry, further, retire)
            finally:
                searching.cancel()
    finally:
        lines.close()


def tls_files(settings: Settings) -> TlsFiles | None:
    return TlsFiles(settings.tls_cert, settings.tls_key) if settings.tls_cert and settings.tls_key else None


def _die_with(parent: int) -> None:
    """Have the kernel end this process when its parent ends, even if either hangs: prctl(2)."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:  # the parent has died before the call
        sys.exit(1)
