"""The supervisor: prepares what workers share, binds the addresses, and keeps workers serving until it is stopped.

It does nothing else itself: the process from which workers are forked has no event loop, no threads and no open
database, so that a dead worker is replaced in milliseconds by one that has everything imported already.
"""

import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from cache.download.spool_sweep import sweep_spools
from cache.index.sql import MIGRATIONS
from cache.runtime.failpoints import arm
from cache.runtime.files import delete_drafts
from cache.sqlite import DatabaseUnusable, migrate
from gateway import data_folder
from gateway.data_folder import CacheFolder
from gateway.keys.sealing import KEYS_DIRECTORY
from gateway.keys.shared_secret import delete_shared_secrets
from gateway.maintenance.repeated_pulls import PullMemory
from gateway.maintenance.restore import drop_draft
from gateway.observability import logs
from gateway.observability.metrics import Metrics
from gateway.observability.shared_counts import CountMemory, CountPlace
from gateway.processes.errors import CannotStart, NoWorkerReady
from gateway.processes.generation import GenerationPlan, WorkerSlotStart
from gateway.processes.listeners import bound, urls_of
from gateway.processes.service_manager import READY, STOPPING, tell_service_manager
from gateway.processes.worker import GRACE_SECONDS, IGNORED, WorkerSetup, tls_files, work
from gateway.processes.worker_pool import GENERATIONS, WorkerPool
from gateway.server.tls import TlsUnusable, tls_context
from gateway.settings.files import unusable_files
from gateway.settings.load import SettingsError
from gateway.settings.reload import reload
from gateway.settings.tables import Settings
from gateway.upstreams import OpenAccount
from gateway.wiring.from_settings import worker_count
from gateway.wiring.reach import open_proxy_allowed

log = structlog.get_logger()

LOCK_WAIT_SECONDS = 1.0
"""Workers whose parent was killed hold the folder for a moment longer."""


@dataclass(frozen=True, slots=True)
class StartWarning:
    """Log line of a start about what it found, with what a person can do."""

    event: str
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Findings:
    """What is to be warned of: accounts by which everybody may pull, and the rest."""

    accounts: Sequence[OpenAccount] = ()
    warnings: Sequence[StartWarning] = ()


@dataclass(frozen=True, slots=True)
class Rereading:
    """How a reload reads: `settings` raises SettingsError; `findings` finds what to warn of with settings, and leaves
    no thread and no open database behind."""

    settings: Callable[[], Settings]
    findings: Callable[[Settings], Findings]


def serve(
    settings: Settings,
    found: Findings,
    ready: Callable[[Sequence[str]], None],
    rereading: Rereading,
    config: Path | None = None,
) -> None:
    """Serve until SIGTERM, SIGINT or SIGQUIT. The data folder must exist. Raises CannotStart.

    On SIGHUP the settings are read again, and workers with these take the place of the others.

    `found`: what this start warns of. `ready` is called once, when the first worker serves, with the URLs of the main
    address and of the listeners. `config`: the settings file, for other commands.
    """
    ignore_signals()
    logs.configure_supervisor(settings.log_format)
    arm(os.environ.get("FAILPOINTS", ""))
    try:
        with _locked(settings.data), bound(settings) as listening:
            _check_tls(settings)  # raises before anything is printed
            _prepare(settings.data)
            urls = urls_of(settings, listening)
            _warn_of_folder(settings)
            _warn_of_closed_proxy(settings, urls)
            _warn(settings, found)
            workers = _Workers(settings, listening, config, rereading)
            with _announced(settings.data, workers.announce):
                workers.run(partial(ready, urls))
        log.info("stopped")
    except (DatabaseUnusable, TlsUnusable, NoWorkerReady) as error:
        raise CannotStart(str(error)) from error
    data_folder.write_ballast(settings.data)


