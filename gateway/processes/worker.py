"""One worker: a process that the supervisor has forked. It serves until it is told to stop, or its parent is gone."""

import asyncio
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from cache.runtime.failpoints import failpoint
from cache.sqlite import DatabaseUnusable
from gateway.observability import logs
from gateway.observability.logs import AccessLines
from gateway.observability.metrics import Metrics, share
from gateway.observability.server_state import ServerState
from gateway.server.connections import ListeningApp, Server
from gateway.server.tls import TlsFiles, TlsUnusable
from gateway.settings.load import Settings
from gateway.wiring.app import running

log = structlog.get_logger()

GRACE_SECONDS = 60.0
STOP = signal.SIGTERM
HURRY = signal.SIGUSR1
"""What the parent sends, and nobody else does: SIGTERM may come twice, from it and from who ends a whole group."""

READY = b"ready\n"
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


@dataclass(frozen=True, slots=True)
class Post:
    """What a worker is given. `place` is its number, which the next one at this post inherits; READY, or a line that
    says why there is no serving, is written into the descriptor `report`. `counts`: where all workers count.
    `listening` and `urls`: of the main address, then of the listeners."""

    settings: Settings
    listening: Sequence[socket.socket]
    urls: Sequence[str]
    place: int
    parent: int
    report: int
    counts: Path | None


def work(post: Post) -> int:
    """The exit status."""
    _end_with(post.parent)
    logs.configure(post.settings.log_format, worker=os.getpid())
    if post.counts:
        share(post.counts, str(post.place))
    try:
        failpoint("worker.began")
        asyncio.run(_run(post))
    except (DatabaseUnusable, TlsUnusable) as error:
        os.write(post.report, " ".join(str(error).split()).encode() + b"\n")
        return 1
    except Exception:  # the last seam of a process
        log.exception("worker_failed")
        return 1
    return 0


async def _run(post: Post) -> None:
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hurry_up() -> None:
        stop.set()
        hurry.set()

    loop.add_signal_handler(STOP, stop.set)
    loop.add_signal_handler(HURRY, hurry_up)
    metrics, state, lines = Metrics(), ServerState(), AccessLines(post.settings.log_format)
    metrics.count_worker()
    try:
        async with running(post.settings, post.urls, log_access=lines.write, metrics=metrics, state=state) as (
            main,
            *others,
        ):
            further = [ListeningApp(*pair) for pair in zip(post.listening[1:], others, strict=True)]
            server = Server(main, tls=tls_files(post.settings), state=state)
            os.write(post.report, READY)
            await server.serve(post.listening[0], stop, GRACE_SECONDS, hurry, further)
    finally:
        lines.close()


def tls_files(settings: Settings) -> TlsFiles | None:
    return TlsFiles(settings.tls_cert, settings.tls_key) if settings.tls_cert and settings.tls_key else None


def _end_with(parent: int) -> None:
    """The kernel ends this process when its parent ends, however stuck either of them is: prctl(2)."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:  # it was faster
        sys.exit(1)
