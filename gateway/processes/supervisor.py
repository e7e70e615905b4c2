"""Makes everything ready that is shared, binds the address, and has workers serve it until it is told to stop.

It does nothing else itself: the process from which workers are forked has no event loop, no threads and no open
database, so that a dead worker is replaced in milliseconds by one that has everything imported already.
"""

import gc
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from cache.download.spool_sweep import sweep_spools
from cache.index.sql import MIGRATIONS
from cache.runtime.failpoints import arm
from cache.runtime.locks import open_lock_file, try_lock
from cache.sqlite import DatabaseUnusable, migrate
from gateway import data_folder
from gateway.data_folder import CacheFolder
from gateway.namespaces.group import HUB
from gateway.observability import logs
from gateway.observability.metrics import Metrics, forget, share
from gateway.processes.listeners import CannotListen, bound, urls_of
from gateway.processes.shared_counters import count_folder
from gateway.processes.worker import Post, tls_files, work
from gateway.processes.worker_pool import Begin, Crew, NoWorkerReady
from gateway.server.tls import TlsUnusable, tls_context
from gateway.settings.load import Settings
from gateway.wiring.from_settings import open_proxy_allowed

log = structlog.get_logger()

LOCK_WAIT_SECONDS = 1.0
"""Workers whose parent was killed hold the folder for a moment longer."""


class CannotServe(Exception):
    """The server cannot start; the text says why, and what a person can do about it."""


def serve(settings: Settings) -> int:
    """Serves until SIGINT or SIGTERM; the exit code. The data folder must have been made."""
    logs.configure(settings.log_format)
    arm(os.environ.get("FAILPOINTS", ""))
    try:
        with _alone(settings.data), bound(settings) as listening:
            if files := tls_files(settings):
                tls_context(files)  # before anything is said of serving
            _prepare(settings.data)
            urls = urls_of(settings, listening)
            _warn(settings, urls)
            _serve_by_workers(settings, listening, urls)
    except (CannotServe, CannotListen, DatabaseUnusable, TlsUnusable, NoWorkerReady) as error:
        print(f"registry-gateway: {error}", file=sys.stderr)
        return 1
    data_folder.write_ballast(settings.data)
    return 0


def _prepare(data: Path) -> None:
    """What must happen once, and before any worker lives. Raises CannotServe, DatabaseUnusable."""
    folder = CacheFolder(data)
    try:
        folder.make()
        sweep_spools(folder.spools)
    except OSError as error:
        raise CannotServe(
            f"data folder {data.absolute()} cannot be used ({error.strerror}): look at its owner and its disk"
        ) from error
    migrate(folder.index, MIGRATIONS)
    data_folder.write_ballast(data)


def _serve_by_workers(settings: Settings, listening: Sequence[socket.socket], urls: Sequence[str]) -> None:
    count, parent = settings.workers or cores(), os.getpid()
    with count_folder() as counts, _announced(settings, urls) as announcement:

        def begin(new: Begin) -> int:
            return work(Post(settings, listening, urls, new.place, parent, new.report, counts))

        def died(place: int) -> None:
            if counts:
                forget(counts, str(place))

        def stopping() -> None:
            for listener in listening:
                listener.close()

        if counts:
            share(counts, "parent")
        crew = Crew(
            count,
            begin,
            changed=announcement.write,
            ready=announcement.say,
            replaced=Metrics().count_restart,
            died=died,
            stopping=stopping,
        )
        _end_threads()
        gc.collect()
        gc.freeze()  # the collector would copy every page that the workers share with us
        crew.run()


def _end_threads() -> None:
    """A fork copies no thread but its own, and whatever lock another held stays locked for ever."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(5)
    if threading.active_count() > 1:
        raise RuntimeError(f"threads run before the fork: {threading.enumerate()}")


def cores() -> int:
    """How many processes can run at once: those that this one may use, or fewer by the quota of its control group."""
    allowed = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        allowed = min(allowed, max(1, -(-int(quota) // int(period))))
    return allowed


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """Raises CannotServe while another server uses the folder."""
    try:
        lock = open_lock_file(data / "server.lock")
    except OSError as error:
        raise CannotServe(f"data folder {data.absolute()} cannot be written ({error.strerror})") from error
    try:
        deadline = time.monotonic() + LOCK_WAIT_SECONDS
        while not try_lock(lock):
            if time.monotonic() > deadline:
                raise CannotServe(
                    f"another server uses the data folder {data.absolute()}: stop it, or give --data another folder"
                )
            time.sleep(0.02)
        yield
    finally:
        os.close(lock)


@contextmanager
def _announced(settings: Settings, urls: Sequence[str]) -> Iterator["_Announcement"]:
    announcement = _Announcement(settings, urls)
    announcement.write([])
    try:
        yield announcement
    finally:
        announcement.take_back()


class _Announcement:
    """Tells other commands by a file who serves, and the person at the terminal what to try."""

    def __init__(self, settings: Settings, urls: Sequence[str]) -> None:
        self._settings = settings
        self._urls = list(urls)
        self._file = settings.data / "run.json"

    def write(self, workers: Sequence[int]) -> None:
        part = self._file.with_name("run.json.part")
        try:
            document = {"pid": os.getpid(), "addresses": self._urls, "workers": list(workers)}
            part.write_text(json.dumps(document) + "\n")
            part.replace(self._file)
        except OSError as error:  # such as a full disk: what it said before is worse than nothing
            log.warning("run_file_not_written", path=str(self._file), reason=error.strerror)
            self.take_back()

    def say(self) -> None:
        url, *others = self._urls
        image = f"{url.partition('://')[2]}/{HUB}/dependency_proxy/containers/alpine:latest"
        plain = " --tls-verify=false" if url.startswith("http://") else ""
        print(f"registry-gateway serves {url}, data in {self._settings.data.absolute()}")
        for listener, address in zip(self._settings.listener, others, strict=True):
            print(f"and {address}, where every name is an image of {listener.upstream}")
        print(f"try:  docker pull {image}")
        print(f"or:   skopeo inspect{plain} docker://{image}", flush=True)

    def take_back(self) -> None:
        for file in (self._file, self._file.with_name("run.json.part")):
            with suppress(OSError):
                file.unlink(missing_ok=True)


def _warn(settings: Settings, urls: Sequence[str]) -> None:
    if not open_proxy_allowed(settings, urls):
        log.warning(
            "open_proxy_off",
            reason="groups with anonymous pull are refused because this server is reached beyond its own machine",
            remedy="set allow_open_proxy = true if everybody who reaches it may pull",
        )
    for name, upstream in settings.upstreams.items():
        if upstream.username and upstream.groups:
            log.warning(
                "credential_lent",
                upstream=name,
                groups=list(upstream.groups),
                reason="whoever may pull through these groups reads what this account may read",
            )