def ignore_signals() -> None:
    """Ignore the signals that end a process by default, and that are sent to servers for other purposes.

    Call it before the settings are read: SIGHUP waits until there are workers, and then has them read again.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    for number in IGNORED:
        if number != signal.SIGHUP:
            signal.signal(number, signal.SIG_IGN)


def _check_tls(settings: Settings) -> None:
    """Raises TlsUnusable where the settings name a certificate that cannot be served."""
    if files := tls_files(settings):
        tls_context(files)


def _check_new_files(before: Settings, after: Settings) -> None:
    """Raises SettingsError where settings name a file that cannot be read, and it was not that way before."""
    known = {(file.setting, file.path) for file in unusable_files(before)}
    new = [file for file in unusable_files(after) if (file.setting, file.path) not in known]
    if new:
        raise SettingsError("\n".join(f"{file.setting} = {file.path}: {file.reason}" for file in new))


def _prepare(data: Path) -> None:
    """Prepare the data folder, once and before any worker lives. Raises CannotStart, DatabaseUnusable."""
    folder = CacheFolder(data)
    try:
        folder.make()
        for place in (data, data / KEYS_DIRECTORY):
            delete_drafts(place)
        delete_shared_secrets(data / KEYS_DIRECTORY)
        sweep_spools(folder.spools)
        drop_draft(data)
    except OSError as error:
        reason = f"data folder {data.absolute()} cannot be used ({error.strerror})"
        raise CannotStart(reason, remedy="look at its owner and its disk") from error
    before = migrate(folder.index, MIGRATIONS)
    if before is not None:
        log.warning(
            "cache_index_upgraded",
            reason=f"the revision of {folder.index.absolute()} was {before}, which an older version may refuse",
            remedy="to go back to an older version, delete the file: what is cached is then fetched again",
        )
    data_folder.write_ballast(data)


class _Workers:
    """What the workers of a server share, and the settings of those that start next."""

    def __init__(
        self,
        settings: Settings,
        listening: Sequence[socket.socket],
        config: Path | None,
        rereading: Rereading,
    ) -> None:
        self._settings = settings
        self._listening = listening
        self._config = config
        self._rereading = rereading
        self._urls = urls_of(settings, listening)
        self._count = worker_count(settings)
        self._own_place = GENERATIONS * self._count
        self._counts = CountMemory(self._own_place + 1)
        self._pull_memory = PullMemory()
        self._parent = os.getpid()

    def run(self, ready: Callable[[], None]) -> None:
        """Keep workers serving until the server is stopped. Raises NoWorkerReady."""

        def serving() -> None:
            ready()
            log.info("started", urls=self._urls, workers=self._count, pid=self._parent)
            tell_service_manager(READY)

        pool = WorkerPool(
            self._count,
            GenerationPlan(partial(self._work, self._settings, self._urls), serving, _end_start),
            changed=self.announce,
            replaced=Metrics(CountPlace(self._counts, self._own_place)).count_restart,
            died=lambda place: self._counts.region(place).forget_levels(),
            reload=self._reload,
            stopping=self._close_listeners,
        )
        _end_threads()
        gc.collect()
        gc.freeze()  # the collector would copy every page that the workers share with us
        pool.run()

    def announce(self, workers: Sequence[int]) -> None:
        """Announce the server to other commands."""
        data = self._settings.data
        try:
            data_folder.announce_server(data, self._urls, workers, self._config)
        except OSError as error:  # such as a full disk: the content before is worse than none
            log.warning("run_file_not_written", path=str(data_folder.run_file(data)), reason=error.strerror)
            data_folder.withdraw_server(data)

    def _work(self, settings: Settings, urls: Sequence[str], new: WorkerSlotStart) -> int:
        return work(
            WorkerSetup(
                settings=settings,
                listening=self._listening,
                urls=urls,
                place=CountPlace(self._counts, new.place),
                pull_memory=self._pull_memory,
                parent=self._parent,
                report=new.report,
            )
        )

    def _reload(self) -> GenerationPlan | None:
        """Read the settings again; None where they cannot be used, which changes nothing."""
        try:
            reloaded = reload(self._settings, self._rereading.settings())
            _check_tls(reloaded.settings)
            _check_new_files(self._settings, reloaded.settings)
        except (SettingsError, TlsUnusable, OSError) as error:
            reason = "; ".join(str(error).splitlines())
            log.error("reload_refused", reason=reason, remedy="correct it and reload again; all is as it was")
            return None
        if reloaded.waiting:
            log.warning(
                "restart_needed", settings=", ".join(reloaded.waiting), reason="they take effect when a server starts"
            )
        settings, urls = reloaded.settings, urls_of(reloaded.settings, self._listening)
        found = self._rereading.findings(settings)
        _end_threads()

        def serving() -> None:
            logs.configure_supervisor(settings.log_format)
            if open_proxy_allowed(self._settings, self._urls):
                _warn_of_closed_proxy(settings, urls)
            _warn(settings, found)
            self._settings, self._urls = settings, urls
            log.info("reloaded", changed=", ".join(reloaded.effective))

        def failed(reason: str) -> None:
            log.error("reload_failed", reason=reason, remedy="correct it and reload again; the old workers serve on")

        return GenerationPlan(partial(self._work, settings, urls), serving, failed)

    def _close_listeners(self) -> None:
        log.info("stopping", grace=f"{GRACE_SECONDS:.0f} s")
        tell_service_manager(STOPPING)
        for listener in self._listening:
            listener.close()


def _end_start(reason: str) -> None:
    raise NoWorkerReady(reason)


def _end_threads() -> None:
    """Wait until this thread is the only one: a fork copies no other, and a lock that another holds stays locked."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(5)
    if threading.active_count() > 1:
        raise RuntimeError(f"threads run before the fork: {threading.enumerate()}")


@contextmanager
def _locked(data: Path) -> Iterator[None]:
    """Hold the lock of the data folder. Raises CannotStart while another server holds it."""
    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    with ExitStack() as held:
        while not _lock(data, held):
            if time.monotonic() > deadline:
                reason = f"another server uses the data folder {data.absolute()}"
                raise CannotStart(reason, remedy="stop it", settings=("data",))
            time.sleep(0.02)
        yield


def _lock(data: Path, held: ExitStack) -> bool:
    """Whether the lock of the data folder was free; `held` then holds it. Raises CannotStart."""
    with ExitStack() as tried:
        try:
            free = tried.enter_context(data_folder.server_lock(data))
        except OSError as error:
            raise CannotStart(f"data folder {data.absolute()} cannot be written ({error.strerror})") from error
        if free:
            held.push(tried.pop_all())
    return free


@contextmanager
def _announced(data: Path, announce: Callable[[Sequence[int]], None]) -> Iterator[None]:
    """Announce this server, without workers at first, until the end of the block."""
    announce([])
    try:
        yield
    finally:
        data_folder.withdraw_server(data)


def _warn_of_folder(settings: Settings) -> None:
    if mode := data_folder.exposed_mode(settings.data):
        log.warning(
            "data_folder_exposed",
            path=str(settings.data.absolute()),
            mode=mode,
            reason="other users of this machine may enter it",
            remedy=f"run chmod -R go= {settings.data.absolute()}",
        )


def _warn(settings: Settings, found: Findings) -> None:
    """Warn of what a start or a reload has found, and of files that cannot be read."""
    for account in found.accounts:
        log.warning(
            "account_open_to_all",
            group=account.group,
            upstream=account.upstream,
            setting=account.setting,
            reason=account.reason,
            remedy="turn off anonymous_pull of the group, or take the account from it",
        )
    for warning in found.warnings:
        log.warning(warning.event, reason=warning.reason, remedy=warning.remedy)
    for file in unusable_files(settings):
        log.warning(
            "file_of_setting_not_readable",
            setting=file.setting,
            path=str(file.path),
            reason=file.reason,
            remedy="write the file, let the user of the server read it, or correct the setting",
        )


def _warn_of_closed_proxy(settings: Settings, urls: Sequence[str]) -> None:
    if not open_proxy_allowed(settings, urls):
        log.warning(
            "open_proxy_off",
            reason="groups with anonymous pull are refused because this server is reached beyond its own machine",
            remedy="set allow_open_proxy = true if everybody who reaches it may pull",
        )
